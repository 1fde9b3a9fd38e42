"""Complete files into zips of one member each, so that at every moment the snapshots are in one of the two.

1. The zip is made beside the file, and synced.
2. It is read again from the start: its member must have the length and the CRC-32 of the file.
3. The file is removed.
4. The zip is renamed to its final name, unless there is a file that was not there when the name was chosen.

All of this is repeated after a crash. A file that exists is zipped anew. If it does not exist, the zip beside it is complete
and gets its name. If that does not exist either, it has had its name already, even if a reader has taken it away since.
"""

from __future__ import annotations

import errno
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Final

from libs.common.process.crash import crash_point
from services.sinks.kinds.archive.names import member_of, zip_time_of
from services.sinks.local_state.shard_store import sync_directory

_LEVEL: Final = 4
_CHUNK: Final = 1_048_576  # large enough for zlib to leave the other threads alone
_MODE: Final = 0o644 << 16  # of the extracted file
_UNREADABLE: Final = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError)
"""What `zipfile` raises for bytes that are no zip, or one that needs a password or a feature that it lacks."""


@dataclass(frozen=True, slots=True)
class _Content:
    """What identifies the bytes of a file: how many, and their CRC-32."""

    length: int
    checksum: int


def zip_files(files: Sequence[tuple[Path, Path]], threads: int) -> None:
    """Put each of `files` into a zip; each is given with the final path of its zip, and all are in one directory.

    Raises:
        OSError: if a zip cannot be written, or does not hold what the file holds. All files are then where they can be found by
            the next call.
    """
    with ThreadPoolExecutor(min(threads, len(files)), "zip") as pool:
        for _ in pool.map(_zipped, *zip(*files, strict=True)):
            pass  # the first failure is raised


def _zipped(file: Path, final: Path) -> None:
    beside = file.with_name(f"{file.name}.zip")
    if file.exists():
        content = _compress(file, beside, member_of(final.name))
        sync_directory(file.parent)
        crash_point("sink.zip-synced")
        _check(beside, content)
        crash_point("sink.zip-checked")
        file.unlink()
        crash_point("sink.part-removed")
    if beside.exists():
        _rename(beside, final)
    crash_point("sink.zip-renamed")


def _rename(zipped: Path, final: Path) -> None:
    """Give a zip its name, which was free when it was recorded; since then, somebody may have put another file there."""
    if final.exists():
        raise FileExistsError(errno.EEXIST, f"{final} is not ours, and would be replaced: move it away", str(final))
    zipped.rename(final)


def _compress(file: Path, target: Path, member: str) -> _Content:
    info = zipfile.ZipInfo(member, zip_time_of(member))
    info.compress_type, info.external_attr, info.file_size = zipfile.ZIP_DEFLATED, _MODE, file.stat().st_size
    setattr(info, "_compresslevel", _LEVEL)  # noqa: B010 - it has a public name only since Python 3.13
    with target.open("wb") as out:
        with zipfile.ZipFile(out, "w") as archive, file.open("rb") as source, archive.open(info, "w") as into:
            content = _content(source, into)
        out.flush()
        os.fsync(out.fileno())
    return content


def _check(path: Path, content: _Content) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            (member,) = archive.infolist()
            with archive.open(member) as source:
                found = _content(source)
    except _UNREADABLE as error:
        raise OSError(errno.EIO, f"the zip that was written cannot be read: {error}", str(path)) from error
    if found != content:
        raise OSError(errno.EIO, "the zip that was written does not hold the file", str(path))


def _content(source: IO[bytes], into: IO[bytes] | None = None) -> _Content:
    """Read `source` to its end, and write it to `into`."""
    length = checksum = 0
    for chunk in iter(partial(source.read, _CHUNK), b""):
        length, checksum = length + len(chunk), zlib.crc32(chunk, checksum)
        if into is not None:
            into.write(chunk)
    return _Content(length, checksum)
