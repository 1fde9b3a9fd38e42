"""The text of a local file, piece by piece, unpacked if it is gzip. What breaks off costs only what is behind it.

gzip is read as gzip(1) does: members may follow each other, and zero bytes behind a member are padding. Where the text stops
too early, or something else follows, a value at the end says so; all text before it has been handed out.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedReader, FileIO, RawIOBase
from typing import Final, cast

from libs.common.errors import BlobtideError

STANDARD_INPUT: Final = "-"
MAX_TRAILING_BYTES: Final = 1_048_576
"""More bytes behind a member are named, not kept."""

_MAGIC: Final = b"\x1f\x8b"
_WINDOW: Final = 31  # 32 KB, with the header and the checksum of gzip
_STEP_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class CutText:
    """The text ends here, perhaps in the middle of a record: the file is truncated or damaged, or reading fails."""

    reason: str


@dataclass(frozen=True, slots=True)
class TrailingBytes:
    """The text is whole; `data` stands behind it and is no gzip (empty if it is more than `MAX_TRAILING_BYTES`)."""

    reason: str
    data: bytes


Broken = CutText | TrailingBytes
Pieces = Iterator[bytes | Broken]


@contextmanager
def opened(name: str) -> Iterator[BufferedReader]:
    """Open a file, or standard input for ``-``.

    Raises:
        BlobtideError: if it cannot be read.
    """
    with ExitStack() as stack:
        try:
            raw = cast("RawIOBase", sys.stdin.buffer) if name == STANDARD_INPUT else stack.enter_context(FileIO(name))
            file: BufferedReader = BufferedReader(raw)
            file.peek(1)
        except OSError as error:
            raise BlobtideError(f"{name}: {error.strerror or error}") from error
        yield file


def text_pieces(stream: BufferedReader, most: int) -> Pieces:
    """Yield the text of `stream` in pieces of at most `most` bytes, and at the end why it broke off, if it did."""
    try:
        if stream.peek(len(_MAGIC)).startswith(_MAGIC):
            yield from _members(_Packed(stream), most)
        else:
            # Not read(), which loses what it has when the next system call fails.
            while piece := stream.read1(most):
                yield piece
    except OSError as error:
        yield CutText(f"reading fails: {error.strerror or error}")


class _Packed:
    """The packed bytes of a file: `ahead` comes next and stands at offset `at`."""

    def __init__(self, stream: BufferedReader) -> None:
        self._stream = stream
        self.ahead = b""
        self.at = 0

    def fill(self, least: int = 1) -> bytes:
        """Return what comes next, at least so many bytes if there are as many."""
        while len(self.ahead) < least and (more := self._stream.read1(_STEP_BYTES)):
            self.ahead += more
        return self.ahead

    def leave(self, rest: bytes) -> None:
        """Go on so far that `rest`, the end of `ahead`, comes next."""
        self.at += len(self.ahead) - len(rest)
        self.ahead = rest


def _members(packed: _Packed, most: int) -> Pieces:
    while ahead := packed.fill(len(_MAGIC)):
        if not ahead.startswith(_MAGIC[: len(ahead)]):
            yield _trailing(packed)
            return
        cut = yield from _member(packed, most)
        if cut:
            yield cut
            return
        while packed.fill().startswith(b"\0"):
            packed.leave(packed.ahead.lstrip(b"\0"))


def _member(packed: _Packed, most: int) -> Generator[bytes, None, CutText | None]:
    """Yield the text of one member; return why it is not whole, if it is not."""
    member = zlib.decompressobj(_WINDOW)
    while True:
        data = packed.fill()
        before = member.copy()
        try:
            text = member.decompress(data, most)
        except zlib.error as error:
            # What was unpacked in this step is lost with the error: unpack it again up to the byte that does not fit.
            good = 0
            while good < len(data) and (part := _next_byte(before, data[good])) is not None:
                yield part
                good += 1
            return CutText(f"gzip data damaged at byte {packed.at + good}: {str(error).rpartition(': ')[2]}")
        if text:
            yield text
        if member.eof:
            packed.leave(member.unused_data)
            return None
        packed.leave(member.unconsumed_tail)
        if not text and not data:
            return CutText(f"gzip data truncated after byte {packed.at}")


def _next_byte(member: zlib._Decompress, byte: int) -> bytes | None:
    try:
        return member.decompress(bytes([byte]))
    except zlib.error:
        return None


def _trailing(packed: _Packed) -> TrailingBytes:
    data = packed.fill(MAX_TRAILING_BYTES + 1)
    few = len(data) <= MAX_TRAILING_BYTES
    amount = f"{len(data)} bytes" if few else f"more than {MAX_TRAILING_BYTES} bytes"
    return TrailingBytes(f"{amount} from byte {packed.at} on, behind a whole gzip member, are no gzip", data if few else b"")
