"""Announced blobs that have not been read to their end yet, and the offsets that may be committed meanwhile. Pure.

An event is finished when its blob has been read to the end in a look that began after the event had come. Events of one blob
coalesce, so that memory grows with blobs, not with events. The offset of a partition is that of its first unfinished event, or
the one behind the last event if all are finished; checkpoints do not wait for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from libs.common.kafka.records import TopicPartition
from services.ingest.lanes import Answering, Lanes
from services.ingest.work import Announcement

MOST_BLOBS: Final = 50_000
MOST_BLOBS_OF_ACCOUNT: Final = 5_000


@dataclass(slots=True, eq=False)
class Pending:
    """One announced blob."""

    source: TopicPartition
    announcement: Announcement
    oldest: int  # offset of its first unfinished event
    newer: int | None = None  # offset of the first event that came after it was taken
    taken: bool = False
    crashes: int = 0  # of our own code, on this blob


class Backlog:
    """The bookkeeping. Used by one thread."""

    def __init__(self, concurrency: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lanes = Lanes(concurrency)
        self._pending: dict[bytes, Pending] = {}
        self._accounts: Counter[str] = Counter()
        self._positions: dict[TopicPartition, int] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def announce(self, source: TopicPartition, offset: int, announcement: Announcement) -> None:
        """Take in an event about a blob."""
        self._positions[source] = offset + 1
        key = announcement.blob.key
        pending = self._pending.get(key)
        if pending is None:
            self._pending[key] = Pending(source, announcement, oldest=offset)
            self._accounts[announcement.blob.account] += 1
            self._lanes.put(announcement.blob.account, key)
            return
        pending.announcement = pending.announcement.then(announcement)
        if pending.taken and pending.newer is None:
            pending.newer = offset

    def pass_over(self, source: TopicPartition, offset: int) -> None:
        """Take in an event that is finished as it comes."""
        self._positions[source] = offset + 1

    def take(self) -> Pending | None:
        """Return the next blob to work on; it must come back by `finish`, `go_on`, `put_off` or `drop`, once."""
        while (key := self._lanes.take(self._clock())) is not None:
            pending = self._pending.get(key)
            if pending is not None and not pending.taken:
                pending.taken = True
                pending.newer = None
                return pending
            self._lanes.release(key.partition(b"/")[0].decode())  # forgotten meanwhile
        return None

    def is_current(self, pending: Pending) -> bool:
        """Tell whether `pending` has not been forgotten since it was taken."""
        return self._pending.get(pending.announcement.blob.key) is pending

    def finish(self, pending: Pending) -> Answering:
        """Give back a blob that was read to its end."""
        self._settle(pending)
        return self._lanes.succeeded(pending.announcement.blob.account)

    def settle(self, pending: Pending) -> None:
        """Give back a blob of which nothing had to be read; storage was not asked."""
        self._settle(pending)
        self._lanes.release(pending.announcement.blob.account)

    def go_on(self, pending: Pending) -> Answering:
        """Give back a blob that has more to read, behind all others."""
        blob = pending.announcement.blob
        pending.taken = False
        self._lanes.put(blob.account, blob.key)
        return self._lanes.succeeded(blob.account)

    def put_off(self, pending: Pending, after: float) -> Answering:
        """Give back a blob that storage did not answer for."""
        blob = pending.announcement.blob
        now = self._clock()
        seconds = self._lanes.failed(blob.account, now, after)
        if self.is_current(pending):
            pending.taken = False
            self._lanes.put_later(blob.account, blob.key, now + seconds)
        return Answering.NO if self._lanes.resting(blob.account) else Answering.DOUBTFUL

    def drop(self, pending: Pending) -> None:
        """Give back a blob that was forgotten meanwhile."""
        self._lanes.release(pending.announcement.blob.account)

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Forget all about these partitions."""
        for source in partitions:
            self._positions.pop(source, None)
        for pending in [p for p in self._pending.values() if p.source in partitions]:
            self._remove(pending)

    def full(self) -> bool:
        """Tell whether to take in nothing more now. An account that rests may fill more of the room than others."""
        if len(self._pending) >= MOST_BLOBS:
            return True
        return any(n >= MOST_BLOBS_OF_ACCOUNT and not self._lanes.resting(account) for account, n in self._accounts.items())

    def next_offsets(self) -> dict[TopicPartition, int]:
        """Return what may be committed: per partition, the first unfinished event."""
        offsets = dict(self._positions)
        for pending in self._pending.values():
            offsets[pending.source] = min(offsets[pending.source], pending.oldest)
        return offsets

    def _settle(self, pending: Pending) -> None:
        pending.taken = False
        if pending.newer is None:
            self._remove(pending)
        else:
            pending.oldest = pending.newer
            self._lanes.put(pending.announcement.blob.account, pending.announcement.blob.key)

    def _remove(self, pending: Pending) -> None:
        blob = pending.announcement.blob
        del self._pending[blob.key]
        self._accounts[blob.account] -= 1
