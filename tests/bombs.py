"""Compressed blobs made to exhaust whoever decodes them. Each is small, and large or slow when it is decoded.

As a program it reads one of them step by step, as ingest does and in turn with a blob that is well, in a process that may not
have more than so much memory; and prints what came of both.
"""

from __future__ import annotations

import gzip
import json
import random
import resource
import struct
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import click
import zstandard

from libs.common.messages.blobs import BlobId
from libs.common.messages.events import BlobCheckpoint, Stream
from services.ingest.cutting.window import SizeLimits
from services.ingest.limits import allowance
from services.ingest.reading.decoders import Decoders
from services.ingest.reading.reader import BlobReader
from services.ingest.work import Announcement, ReadingTask
from tests.blob_container import FakeContainer
from tests.hostile import with_window, zstd_of

MEMORY = 256 * 1_048_576
MB = 1_048_576
LIMITS = SizeLimits(segment=900_000, line=1_048_576, record=16_777_216)
MOST = 4_194_304
GOOD_LINES = 400_000
GOOD = b"".join(b"a good line, number %d\n" % number for number in range(GOOD_LINES))
BEHIND = b"one more line\n"
_BOMB = "expands to over 300 times its size, as no log does"
_LONG = "line longer than ingest.max_line_bytes"


@dataclass(frozen=True)
class Bomb:
    """A blob, what its dead letters say (code and a part of the reason), and the lines that come of it (None: some)."""

    make: Callable[[], bytes]
    letters: tuple[tuple[str, str], ...]
    lines: int | None = 0


def _gzip(block: bytes, times: int, end: bytes = b"") -> bytes:
    """Return a gzip member with the text `block` so many times, and then `end`; made by repeating what is compressed of it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(times):
        checksum = zlib.crc32(block, checksum)
    last = packer.compress(end) + packer.flush()
    trailer = struct.pack("<II", zlib.crc32(end, checksum), (len(block) * times + len(end)) & 0xFFFFFFFF)
    return b"".join([b"\x1f\x8b\x08\0\0\0\0\0\0\x03", packed * times, last, trailer])


def _hardly_a_bomb() -> bytes:
    """Return a megabyte without a line end that is compressed to a hundredth."""
    return random.Random(1).randbytes(8_192).replace(b"\n", b"-").ljust(MB, b"x")


_NO_END = ("too_large", "incomplete last line")

BOMBS: Mapping[str, Bomb] = {
    "gzip": Bomb(lambda: _gzip(b"x" * MB, 2_000), (_NO_END, ("too_large", _BOMB))),
    "gzip of lines": Bomb(
        lambda: _gzip(b"x\n" * (MB // 2), 2_000), (("cut_file", "incomplete last line"), ("too_large", _BOMB)), None
    ),
    "gzip of blank lines": Bomb(lambda: _gzip(b"\n" * MB, 2_000), (("too_large", _BOMB),), None),
    "gzip of spaces": Bomb(lambda: _gzip(b" " * MB, 2_000), (_NO_END, ("too_large", _BOMB))),
    "gzip in gzip": Bomb(
        lambda: gzip.compress(_gzip(b"x" * MB, 2_000)), (("unsupported_blob", "does not contain lines (gzip)"),)
    ),
    "zstd": Bomb(lambda: zstd_of(b"x" * MB, 2_000), (_NO_END, ("too_large", _BOMB))),
    "zstd of lines": Bomb(lambda: zstd_of(b"x\n" * (MB // 2), 2_000), (("too_large", _BOMB),), None),
    "zstd with a giant window": Bomb(
        lambda: with_window(zstd_of(b"x" * MB, 9), 40), (("unsupported_blob", "needs a window of 1099511627776 bytes"),)
    ),
    "a line of gigabytes": Bomb(lambda: _gzip(_hardly_a_bomb(), 2_000, b"\n" + BEHIND), (("too_large", _LONG),), 1),
    "very many members": Bomb(lambda: gzip.compress(b"x\n") * 100_000, (), 100_000),
    "very many members without text": Bomb(
        lambda: gzip.compress(b"") * 100_000 + gzip.compress(BEHIND), (("unsupported_blob", "contain no line"),)
    ),
    "very many frames without text": Bomb(
        lambda: zstandard.compress(BEHIND) + b"\x50\x2a\x4d\x18\0\0\0\0" * 100_000 + zstandard.compress(BEHIND), (), 2
    ),
}


@dataclass
class Reading:
    """A closed blob that is read, and what came of it."""

    reader: BlobReader
    container: FakeContainer
    name: str
    checkpoint: BlobCheckpoint | None = None
    wanted: int = 0
    lines: int = 0
    letters: list[tuple[str, str]] = field(default_factory=list)

    def step(self) -> bool:
        """Do one step; return whether there is more to read."""
        blob = self.container.blobs[self.name]
        announced = Announcement(
            BlobId("s.e", "logs", self.name), blob.etag, len(blob.data), closed=True, blob_type=blob.kind,
            creation_time=blob.created, creation_etag=blob.etag,
        )  # fmt: skip
        granted = self.wanted or allowance(len(blob.data), self.checkpoint, MOST)
        step = self.reader.step(self.container, ReadingTask(announced, self.checkpoint, Stream.APPLICATION_LOGS, granted))
        self.checkpoint, self.wanted = step.checkpoint or self.checkpoint, step.wanted
        self.lines += sum(segment.data.count(b"\n") for segment in step.segments)
        self.letters += [(letter.code.value, letter.reason) for letter in step.dead_letters]
        return step.more

    def result(self) -> dict[str, Any]:
        """Return what came of it."""
        status = self.checkpoint.status.value if self.checkpoint else None
        return {"lines": self.lines, "letters": self.letters, "status": status}


def main() -> None:
    """Read the bomb that the first argument names, and a good blob, one step of each at a time."""
    data = BOMBS[sys.argv[1]].make()
    # Not the address space, of which threads reserve much more than they use.
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    container = FakeContainer()
    container.put("bomb", data)
    container.put("good", gzip.compress(GOOD, 1))
    reader = BlobReader(lambda _: LIMITS, Decoders(33_554_432))
    bomb, good = (Reading(reader, container, name) for name in ("bomb", "good"))
    left = {bomb.name: bomb, good.name: good}
    while left:
        left = {name: one for name, one in left.items() if one.step()}
    click.echo(json.dumps({"bomb": bomb.result(), "good": good.result()}))


if __name__ == "__main__":
    main()
