"""Generations: decide whether a blob's content is still the one that was read, and name new generations. Pure.

A generation ends when the bytes below the cursor are no longer those that were read. ETags cannot tell, because metadata writes
change them too. Neither can creation times and block ids: rewriting a whole blob changes both, possibly without changing its
content. But if the blocks below the cursor are the same, the bytes nearly always are, so that growth needs no comparison. For
comparison, the checkpoint has a digest of the bytes just before the cursor and a checksum of all bytes that were read.

The name is a hash of facts about the blob, so that reading it again gives the same name.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import accumulate
from typing import Final

from libs.common.azure.storage.api import Block
from libs.common.messages.events import BlobCheckpoint

MATERIAL_BYTES: Final = 256  # of the first record or line that names a generation
LOOK_BACK: Final = 1_024  # bytes before the cursor that are read again along with the new ones

_BLOCKS = "b:"
_TEXT = "t:"  # digests of bytes, in checkpoints from before the field `before` existed


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a blob, pinned by its ETag."""

    etag: str
    size: int
    creation_time: datetime | None
    blocks: tuple[Block, ...]
    block_ends: Sequence[int]
    appended: bool = False  # an append blob

    @classmethod
    def of(cls, etag: str, size: int, creation_time: datetime | None, blocks: tuple[Block, ...]) -> Version:
        """Create a version with the running sums of its block sizes."""
        return cls(etag, size, creation_time, blocks, list(accumulate(block.size for block in blocks)))


def name_generation(version: Version, first: int, material: bytes, previous: str) -> str:
    """Return the name of a generation whose first record or line begins at offset `first` with the bytes `material`.

    `previous` is the generation it replaces, if any. Generations are numbered from the second on, so that no name recurs when a
    blob alternates between contents with the same beginning: sinks recognise what they have by the name.
    """
    index = bisect_right(version.block_ends, first)
    identity = version.blocks[index].id.encode() if index < len(version.blocks) else material[:MATERIAL_BYTES]
    kind = b"block" if index < len(version.blocks) else b"text"
    name = hashlib.blake2b(b"\0".join((_utc(version.creation_time), kind, identity)), digest_size=8).hexdigest()
    _, _, number = previous.partition(".")
    return f"{name}.{int(number or 1) + 1}" if previous else name


def predecessor(name: str) -> str:
    """Return a name that `name_generation` can be given as `previous` to number a generation like the one called `name`."""
    _, _, number = name.partition(".")
    return "" if int(number or 1) == 1 else f"{name.partition('.')[0]}.{int(number) - 1}"


class Evidence(StrEnum):
    """How to verify that a version continues the content that was read."""

    END = "end"  # by the bytes just before the cursor; everything else below is known to be the same
    CONTENT = "content"  # by all bytes below the cursor that the checksum covers
    REFUTED = "refuted"  # it does not


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What later versions are compared with, in terms of `BlobCheckpoint`."""

    blocks: int
    digest: str
    before: str


def identify(version: Version, offset: int, below: memoryview) -> Fingerprint:
    """Identify the content below `offset`; `below` are the available bytes that end there."""
    count = bisect_left(version.block_ends, offset) + 1 if offset and version.blocks else 0
    text = below[-LOOK_BACK:]
    return Fingerprint(count, _digest_blocks(version.blocks[:count]) if count else "", f"{len(text)}:{_hash(text)}")


def evidence(checkpoint: BlobCheckpoint, version: Version, affordable: int) -> Evidence:
    """Return how to verify that `version` still begins with what `checkpoint` has read.

    A version of the same shape under another ETag either has only other metadata, or different bytes under the same block ids.
    To tell, up to `affordable` bytes are compared; if there are more, only the last ones.
    """
    if version.size < checkpoint.read_to:
        return Evidence.REFUTED
    if checkpoint.seen_etag == version.etag:
        return Evidence.END
    same_time = _same_time(checkpoint, version)
    known = checkpoint.read_to - checkpoint.checksum_from if checkpoint.checksum is not None else 0
    if same_time and version.size == checkpoint.size and _same_blocks(checkpoint, version) and not version.appended:
        return Evidence.CONTENT if 0 < known <= affordable else Evidence.END
    if same_time and (version.appended or (checkpoint.blocks and _same_blocks(checkpoint, version))):
        return Evidence.END
    if known:
        return Evidence.CONTENT
    # A checkpoint from before checksums, or of a blob that counted as read and of which nothing was read yet.
    return Evidence.END if same_time and (bytes_before(checkpoint) or not checkpoint.read_to) else Evidence.REFUTED


def bytes_before(checkpoint: BlobCheckpoint) -> int:
    """Return the number of bytes before the cursor that `same_end` can compare."""
    return int(_before(checkpoint).partition(":")[0] or 0)


def same_end(checkpoint: BlobCheckpoint, below: bytes | memoryview) -> bool:
    """Return whether `below`, which ends at the cursor, ends with the bytes that `checkpoint` saw there."""
    count = bytes_before(checkpoint)
    return count == 0 or _before(checkpoint) == f"{count}:{_hash(below[-count:])}"


def _before(checkpoint: BlobCheckpoint) -> str:
    legacy = checkpoint.digest.removeprefix(_TEXT) if checkpoint.digest.startswith(_TEXT) else ""
    return checkpoint.before or legacy


def _same_time(checkpoint: BlobCheckpoint, version: Version) -> bool:
    return len({time for time in (checkpoint.creation_time, version.creation_time) if time is not None}) <= 1


def _same_blocks(checkpoint: BlobCheckpoint, version: Version) -> bool:
    """Return whether the blocks below the cursor have the same ids and sizes, or there were and are none."""
    if checkpoint.blocks == 0:
        return not version.blocks
    return checkpoint.digest == _digest_blocks(version.blocks[: checkpoint.blocks])


def _digest_blocks(blocks: Sequence[Block]) -> str:
    return _BLOCKS + _hash("\n".join(f"{block.id} {block.size}" for block in blocks).encode())


def _hash(data: bytes | memoryview) -> str:
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def _utc(time: datetime | None) -> bytes:
    return time.astimezone(UTC).isoformat().encode() if time else b""
