"""How often our code crashed, or the process died, while it read a blob: counted in the blob's checkpoint.

A process that is killed cannot say by which blob, so a try must be written down before it is made. In normal work that would be
a transaction a blob; so only two kinds of tries are:

- All of the first seconds after partitions arrived, those of one round in one transaction. Whatever killed the process before
  is soon among them: what was finished before it is committed and is not read again.
- Those of blobs that have a count. Of these one is tried at a time, so that a count above one is the blob's own, and not that
  of others which were read beside it when the process died.

A try that comes back in any way takes its mark away, with what it brought or in the next transaction. A mark that is found when
partitions are loaded is thus of a try that did not come back: its process died, or lost the partition meanwhile, which is
seldom and does not happen to one blob `MOST_CRASHES` times in a row. A blob that has come so far is in quarantine: it is not
read before somebody releases it, whatever is written to it.
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
    SUSPECT = auto()  # it is tried alone of its kind
    CONDEMNED = auto()  # to be put in quarantine now
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
        """Tell whether the stored checkpoint says nothing of tries."""
        return self.stored is self.checkpoint


def is_quarantined(checkpoint: BlobCheckpoint) -> bool:
    """Tell whether the blob is in quarantine."""
    return checkpoint.crashes >= MOST_CRASHES and not checkpoint.tried_by


class Tries:
    """Counts for one process."""

    def __init__(self, clock: Callable[[], float], now: Callable[[], float], careful_seconds: float) -> None:
        self._clock = clock
        self._now = now
        self._careful_seconds = careful_seconds
        self._name = secrets.token_hex(4)  # of this process; marks of others are of tries that did not come back
        self._careful_until = -math.inf

    def be_careful(self) -> None:
        """Take note that partitions arrived."""
        self._careful_until = self._clock() + self._careful_seconds

    def record(self, stored: BlobCheckpoint | None, announcement: Announcement) -> StoredBlob:
        """Return how a blob stands. A release counts for one that is in quarantine, and once: then it is counted anew."""
        if stored is None or not stored.crashes:
            return StoredBlob(stored, stored, 0, Standing.FREE)
        # Without a generation nothing was read yet, and the checkpoint is there for its count alone.
        read = replace(stored, crashes=0, tried_by="") if stored.generation else None
        if is_quarantined(stored):
            standing = Standing.SUSPECT if announcement.released else Standing.QUARANTINED
            return StoredBlob(read, stored, 0 if announcement.released else stored.crashes, standing)
        crashes = stored.crashes - (stored.tried_by == self._name)
        if crashes >= MOST_CRASHES:
            return StoredBlob(read, stored, crashes, Standing.CONDEMNED)
        return StoredBlob(read, stored, crashes, Standing.SUSPECT if crashes else Standing.FREE)

    def is_to_be_marked(self, record: StoredBlob) -> bool:
        """Tell whether a try must be written down before it is made."""
        return record.standing is Standing.SUSPECT or self._clock() < self._careful_until

    def before(self, record: StoredBlob, task: ReadingTask) -> BlobCheckpoint:
        """Return the checkpoint that says that a try begins."""
        return replace(self._base(record, task), crashes=record.crashes + 1, tried_by=self._name)

    def after(self, record: StoredBlob, crashes: int, task: ReadingTask) -> BlobCheckpoint | None:
        """Return the checkpoint of a blob of which nothing more was read, with so many crashes; None: none is needed."""
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
