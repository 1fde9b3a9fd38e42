"""Requests that are being worked on, which call is next, and the offsets that may be committed meanwhile. Pure.

A request is over when all its calls have ended. The offset of a partition is that of its oldest request that is not over. Calls
of a higher priority come first; among equals, those that have begun, so that their pages do not expire. When there are enough
requests, others wait with nothing but their places in memory, except some that are urgent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Final

from libs.common.azure.arm.pages import ListCursor
from libs.common.kafka.records import Inbound, TopicPartition
from libs.common.settings.collector import Priority
from services.collector.deferral import DeferredRequest, DeferredRequests
from services.collector.progress import CallOutcome, CallPlace, RequestProgress
from services.collector.requests.items import WorkItem
from services.collector.requests.schema import CollectionRequest

MOST_REQUESTS: Final = 1_000
AT_ONCE: Final = 100  # that have waited
MOST_BYTES: Final = 4_194_304  # of messages; what they hold takes many times as much
MORE_REQUESTS: Final = 100  # that are urgent
MORE_BYTES: Final = 1_048_576
_RANKS: Final = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.LOW: 2}


@dataclass(slots=True, eq=False)
class PendingRequest:
    """A request that is not over; `defaults` are values that it left open, and got from the collector."""

    record: Inbound
    request: CollectionRequest
    calls: int
    ended: dict[int, CallOutcome]  # by number of the call
    open: dict[int, PendingCall] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> bytes:
        """Key of its records in Kafka."""
        return self.request.message_id.encode()

    def progress(self) -> RequestProgress:
        """Return how far it has come."""
        places = {index: call.place() for index, call in self.open.items() if call.has_begun}
        outcomes = {index: outcome for index, outcome in self.ended.items() if outcome.status}
        return RequestProgress(self.calls, tuple(sorted(self.ended)), places, outcomes, defaults=self.defaults)


@dataclass(slots=True, eq=False)
class PendingCall:
    """A call that has not ended.

    Attributes:
        cursor: the place of its next page.
        waited: seconds so far.
        since: when Azure began not to answer it, in seconds since the epoch; 0 if it does.
    """

    pending: PendingRequest
    item: WorkItem
    cursor: ListCursor
    waited: float
    since: float

    @property
    def has_begun(self) -> bool:
        """Whether there is something to remember of it."""
        return self.cursor != ListCursor() or bool(self.since)

    def place(self) -> CallPlace:
        """Return what to remember of it."""
        return CallPlace(self.cursor, self.waited, self.since)


class RequestBacklog:
    """The bookkeeping. Not thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.deferred = DeferredRequests()
        self._requests: dict[tuple[TopicPartition, bytes], PendingRequest] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._bytes = 0
        self._order = count()
        self._ready: list[tuple[int, bool, int, PendingCall]] = []  # heap
        self._later: list[tuple[float, int, PendingCall]] = []  # heap

    def __len__(self) -> int:
        return sum(len(pending.open) for pending in self._requests.values())

    @property
    def put_off(self) -> int:
        """How many calls wait for Azure."""
        return sum(self.is_current(call) for _, _, call in self._later)

    def is_full(self) -> bool:
        """Return whether there are enough requests."""
        return len(self._requests) >= MOST_REQUESTS or self._bytes >= MOST_BYTES

    def has(self, source: TopicPartition, key: bytes) -> bool:
        """Return whether the request of that id is being worked on, or waits."""
        return (source, key) in self._requests or self.deferred.has(source, key)

    def admits(self, priority: Priority) -> bool:
        """Return whether a new request of this priority is to be taken in; otherwise `defer` it."""
        if self.deferred.precede(_RANKS[priority]):
            return False
        more = (MORE_REQUESTS, MORE_BYTES) if priority is Priority.HIGH else (0, 0)
        return len(self._requests) < MOST_REQUESTS + more[0] and self._bytes < MOST_BYTES + more[1]

    def defer(self, record: Inbound, priority: Priority) -> None:
        """Let a request wait."""
        self.pass_over(record)
        self.deferred.add(record, _RANKS[priority])

    def readmit(self) -> list[DeferredRequest]:
        """Return requests that have waited, once there is room for a number of them."""
        room, room_bytes = MOST_REQUESTS - len(self._requests), MOST_BYTES - self._bytes
        if room < AT_ONCE or room_bytes < MOST_BYTES // 4:
            return []
        return self.deferred.take(AT_ONCE, room_bytes)

    def pass_over(self, record: Inbound) -> None:
        """Note a record that needs no work now."""
        self._positions[record.source] = max(record.offset + 1, self._positions.get(record.source, 0))

    def add(self, pending: PendingRequest, items: Iterable[WorkItem], progress: RequestProgress) -> None:
        """Add a request with those of its calls that have not ended."""
        self.pass_over(pending.record)
        self._requests[pending.record.source, pending.key] = pending
        self._bytes += len(pending.record.value or b"")
        for item in items:
            place = progress.places.get(item.index, CallPlace())
            call = PendingCall(pending, item, place.cursor, place.waited, place.since)
            pending.open[item.index] = call
            self._put(call)

    def take(self) -> PendingCall | None:
        """Return the next call to work on. Return it with `again`, `end` or, if it is no longer current, not at all."""
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            self._put(heappop(self._later)[2])
        while self._ready:
            call = heappop(self._ready)[3]
            if self.is_current(call):
                return call
        return None

    def again(self, call: PendingCall, after: float = 0.0) -> None:
        """Return a call that has not ended, to be continued after some seconds."""
        if after > 0:
            heappush(self._later, (self._clock() + after, next(self._order), call))
        else:
            self._put(call)

    def end(self, call: PendingCall, outcome: CallOutcome) -> bool:
        """Return a call that has ended; tell whether its request is over with it."""
        pending = call.pending
        del pending.open[call.item.index]
        pending.ended[call.item.index] = outcome.shortened()
        return self.settle(pending)

    def settle(self, pending: PendingRequest) -> bool:
        """Forget a request if it is over; tell whether it is."""
        if pending.open:
            return False
        del self._requests[pending.record.source, pending.key]
        self._bytes -= len(pending.record.value or b"")
        return True

    def is_current(self, call: PendingCall) -> bool:
        """Return whether a call has neither ended nor been forgotten."""
        pending = call.pending
        known = self._requests.get((pending.record.source, pending.key))
        return known is pending and pending.open.get(call.item.index) is call

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Forget everything about these partitions."""
        self.deferred.forget(partitions)
        for source in partitions:
            self._positions.pop(source, None)
        for place, pending in list(self._requests.items()):
            if place[0] in partitions:
                del self._requests[place]
                self._bytes -= len(pending.record.value or b"")
        self._ready = [entry for entry in self._ready if self.is_current(entry[3])]
        self._later = [entry for entry in self._later if self.is_current(entry[2])]
        self._ready.sort()
        self._later.sort()

    def next_offsets(self) -> dict[TopicPartition, int]:
        """Return the offsets that may be committed: per partition, that of the oldest request that is not over."""
        offsets = self._positions | self.deferred.oldest()
        for pending in self._requests.values():
            source = pending.record.source
            offsets[source] = min(offsets[source], pending.record.offset)
        return offsets

    def _put(self, call: PendingCall) -> None:
        rank = _RANKS[call.pending.request.priority]
        heappush(self._ready, (rank, not call.has_begun, next(self._order), call))
