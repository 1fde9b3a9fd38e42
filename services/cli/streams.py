"""Where commands write results: standard output, files, devices. A failure is one line that names the destination.

Output is buffered here, and written completely: with PYTHONUNBUFFERED set, as in our image, Python's own standard output drops
whatever a single system call does not accept.
"""

from __future__ import annotations

import codecs
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter, FileIO, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from libs.common.errors import BlobtideError
from libs.common.security.visible import visible

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Destination(RawIOBase):
    """Passes bytes on to `raw`, which stays open; errors name the destination, except `expected` ones, which are re-raised."""

    def __init__(self, name: str, raw: RawIOBase, expected: tuple[type[OSError], ...] = ()) -> None:
        self._name = name
        self._raw = raw
        self._expected = expected

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int | None:
        try:
            return self._raw.write(data)
        except self._expected:
            raise
        except OSError as error:
            raise _failed(self._name, error) from error


class _Terminal(RawIOBase):
    """Passes text on to a terminal, with control characters escaped."""

    def __init__(self, raw: RawIOBase) -> None:
        self._raw = raw
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        text = self._decoder.decode(bytes(data))
        rest = memoryview(visible(text).encode())
        while rest:
            rest = rest[self._raw.write(rest) or 0 :]
        return memoryview(data).nbytes


@contextmanager
def standard_output() -> Iterator[BinaryIO]:
    """Provide standard output as a byte stream. On a terminal, control characters are escaped in a way JSON also understands.

    Raises:
        BrokenPipeError: the reader closed the pipe.
        BlobtideError: it cannot be written.
    """
    raw = cast("RawIOBase", getattr(cast("object", sys.stdout.buffer), "raw", sys.stdout.buffer))
    place: RawIOBase = _Destination("standard output", raw, (BrokenPipeError,))
    with BufferedWriter(_Terminal(place) if raw.isatty() else place) as stream:
        yield stream


@contextmanager
def result_file(path: Path) -> Iterator[BinaryIO]:
    """Provide a file that appears as `path` if the block succeeds, and is removed if it does not.

    Symbolic links are followed. Anything other than a regular file, such as a named pipe, is written in place.

    Raises:
        BlobtideError: it cannot be written.
    """
    try:
        in_place = path.exists() and not path.is_file()
        target = path if in_place else Path(os.path.realpath(path))
        # Two runs may write to the same path.
        part = path if in_place else target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        raw = FileIO(part, "wb")
    except OSError as error:
        raise _failed(str(path), error) from error
    try:
        with raw, BufferedWriter(_Destination(str(path), raw)) as stream:
            yield stream
        if not in_place:
            _rename(part, target)
    finally:
        if not in_place:
            part.unlink(missing_ok=True)


def _rename(part: Path, target: Path) -> None:
    try:
        part.replace(target)
    except OSError as error:
        raise _failed(str(target), error) from error


def _failed(place: str, error: OSError) -> BlobtideError:
    return BlobtideError(f"{place}: cannot write: {error.strerror or error}")
