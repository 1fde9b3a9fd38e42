"""What the services need from storage: listings, block lists, pinned range reads, queues. Implemented by `blobs` and `queues`.

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
    """A storage request failed, after all retries. Contains no secret."""


class BlobGone(StorageError):
    """404: the blob, or the container to list, does not exist."""


class BlobChanged(StorageError):
    """412: the blob no longer matches the ETag. Look again."""


class BlobUnreadable(StorageError):
    """The blob exists but cannot be read: archived, encrypted with a customer-provided key, or access is denied."""


class MessageGone(StorageError):
    """The queue message was deleted, or delivered to another reader meanwhile."""


class StorageUnavailable(StorageError):
    """Retries are used up, or sign-in failed. Try again later."""

    def __init__(self, reason: str, *, after: float = 30.0) -> None:
        super().__init__(reason)
        self.after = after


class StorageRefused(StorageUnavailable):
    """Storage refused this request: access is denied, or the request is invalid. Other requests may succeed."""


class ListedBlob(Protocol):
    """One blob in a listing. Every access to a property other than name and ETag may cost a little."""

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
        """Time of creation, if storage reports it."""

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
    as_of: datetime | None = field(default=None, compare=False)  # time of the response, by storage's own clock


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
        """Check that the container can be listed; return the time by storage's own clock, None if the response has none."""

    def list_blobs(self, prefix: str) -> Iterator[ListedBlob]:
        """Yield the blobs under `prefix` in name order, page by page."""

    def list_directories(self, prefix: str, delimiter: str = "/") -> Iterator[str]:
        """Yield what the names under `prefix` have up to the next `delimiter` and including it, each once, in order."""

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
    """Handle for deleting a message, valid until it is extended or delivered to another reader."""

    message: str
    pop: str


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """A message that is hidden from other readers for a while."""

    receipt: Receipt
    text: str
    deliveries: int  # including this one


class Queue(Protocol):
    """One queue of one account."""

    def receive(self, most: int, hidden_seconds: int) -> list[QueueMessage]:
        """Return up to `most` messages, oldest first, and hide them from other readers for some time."""

    def delete(self, receipt: Receipt) -> None:
        """Delete a message. Raises `MessageGone` if it is no longer ours."""

    def close(self) -> None:
        """Close connections."""


class WorkQueue(Queue, Protocol):
    """A queue whose messages are worked on for longer, and to which messages can be added."""

    def extend(self, receipt: Receipt, hidden_seconds: int) -> Receipt:
        """Hide a message for this time from now on; only the new receipt is valid. Raises `MessageGone` if it is not ours."""

    def put(self, text: str) -> None:
        """Add a message, which does not expire. A retry after a lost response may add it twice."""
