"""A durable spool: rows appended as checksummed Arrow frames to one file, until a complete file is made from them.

The spool does not know how much of it counts: its owner keeps the committed length and gives it to every call. What lies
beyond that length is the leftover of a crash and is overwritten.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from libs.common.errors import CodecError
from libs.common.process.crash import crash_point
from libs.common.security.private_files import FILE_MODE

_FRAME = struct.Struct("<QI")  # length and CRC-32 of the Arrow stream that follows


class Spool:
    """One spool file, open for the life of this object."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)

    def append(self, rows: pa.Table, end: int) -> int:
        """Write `rows` at `end`, wait until they are on the disk, and return the new end. Raises OSError."""
        body = _encoded(rows)
        header = _FRAME.pack(len(body), zlib.crc32(body))
        new_end = _write_all(self._file, body, _write_all(self._file, memoryview(header), end))
        crash_point("sink.spool-written")
        os.fdatasync(self._file)
        crash_point("sink.spool-synced")
        return new_end

    def frames(self, end: int) -> Iterator[pa.Table]:
        """Read the frames before `end`, one at a time.

        Raises:
            CodecError: if a frame is not what was written.
        """
        at = 0
        while at < end:
            length, checksum = _FRAME.unpack(self._read(at, _FRAME.size))
            at += _FRAME.size
            if at + length > end:
                raise self._damaged(at)
            body = self._read(at, length)
            if zlib.crc32(body) != checksum:
                raise self._damaged(at)
            with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
                yield reader.read_all()
            at += length

    def cut(self, end: int) -> None:
        """Throw away what lies beyond `end`.

        Raises:
            CodecError: if the file is shorter than that: committed rows are missing.
        """
        size = os.fstat(self._file).st_size
        if size < end:
            raise self._damaged(size)
        if size > end:
            os.ftruncate(self._file, end)

    def close(self) -> None:
        """Close the file; what was appended stays."""
        os.close(self._file)

    def _read(self, at: int, length: int) -> bytes:
        data = os.pread(self._file, length, at)
        if len(data) != length:
            raise self._damaged(at)
        return data

    def _damaged(self, at: int) -> CodecError:
        return CodecError(
            f"{self._path} is damaged at byte {at}: rows of it that are in no file yet are lost here;"
            " move the directory away and read their blobs again"
        )


def _encoded(rows: pa.Table) -> memoryview:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, rows.schema) as writer:
        writer.write_table(rows)
    return memoryview(out.getvalue())


def _write_all(file: int, data: memoryview, at: int) -> int:
    while data:
        written = os.pwrite(file, data, at)
        data, at = data[written:], at + written
    return at
