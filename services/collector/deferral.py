"""Requests that wait until there is room for them: where they are in Kafka, in the order in which they come. Pure.

So a collector reads on while it has enough to do, and finds what is urgent behind thousands of requests that are not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from libs.common.kafka.records import Inbound, TopicPartition

MOST_DEFERRED: Final = 20_000


class DeferredRequest(NamedTuple):
    """A request that waits; they are ordered as they are to be taken in. `size`: of its message, in bytes."""

    rank: int
    order: int
    source: TopicPartition
    offset: int
    key: bytes
    size: int


class DeferredRequests:
    """The requests that wait, by partition and id."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[TopicPartition, bytes], DeferredRequest] = {}
        self._heap: list[DeferredRequest] = []
        self._order = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def is_full(self) -> bool:
        """Return whether to read no further."""
        return len(self._waiting) >= MOST_DEFERRED

    def has(self, source: TopicPartition, key: bytes) -> bool:
        """Return whether the request of that id waits."""
        return (source, key) in self._waiting

    def add(self, record: Inbound, rank: int) -> None:
        """Let a request wait, of which `rank` is the priority as a number: the lowest comes first."""
        self._order += 1
        request = DeferredRequest(rank, self._order, record.source, record.offset, record.key or b"", len(record.value or b""))
        self._waiting[request.source, request.key] = request
        heappush(self._heap, request)

    def precede(self, rank: int) -> bool:
        """Return whether some that wait come before a new request of this rank."""
        first = self._first()
        return first is not None and first.rank <= rank

    def take(self, most: int, most_bytes: int) -> list[DeferredRequest]:
        """Remove and return the next requests: at most so many, and so many bytes, but one at least."""
        return list(self._taken(most, most_bytes))

    def back(self, requests: Collection[DeferredRequest]) -> None:
        """Return what was taken, because it could not be read; it keeps its place."""
        for request in requests:
            self._waiting[request.source, request.key] = request
            heappush(self._heap, request)

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Forget everything about these partitions."""
        self._waiting = {place: request for place, request in self._waiting.items() if place[0] not in partitions}
        self._heap = list(self._waiting.values())
        heapify(self._heap)

    def oldest(self) -> dict[TopicPartition, int]:
        """Return the lowest offset that waits in each partition."""
        found: dict[TopicPartition, int] = {}
        for request in self._waiting.values():
            found[request.source] = min(request.offset, found.get(request.source, request.offset))
        return found

    def _taken(self, most: int, most_bytes: int) -> Iterator[DeferredRequest]:
        size = 0
        for number in range(most):
            first = self._first()
            if first is None or (number and size + first.size > most_bytes):
                return
            size += first.size
            heappop(self._heap)
            del self._waiting[first.source, first.key]
            yield first

    def _first(self) -> DeferredRequest | None:
        return self._heap[0] if self._heap else None
