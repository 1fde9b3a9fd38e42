"""Announced blobs not yet read completely, and the offsets that may be committed in the meantime. Pure.

An event is finished when its blob has been read completely by a step that began after the event arrived. Events of one blob
coalesce, so that memory grows with blobs, not with events. The offset of a partition is that of its first unfinished event, or
the one after the last event if all are finished; checkpoints do not wait for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from libs.common.kafka.records import TopicPartition
from libs.common.work.fair_queues import Answering, FairQueues
from services.ingest.work import Announcement

MOST_BLOBS: Final = 50_000
MOST_BLOBS_OF_ACCOUNT: Final = 5_000
LONGEST_WAIT_SECONDS: Final = 300.0  # of one blob, unless storage asks for more


@dataclass(frozen=True, slots=True)
class Arrival:
    """The position and time of an event in Kafka."""

    offset: int
    at: float  # seconds since the epoch


@dataclass(slots=True, eq=False)
class PendingBlob:
    """One announced blob."""

    source: TopicPartition
    announcement: Announcement
    oldest: Arrival  # its first unfinished event
    newer: Arrival | None = None  # the first event that arrived after it was taken
    taken: bool = False
    failures: int = 0  # in a row: refusals by storage, and versions that changed during reading
    wanted: int = 0  # bytes that the next step must read at once; 0: its usual allowance


class Backlog:
    """The bookkeeping. Not thread-safe."""

    def __init__(self, concurrency: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._queues = FairQueues(concurrency)
        self._pending: dict[bytes, PendingBlob] = {}
        self._aside: list[PendingBlob] = []
        self._accounts: Counter[str] = Counter()
        self._positions: dict[TopicPartition, int] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def announce(self, source: TopicPartition, arrival: Arrival, announcement: Announcement) -> None:
        """Add an event about a blob."""
        self._positions[source] = arrival.offset + 1
        key = announcement.blob.key
        pending = self._pending.get(key)
        if pending is None:
            self._pending[key] = PendingBlob(source, announcement, oldest=arrival)
            self._accounts[announcement.blob.account] += 1
            self._queues.put(announcement.blob.account, key)
            return
        pending.announcement = pending.announcement.then(announcement)
        if pending.taken and pending.newer is None:
            pending.newer = arrival

    def pass_over(self, source: TopicPartition, offset: int) -> None:
        """Add an event that needs no work."""
        self._positions[source] = offset + 1

    def take(self, admits: Callable[[str], bool] = lambda _: True) -> PendingBlob | None:
        """Return the next blob to work on, from an account that `admits` allows to start another.

        Return it exactly once: with `finish`, `settle`, `go_on`, `go_on_soon`, `set_aside`, `put_off`, `turn_away` or `drop`.
        """
        key = self._queues.take(self._clock(), admits)
        if key is None:
            return None
        pending = self._pending[key]
        pending.taken = True
        pending.newer = None
        return pending

    def doubtful(self, account: str) -> bool:
        """Return whether storage failed to respond for the account last time."""
        return self._queues.doubtful(account)

    def is_announced(self, key: bytes) -> bool:
        """Return whether there is pending work for this blob."""
        return key in self._pending

    def is_current(self, pending: PendingBlob) -> bool:
        """Return whether `pending` has not been forgotten since it was taken."""
        return self._pending.get(pending.announcement.blob.key) is pending

    def finish(self, pending: PendingBlob) -> Answering:
        """Return a blob that was read completely."""
        self._settle(pending)
        return self._queues.succeeded(pending.announcement.blob.account)

    def settle(self, pending: PendingBlob) -> None:
        """Return a blob of which nothing had to be read, without contacting storage."""
        self._settle(pending)
        self._queues.release(pending.announcement.blob.account)

    def go_on(self, pending: PendingBlob) -> Answering:
        """Return a blob that has more to read, to the end of the queue."""
        blob = pending.announcement.blob
        pending.taken = False
        self._queues.put(blob.account, blob.key)
        return self._queues.succeeded(blob.account)

    def go_on_soon(self, pending: PendingBlob) -> Answering:
        """Return a blob that has more to read, to the front of its account's queue."""
        blob = pending.announcement.blob
        pending.taken = False
        self._queues.put_first(blob.account, blob.key)
        return self._queues.succeeded(blob.account)

    def set_aside(self, pending: PendingBlob) -> None:
        """Return a blob until `resume`, without contacting storage."""
        pending.taken = False
        self._aside.append(pending)
        self._queues.release(pending.announcement.blob.account)

    def postpone(self, pending: PendingBlob, seconds: float) -> None:
        """Return a blob for `seconds`, without contacting storage."""
        self._later(pending, seconds)
        self._queues.release(pending.announcement.blob.account)

    def resume(self) -> None:
        """Queue the blobs that were set aside."""
        for pending in self._aside:
            if self.is_current(pending):
                self._queues.put(pending.announcement.blob.account, pending.announcement.blob.key)
        self._aside.clear()

    def put_off(self, pending: PendingBlob, after: float) -> Answering:
        """Return a blob for which storage did not respond."""
        account = pending.announcement.blob.account
        self._later(pending, self._queues.failed(account, self._clock(), after))
        return Answering.NO if self._queues.resting(account) else Answering.DOUBTFUL

    def turn_away(self, pending: PendingBlob, after: float) -> Answering:
        """Return a blob that cannot be read now although storage responds; others of its account continue."""
        pending.failures += 1
        self._later(pending, max(after, min(LONGEST_WAIT_SECONDS, 2.0 ** min(pending.failures, 9))))
        return self._queues.refused(pending.announcement.blob.account, self._clock())

    def drop(self, pending: PendingBlob) -> None:
        """Return a blob that was forgotten in the meantime."""
        self._queues.release(pending.announcement.blob.account)

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Forget everything about these partitions."""
        for source in partitions:
            self._positions.pop(source, None)
        gone = [pending for pending in self._pending.values() if pending.source in partitions]
        for pending in gone:
            self._remove(pending)
        self._queues.forget({pending.announcement.blob.key for pending in gone})

    def full(self) -> bool:
        """Return whether to stop taking in events. Resting or waiting blobs may fill more of the room than others."""
        if len(self._pending) >= MOST_BLOBS:
            return True
        return any(
            n - self._queues.waiting(account) >= MOST_BLOBS_OF_ACCOUNT and not self._queues.resting(account)
            for account, n in self._accounts.items()
        )

    def starved_by(self) -> list[str]:
        """Return the accounts of all announced blobs if none of them delivers anything now; otherwise none."""
        accounts = sorted(account for account, blobs in self._accounts.items() if blobs)
        return accounts if all(self._queues.gives_nothing(account) for account in accounts) else []

    def next_offsets(self) -> dict[TopicPartition, int]:
        """Return the offsets that may be committed: per partition, the first unfinished event."""
        offsets = dict(self._positions)
        for pending in self._pending.values():
            offsets[pending.source] = min(offsets[pending.source], pending.oldest.offset)
        return offsets

    def _later(self, pending: PendingBlob, seconds: float) -> None:
        blob = pending.announcement.blob
        if self.is_current(pending):
            pending.taken = False
            self._queues.put_later(blob.account, blob.key, self._clock() + seconds)

    def _settle(self, pending: PendingBlob) -> None:
        pending.taken = False
        if pending.newer is None:
            self._remove(pending)
        else:
            pending.oldest = pending.newer
            self._queues.put(pending.announcement.blob.account, pending.announcement.blob.key)

    def _remove(self, pending: PendingBlob) -> None:
        blob = pending.announcement.blob
        del self._pending[blob.key]
        self._accounts[blob.account] -= 1
