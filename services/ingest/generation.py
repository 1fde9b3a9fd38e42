"""Generations: whether a blob is still the one that was read before, and what a new one is called. Pure.

A generation ends when the blob is replaced, shrunk or re-created. What tells is the creation time and the identity of the
content below the cursor: ids and sizes of the committed blocks if one ends exactly there, else the bytes before it. An ETag
alone tells nothing: metadata writes change it too. The name is a hash over facts, so that reading the same blob again gives the
same name.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from typing import Final

from libs.common.events import BlobCheckpoint
from libs.common.storage.api import Block

MATERIAL_BYTES: Final = 256  # of the first record or line that names a generation
LOOK_BACK: Final = 1_024  # bytes before the cursor that identify the content without a block boundary

_BLOCKS = "b:"
_TEXT = "t:"


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
        """Make a version with the running sums of its blocks."""
        return cls(etag, size, creation_time, blocks, list(accumulate(block.size for block in blocks)))


def name_generation(version: Version, first: int, material: bytes, previous: str) -> str:
    """Return the name of a generation whose first record or line begins at offset `first` with the bytes `material`.

    `previous` is the generation it replaces, if there is one. Generations are numbered from the second on, so that no name
    comes back when a blob alternates between contents that begin alike: sinks know by the name what they have.
    """
    index = bisect_right(version.block_ends, first)
    identity = version.blocks[index].id.encode() if index < len(version.blocks) else material[:MATERIAL_BYTES]
    kind = b"block" if index < len(version.blocks) else b"text"
    name = hashlib.blake2b(b"\0".join((_utc(version.creation_time), kind, identity)), digest_size=8).hexdigest()
    _, _, number = previous.partition(".")
    return f"{name}.{int(number or 1) + 1}" if previous else name


@dataclass(frozen=True, slots=True)
class Identity:
    """What identifies the content below a cursor; `blocks` is 0 where text does."""

    blocks: int
    digest: str


def identify(version: Version, offset: int, before: bytes) -> Identity:
    """Identify the content below `offset`; `before` are bytes that end there, as many as are at hand."""
    if offset == 0:
        return Identity(0, "")
    count = bisect_right(version.block_ends, offset)
    if count and version.block_ends[count - 1] == offset:
        return Identity(count, _digest_blocks(version.blocks[:count]))
    text = before[-LOOK_BACK:]
    return Identity(0, f"{_TEXT}{len(text)}:{_hash(text)}")


def may_be_same(checkpoint: BlobCheckpoint, version: Version) -> bool:
    """Tell whether `version` can be a later version of what `checkpoint` has read, as far as block list and times tell."""
    times = {time for time in (checkpoint.creation_time, version.creation_time) if time is not None}
    if len(times) > 1 or version.size < checkpoint.next_offset:
        return False
    if not checkpoint.digest.startswith(_BLOCKS):
        return True
    return checkpoint.digest == _digest_blocks(version.blocks[: checkpoint.blocks])


def text_needed(checkpoint: BlobCheckpoint) -> int:
    """Return how many bytes before the cursor must be compared with `same_text`; 0 if the blocks say it all."""
    if not checkpoint.digest.startswith(_TEXT):
        return 0
    return int(checkpoint.digest.split(":")[1])


def same_text(checkpoint: BlobCheckpoint, before: bytes) -> bool:
    """Tell whether the bytes before the cursor are those that `checkpoint` has seen there."""
    return checkpoint.digest == f"{_TEXT}{len(before)}:{_hash(before)}"


def _digest_blocks(blocks: Sequence[Block]) -> str:
    return _BLOCKS + _hash("\n".join(f"{block.id} {block.size}" for block in blocks).encode())


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def _utc(time: datetime | None) -> bytes:
    return time.astimezone(UTC).isoformat().encode() if time else b""
