"""What the services need of storage: listing, block lists, pinned range reads, queues. `blobs.py` and `queues.py` implement it.

Every call retries by our own policy (429, 5xx, resets, short bodies; ``Retry-After``) and then raises one of the errors below,
whatever the SDK raised. Ranges are half-open ``[start, end)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from libs.common.errors import BlobtideError


class StorageError(BlobtideError):
    """Storage did not do what was asked, after all retries. Carries no secret."""


class BlobGone(StorageError):
    """404: the blob is not there, or the container that was to be listed."""


class BlobChanged(StorageError):
    """412: the blob is no longer the one that the ETag names. Look again."""


class BlobUnreadable(StorageError):
    """The blob is there but cannot be read: archived, encrypted with a customer key, or access is denied for it."""


class MessageGone(StorageError):
    """The message of a queue has been deleted, or was given to another reader meanwhile."""


class StorageUnavailable(StorageError):
    """Retries are used up, or sign-in failed. Try again later."""

    def __init__(self, reason: str, *, after: float = 30.0) -> None:
        super().__init__(reason)
        self.after = after


class StorageRefused(StorageUnavailable):
    """Storage answered that it will not do this: access is denied, or something is wrong with it. Others may fare better."""


class ListedBlob(Protocol):
    """One blob as a listing shows it. All but name and ETag may cost a little each time that it is asked for."""

    @property
    def name(self) -> str:
        """Name within the container."""

    @property
    def etag(self) -> str:
        """Version, without quotes."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def blob_type(self) -> str:
        """BlockBlob, AppendBlob or PageBlob."""

    @property
    def last_modified(self) -> datetime:
        """Time of the last write."""

    @property
    def creation_time(self) -> datetime | None:
        """Time of creation, if storage tells it."""

    @property
    def archived(self) -> bool:
        """Whether it is in the archive tier."""

    @property
    def as_of(self) -> datetime | None:
        """When the listing was made, by storage's own clock."""


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """One blob as a HEAD request shows it; also a `ListedBlob`."""

    name: str
    etag: str
    size: int
    blob_type: str  # BlockBlob, AppendBlob, PageBlob
    last_modified: datetime
    creation_time: datetime | None
    archived: bool = False
    as_of: datetime | None = field(default=None, compare=False)  # when storage said so, by its own clock


@dataclass(frozen=True, slots=True)
class Block:
    """One committed block."""

    id: str
    size: int


@dataclass(frozen=True, slots=True)
class BlockList:
    """The committed blocks of a blob at one ETag; empty for append blobs and blobs made by one Put Blob."""

    etag: str
    size: int
    last_modified: datetime
    blocks: tuple[Block, ...]


class Container(Protocol):
    """One container of one account."""

    def probe(self) -> datetime | None:
        """See that the container can be listed; return the time by storage's own clock, None if the answer has none."""

    def list_blobs(self, prefix: str) -> Iterator[ListedBlob]:
        """Yield the blobs under `prefix` in name order, page by page."""

    def list_directories(self, prefix: str) -> Iterator[str]:
        """Yield the virtual directories directly under `prefix`, each ending in ``/``."""

    def info(self, name: str) -> BlobInfo:
        """Return the current state of one blob."""

    def block_list(self, name: str) -> BlockList:
        """Return the committed block list with its ETag."""

    def read(self, name: str, start: int, end: int, etag: str) -> bytes:
        """Return exactly the bytes ``[start, end)`` of the version that `etag` names, undecoded; without it, of the newest.

        Raises:
            BlobChanged: if the blob has another ETag.
            BlobGone, BlobUnreadable, StorageUnavailable: as said above.
        """

    def close(self) -> None:
        """Close connections."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What deletes a message, until it is given to another reader."""

    message: str
    pop: str


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """A message that nobody else sees for a while."""

    receipt: Receipt
    text: str
    deliveries: int  # this one too


class Queue(Protocol):
    """One queue of one account."""

    def receive(self, most: int, hidden_seconds: int) -> list[QueueMessage]:
        """Return up to `most` messages, the oldest ones; others do not see them for so long."""

    def delete(self, receipt: Receipt) -> None:
        """Delete a message. Raises `MessageGone` if it is not ours any more."""

    def close(self) -> None:
        """Close connections."""
