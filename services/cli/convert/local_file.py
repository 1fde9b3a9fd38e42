"""The text of a local file as UTF-8, chunk by chunk, decompressed if it is gzip or zstd. Damage costs only what follows it.

gzip is read as gzip(1) does: members may follow each other, and zero bytes after a member are padding. If the text ends too
early, or something else follows it, a final value says so; all text before it has been yielded. UTF-16 is transcoded to UTF-8.
A file with a compression ratio far above that of logs is given up, so that a small file cannot keep the machine busy for hours.
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedReader, FileIO, RawIOBase
from itertools import chain
from typing import Final, cast

from libs.common.errors import BlobtideError
from libs.common.framing.encoding import utf16_of
from libs.common.unpacking.member import Packing, packing_of
from libs.common.unpacking.unpacker import MOST_RATIO, Boundary, Halt, Unpacked, Unpacker

STANDARD_INPUT: Final = "-"
MAX_TRAILING_BYTES: Final = 1_048_576
"""Trailing bytes after a member are kept up to this size; beyond it they are only reported."""

_FOREIGN: Final = {
    b"\x1f\x8b": ("gzip in compressed data", "gzip -dc"),
    b"\x28\xb5\x2f\xfd": ("zstd in compressed data", "zstd -dc"),
    b"\xfd7zXZ\0": ("xz", "xz -dc"),
    b"BZh": ("bzip2", "bzip2 -dc"),
    b"PK\x03\x04": ("a zip archive", "unzip -p"),
}
_LONGEST_SIGN: Final = 64
_LONGEST_MAGIC: Final = 4
_STEP_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class CutText:
    """The text ends here, possibly in the middle of a record: the file is truncated or damaged, or reading failed."""

    reason: str


@dataclass(frozen=True, slots=True)
class TrailingBytes:
    """The text is complete, but followed by `data` of another kind (empty if larger than `MAX_TRAILING_BYTES`)."""

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
    packed = _Packed(stream, most)
    try:
        packing = packing_of(packed.fill(_LONGEST_MAGIC))
        if packing is not None:
            yield from _members(packed, packing, most)
            return
        yield from [packed.ahead] if packed.ahead else []
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
            yield Foreign(f"{name} is not supported; decompress it first: {command} FILE | blobtide convert -")
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
    """The compressed bytes of a file: `ahead` comes next."""

    def __init__(self, stream: BufferedReader, most: int) -> None:
        self._stream = stream
        self._most = min(most, _STEP_BYTES)
        self.ahead = b""

    def fill(self, least: int) -> bytes:
        """Return the bytes that come next: at least `least`, unless the file ends first."""
        while len(self.ahead) < least and (more := self._stream.read1(self._most)):
            self.ahead += more
        return self.ahead

    def take(self, count: int) -> None:
        """Advance by `count` bytes."""
        self.ahead = self.ahead[count:]


def _members(packed: _Packed, packing: Packing, most: int) -> Chunks:
    unpacker = Unpacker(packing, Boundary())
    while True:
        at = unpacker.packed
        done = unpacker.decode(packed.ahead, most)
        packed.take(unpacker.packed - at)
        yield from done.texts
        missing = len(packed.ahead) + 1
        if done.halt is Halt.ENOUGH or (done.halt.needs_more and len(packed.fill(missing)) >= missing):
            continue
        if done.halt is not Halt.BETWEEN:
            yield _trailing(packed, unpacker) if done.halt is Halt.FOREIGN else CutText(_why(unpacker, done))
        return


def _why(unpacker: Unpacker, done: Unpacked) -> str:
    """Return why the text ends inside a member."""
    name, at = unpacker.packing, unpacker.packed
    match done.halt:
        case Halt.DAMAGED:
            return f"{name} data damaged at byte {at}: {done.reason}"
        case Halt.UNSUPPORTED:
            return f"{name} data not decoded from byte {at} on: {done.reason}"
        case Halt.BOMB:
            return (
                f"{name} data expands to more than {MOST_RATIO} times its size, which no log does, so the rest is not read; "
                f"to read it anyway: {name} -dc FILE | blobtide convert -"
            )
        case _:
            return f"{name} data truncated after byte {at}"


def _trailing(packed: _Packed, unpacker: Unpacker) -> TrailingBytes:
    data = packed.fill(MAX_TRAILING_BYTES + 1)
    few = len(data) <= MAX_TRAILING_BYTES
    amount = f"{len(data)} bytes" if few else f"more than {MAX_TRAILING_BYTES} bytes"
    name, at = unpacker.packing, unpacker.packed
    return TrailingBytes(f"{amount} from byte {at} on, after a complete {name} member, are not {name}", data if few else b"")
