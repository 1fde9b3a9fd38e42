"""The task of reading one blob, and its outcome."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from libs.common.messages.blobs import BlobId
from libs.common.messages.dead_letters import DeadLetter
from libs.common.messages.events import (
    BlobCheckpoint,
    BlobClosed,
    BlobCompletion,
    BlobObserved,
    BlobReleased,
    BlobStatus,
    CheckpointStatus,
    Stream,
)
from libs.common.messages.labels import pack_labels
from libs.common.messages.segments import Segment

_NOT_READ: Final = "gzip"  # content in checkpoints from before gzip was supported


@dataclass(frozen=True, slots=True)
class Announcement:
    """The events about one blob since it was last read, folded into one."""

    blob: BlobId
    etag: str
    size: int
    closed: bool = False
    stream: Stream | None = None
    # From `BlobObserved`; unknown if only `BlobClosed` has arrived.
    blob_type: str = ""
    creation_time: datetime | None = None
    creation_etag: str = ""  # the version with which `creation_time` was seen
    baseline: int | None = None
    replay_id: str = ""
    released: bool = False  # from quarantine
    labels: bytes = b""  # as in `Segment`

    @classmethod
    def of(cls, blob: BlobId, event: BlobObserved | BlobReleased | BlobClosed) -> Announcement:
        """Convert an event to an announcement."""
        labels = pack_labels(event.labels)
        if isinstance(event, BlobClosed):
            return cls(
                blob,
                event.etag,
                event.size,
                closed=True,
                stream=event.stream,
                baseline=event.baseline_offset,
                labels=labels,
            )
        released = isinstance(event, BlobReleased)
        return cls(
            blob,
            event.etag,
            event.size,
            closed=isinstance(event, BlobReleased) and event.status is BlobStatus.CLOSED,
            stream=event.stream,
            blob_type=event.blob_type,
            creation_time=event.creation_time,
            creation_etag=event.etag,
            baseline=event.baseline_offset,
            replay_id=event.replay_id,
            released=released,
            labels=labels,
        )

    def then(self, later: Announcement) -> Announcement:
        """Fold a later announcement of the same blob into this one."""
        if later.closed and not later.released:
            return replace(self, etag=later.etag, size=later.size, closed=later.closed, labels=later.labels)
        released = self.released or later.released
        if later.baseline is None and later.replay_id == self.replay_id:
            return replace(later, baseline=self.baseline, released=released)
        return replace(later, released=released)


@dataclass(frozen=True, slots=True)
class ReadingTask:
    """One step of reading one blob."""

    announcement: Announcement
    checkpoint: BlobCheckpoint | None
    stream: Stream
    allowance: int  # bytes to read in this step

    @property
    def nothing_new(self) -> bool:
        """Whether the announced version is known, without asking storage, to have been handled."""
        checkpoint, announced = self.checkpoint, self.announcement
        if checkpoint is None or checkpoint.etag != announced.etag or self.wants_replay or checkpoint.content == _NOT_READ:
            return False
        return not announced.closed or checkpoint.status is not CheckpointStatus.OPEN

    @property
    def wants_replay(self) -> bool:
        """Whether a replay was requested that has not begun yet."""
        wanted = self.announcement.replay_id
        return bool(wanted) and self.checkpoint is not None and wanted != self.checkpoint.replay_id


class Skip(StrEnum):
    """Why nothing was read; the bounded set of values of a metric label."""

    NOTHING_NEW = "nothing_new"  # the announced version has been read
    EMPTY = "empty"  # no bytes, or no record in it
    VANISHED = "vanished"
    CHANGED = "changed"  # while being read: look again
    UNREADABLE = "unreadable"  # archived, encrypted, or access is denied
    UNSUPPORTED = "unsupported"  # compressed, and given up
    QUARANTINED = "quarantined"  # reading it crashed too often
    NOT_CONFIGURED = "not_configured"  # no enabled environment has its container


class GenerationEnd(StrEnum):
    """Why a generation ended before it was complete."""

    REPLACED = "replaced"  # also shrunk and re-created
    VANISHED = "vanished"
    CUT = "cut"  # compressed, and closed inside a member
    UNREADABLE = "unreadable"  # compressed, and given up


@dataclass(frozen=True, slots=True)
class Step:
    """The outcome of a task, to be committed in one transaction."""

    segments: tuple[Segment, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()
    completion: BlobCompletion | None = None
    checkpoint: BlobCheckpoint | None = None  # None: unchanged
    more: bool = False  # there is more to do immediately
    soon: bool = False  # before other blobs: what is kept in memory for it must be used before it is dropped
    wanted: int = 0  # bytes to read at once next time, if these were too few to find an end
    skipped: Skip | None = None
    ended: GenerationEnd | None = None

    @property
    def bytes(self) -> int:
        """Size of the segments."""
        return sum(len(segment.data) for segment in self.segments)

    @property
    def weight(self) -> int:
        """Size of segments and dead letters, in bytes of their values."""
        return self.bytes + sum(len(letter.data) for letter in self.dead_letters)
