"""Commits: how a blob grows, and the content of all blobs after some commits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

import pyarrow as pa

from libs.common.messages.blobs import BlobId
from libs.demo.truth import RowRange, table_of


class Action(Enum):
    """How a commit changes its blob."""

    OPEN = auto()  # the head alone: not yet JSON
    CREATE = auto()  # head and tail: no records
    APPEND = auto()  # one more data block before the tail
    FINISH = auto()  # the last such block


@dataclass(frozen=True, slots=True)
class NewBlock:
    """A block to upload. The id is plain; storage uses its base64 form."""

    id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class MinuteCommit:
    """One Put Block List: blocks to upload first, then the ids of all blocks of the blob in order."""

    nic: int  # number of the interface
    blob: BlobId
    action: Action
    due: datetime  # when Azure would make it
    staged: tuple[NewBlock, ...]
    block_ids: tuple[str, ...]
    rows: RowRange

    @property
    def source(self) -> int:
        """Number of the interface, whose commits are made in order."""
        return self.nic

    @property
    def truth(self) -> pa.RecordBatch:
        """The tuples in `staged`, with the schema `truth.TRUTH_SCHEMA`."""
        return self.rows.read()

    @property
    def size(self) -> int:
        """Bytes to upload."""
        return sum(len(block.data) for block in self.staged)


@dataclass(frozen=True, slots=True)
class Logs:
    """The content of storage after some commits."""

    blobs: dict[BlobId, bytes]
    truth: pa.Table


def collect(commits: Iterable[MinuteCommit]) -> Logs:
    """Return the final bytes of all blobs and all their tuples, per blob in document order."""
    uploaded: dict[BlobId, dict[str, bytes]] = {}
    order: dict[BlobId, tuple[str, ...]] = {}
    rows = []
    for commit in commits:
        uploaded.setdefault(commit.blob, {}).update((block.id, block.data) for block in commit.staged)
        order[commit.blob] = commit.block_ids
        rows.append(commit.rows)
    blobs = {blob: b"".join(uploaded[blob][block] for block in ids) for blob, ids in order.items()}
    return Logs(blobs, table_of(rows))
