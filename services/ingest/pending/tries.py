"""Count, in a blob's checkpoint, how often our code crashed or the process died while reading it.

A process that is killed cannot report which blob was at fault, so an attempt must be recorded before it is made. In normal
operation that would be one transaction per blob, so only two kinds of attempts are recorded:

- All attempts in the first seconds after partitions are assigned, one transaction per round. Whatever killed the previous
  process is soon among them, because everything finished before it is committed and is not read again.
- Attempts on blobs that already have a count. Only one of these is tried at a time, so that a count above one is due to the
  blob itself, not to others that were being read when the process died.

An attempt that returns in any way removes its mark, with its result or in the next transaction. A mark found when partitions
are loaded therefore belongs to an attempt that did not return: its process died, or lost the partition meanwhile, which is rare
and does not happen to one blob `MOST_CRASHES` times in a row. A blob that reaches that count is quarantined: it is not read
until somebody releases it, whatever is written to it.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Final

from libs.common.messages.events import BlobCheckpoint, CheckpointStatus
from services.ingest.work import Announcement, ReadingTask

MOST_CRASHES: Final = 5  # in a row, on one step of one blob
CAREFUL_SECONDS: Final = 10.0


class Standing(Enum):
    """What may be done with a blob."""

    FREE = auto()
    SUSPECT = auto()  # only one suspect is tried at a time
    CONDEMNED = auto()  # to be quarantined now
    QUARANTINED = auto()


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob as its stored checkpoint has it: `checkpoint` of what was read, without a count; None if nothing was."""

    checkpoint: BlobCheckpoint | None
    stored: BlobCheckpoint | None
    crashes: int
    standing: Standing

    @property
    def is_clean(self) -> bool:
        """Whether the stored checkpoint has no count of attempts."""
        return self.stored is self.checkpoint


def is_quarantined(checkpoint: BlobCheckpoint) -> bool:
    """Return whether the blob is in quarantine."""
    return checkpoint.crashes >= MOST_CRASHES and not checkpoint.tried_by


class Tries:
    """Counts for one process."""

    def __init__(self, clock: Callable[[], float], now: Callable[[], float], careful_seconds: float) -> None:
        self._clock = clock
        self._now = now
        self._careful_seconds = careful_seconds
        self._name = secrets.token_hex(4)  # of this process; marks of others belong to attempts that did not return
        self._careful_until = -math.inf

    def be_careful(self) -> None:
        """Record that partitions were assigned."""
        self._careful_until = self._clock() + self._careful_seconds

    def record(self, stored: BlobCheckpoint | None, announcement: Announcement) -> StoredBlob:
        """Return the standing of a blob. A release applies once, to a quarantined blob, and resets its count."""
        if stored is None or not stored.crashes:
            return StoredBlob(stored, stored, 0, Standing.FREE)
        # Without a generation nothing was read yet, and the checkpoint exists only for its count.
        read = replace(stored, crashes=0, tried_by="") if stored.generation else None
        if is_quarantined(stored):
            standing = Standing.SUSPECT if announcement.released else Standing.QUARANTINED
            return StoredBlob(read, stored, 0 if announcement.released else stored.crashes, standing)
        crashes = stored.crashes - (stored.tried_by == self._name)
        if crashes >= MOST_CRASHES:
            return StoredBlob(read, stored, crashes, Standing.CONDEMNED)
        return StoredBlob(read, stored, crashes, Standing.SUSPECT if crashes else Standing.FREE)

    def is_to_be_marked(self, record: StoredBlob) -> bool:
        """Return whether an attempt must be recorded before it is made."""
        return record.standing is Standing.SUSPECT or self._clock() < self._careful_until

    def before(self, record: StoredBlob, task: ReadingTask) -> BlobCheckpoint:
        """Return the checkpoint that records the beginning of an attempt."""
        return replace(self._base(record, task), crashes=record.crashes + 1, tried_by=self._name)

    def after(self, record: StoredBlob, crashes: int, task: ReadingTask) -> BlobCheckpoint | None:
        """Return the checkpoint of a blob without further progress, with this count of crashes; None if it needs none."""
        return replace(self._base(record, task), crashes=crashes) if crashes else record.checkpoint

    def _base(self, record: StoredBlob, task: ReadingTask) -> BlobCheckpoint:
        now = datetime.fromtimestamp(self._now(), UTC)
        if record.checkpoint is not None:
            return replace(record.checkpoint, updated_at=now)
        return BlobCheckpoint(
            blob=str(task.announcement.blob),
            generation="",
            status=CheckpointStatus.OPEN,
            next_offset=0,
            ordinal=0,
            records=0,
            etag="",
            size=0,
            blocks=0,
            digest="",
            creation_time=None,
            updated_at=now,
            stream=task.stream,
        )
