"""A durable spool: rows are appended to one file as checksummed Arrow frames, until a complete file is made from them.

The spool does not know how much of it is committed: its owner keeps the committed length and passes it to every call. Anything
beyond that length is left over from a crash and will be overwritten.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from libs.common.errors import CodecError
from libs.common.process.crash import crash_point
from libs.common.security.private_files import FILE_MODE

_FRAME = struct.Struct("<QI")  # length and CRC-32 of the Arrow stream that follows


@dataclass(frozen=True, slots=True)
class _FramePlace:
    """The location of a frame's body."""

    at: int
    length: int
    checksum: int


@dataclass(frozen=True, slots=True)
class SpooledFrames:
    """The frames of a spool, in order. Each access reads from the disk."""

    _read: Callable[[_FramePlace], pa.Table]
    _places: tuple[_FramePlace, ...]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._places)

    def __getitem__(self, number: int) -> pa.Table:
        """Read one. Raises OSError, and CodecError if it is damaged."""
        return self._read(self._places[number])

    def __iter__(self) -> Iterator[pa.Table]:
        """Read all, one at a time."""
        return map(self._read, self._places)


class Spool:
    """A spool file, open during the lifetime of this object."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)

    def append(self, frames: Iterable[pa.Table], end: int) -> int:
        """Write `frames` at `end`, wait until they are on disk, and return the new end. Raises OSError."""
        for frame in frames:
            body = _encoded(frame)
            header = _FRAME.pack(len(body), zlib.crc32(body))
            end = _write_all(self._file, body, _write_all(self._file, memoryview(header), end))
        crash_point("sink.spool-written")
        os.fdatasync(self._file)
        crash_point("sink.spool-synced")
        return end

    def frames(self, end: int) -> SpooledFrames:
        """Find the frames before `end`.

        Raises:
            CodecError: if they are damaged.
        """
        places: list[_FramePlace] = []
        at = 0
        while at < end:
            length, checksum = _FRAME.unpack(self._read(at, _FRAME.size))
            at += _FRAME.size
            if at + length > end:
                raise self._damaged(at)
            places.append(_FramePlace(at, length, checksum))
            at += length
        return SpooledFrames(self._frame, tuple(places))

    def cut(self, end: int) -> None:
        """Discard everything beyond `end`.

        Raises:
            CodecError: if the file is shorter, which means that committed rows are missing.
        """
        size = os.fstat(self._file).st_size
        if size < end:
            raise self._damaged(size)
        if size > end:
            os.ftruncate(self._file, end)

    def close(self) -> None:
        """Close the file and keep its content."""
        os.close(self._file)

    def _frame(self, place: _FramePlace) -> pa.Table:
        body = self._read(place.at, place.length)
        if zlib.crc32(body) != place.checksum:
            raise self._damaged(place.at)
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            return reader.read_all()

    def _read(self, at: int, length: int) -> bytes:
        data = os.pread(self._file, length, at)
        if len(data) != length:
            raise self._damaged(at)
        return data

    def _damaged(self, at: int) -> CodecError:
        return CodecError(
            f"{self._path} is damaged at byte {at}: its rows that are not in a file yet are lost;"
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
