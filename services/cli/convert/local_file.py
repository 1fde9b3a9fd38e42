"""The text of a local file as UTF-8, chunk by chunk, decompressed if it is gzip. Damage costs only what follows it.

gzip is read as gzip(1) does: members may follow each other, and zero bytes after a member are padding. If the text ends too
early, or something else follows it, a final value says so; all text before it has been yielded. UTF-16 is transcoded to UTF-8.
A file with a compression ratio far above that of logs is given up, so that a small file cannot keep the machine busy for hours.
"""

from __future__ import annotations

import codecs
import sys
import zlib
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedReader, FileIO, RawIOBase
from itertools import chain
from typing import Final, cast

from libs.common.errors import BlobtideError
from libs.common.framing.encoding import utf16_of

STANDARD_INPUT: Final = "-"
MAX_TRAILING_BYTES: Final = 1_048_576
"""Trailing bytes after a member are kept up to this size; beyond it they are only reported."""

MAX_RATIO: Final = 300
"""Maximum compression ratio; logs reach 10 to 50, gzip at most 1,032."""
MIN_JUDGED_BYTES: Final = 67_108_864
"""Decompressed bytes that are always allowed."""

_MAGIC: Final = b"\x1f\x8b"
_FOREIGN: Final = {
    _MAGIC: ("gzip inside gzip", "gzip -dc FILE"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -dc FILE"),
    b"\xfd7zXZ\0": ("xz", "xz -dc FILE"),
    b"BZh": ("bzip2", "bzip2 -dc FILE"),
    b"PK\x03\x04": ("a zip archive", "unzip -p FILE"),
}
_LONGEST_SIGN: Final = 64
_BOMB: Final = (
    f"gzip data expands to more than {MAX_RATIO} times its size, which no log does, so the rest is not read; "
    "to read it anyway: gzip -dc FILE | blobtide convert -"
)
_WINDOW: Final = 31  # 32 KB, with the header and the checksum of gzip
_STEP_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class CutText:
    """The text ends here, possibly in the middle of a record: the file is truncated or damaged, or reading failed."""

    reason: str


@dataclass(frozen=True, slots=True)
class TrailingBytes:
    """The text is complete, but followed by `data` that is not gzip (empty if larger than `MAX_TRAILING_BYTES`)."""

    reason: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Foreign:
    """The file is not text."""

    reason: str


Broken = CutText | TrailingBytes | Foreign
Chunks = Iterator[bytes | Broken]


@contextmanager
def opened(name: str) -> Iterator[BufferedReader]:
    """Open a file, or standard input for ``-``.

    Raises:
        BlobtideError: it cannot be read.
    """
    with ExitStack() as stack:
        try:
            raw = cast("RawIOBase", sys.stdin.buffer) if name == STANDARD_INPUT else stack.enter_context(FileIO(name))
            file: BufferedReader = BufferedReader(raw)
            file.peek(1)
        except OSError as error:
            raise BlobtideError(f"{name}: {error.strerror or error}") from error
        yield file


def text_chunks(stream: BufferedReader, most: int) -> Chunks:
    """Yield the text of `stream` in chunks of at most `most` bytes and, if it breaks off, finally the reason."""
    yield from _as_utf8(_unpacked(stream, most))


def _unpacked(stream: BufferedReader, most: int) -> Chunks:
    try:
        if stream.peek(len(_MAGIC)).startswith(_MAGIC):
            yield from _members(_Packed(stream), most)
        else:
            # Not read(), which loses data already read when the next system call fails.
            while chunk := stream.read1(most):
                yield chunk
    except OSError as error:
        yield CutText(f"reading failed: {error.strerror or error}")


def _as_utf8(chunks: Chunks) -> Chunks:
    """Inspect the beginning of a text: transcode UTF-16, and refuse compressed data."""
    first, broken = b"", None
    for chunk in chunks:
        if not isinstance(chunk, bytes):
            broken = chunk
            break
        first += chunk
        if len(first) >= _LONGEST_SIGN:
            break
    for sign, (name, command) in _FOREIGN.items():
        if first.startswith(sign):
            yield Foreign(f"{name} is not supported; decompress it first: {command} | blobtide convert -")
            return
    codec = utf16_of(first)
    rest = chain([first] if first else [], [broken] if broken else chunks)
    yield from _transcoded(rest, codec) if codec else rest


def _transcoded(chunks: Chunks, codec: str) -> Chunks:
    decoder = codecs.getincrementaldecoder(codec)()
    at = 0
    for chunk in chunks:
        if not isinstance(chunk, bytes):
            yield chunk
            return
        try:
            yield decoder.decode(chunk).encode()
        except UnicodeDecodeError as error:
            yield error.object[: error.start].decode(codec, "ignore").encode()
            yield CutText(f"UTF-16 text damaged near byte {at + error.start}")
            return
        at += len(chunk)
    if decoder.getstate()[0]:
        yield CutText("UTF-16 text ends inside a character")


class _Packed:
    """The compressed bytes of a file: `ahead` comes next, at offset `at`."""

    def __init__(self, stream: BufferedReader) -> None:
        self._stream = stream
        self.ahead = b""
        self.at = 0
        self.text_bytes = 0  # decompressed so far

    def fill(self, least: int = 1) -> bytes:
        """Return the bytes that come next: at least `least`, unless the file ends first."""
        while len(self.ahead) < least and (more := self._stream.read1(_STEP_BYTES)):
            self.ahead += more
        return self.ahead

    def leave(self, rest: bytes) -> None:
        """Advance so that `rest`, the end of `ahead`, comes next."""
        self.at += len(self.ahead) - len(rest)
        self.ahead = rest


def _members(packed: _Packed, most: int) -> Chunks:
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
    """Yield the text of one member; if it is incomplete, return why."""
    member = zlib.decompressobj(_WINDOW)
    while True:
        data = packed.fill()
        before = member.copy()
        try:
            text = member.decompress(data, most)
        except zlib.error as error:
            # The error discards this step's output: decompress again, byte by byte, up to the one that fails.
            good = 0
            while good < len(data) and (part := _next_byte(before, data[good])) is not None:
                yield part
                good += 1
            return CutText(f"gzip data damaged at byte {packed.at + good}: {str(error).rpartition(': ')[2]}")
        packed.text_bytes += len(text)
        if packed.text_bytes > max(MIN_JUDGED_BYTES, MAX_RATIO * (packed.at + len(data))):
            return CutText(_BOMB)
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
    return TrailingBytes(f"{amount} from byte {packed.at} on, after a complete gzip member, are not gzip", data if few else b"")
