"""A compacted topic as services read it, without Kafka."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from libs.common.kafka.records import Inbound


class FakeTable:
    """Follows what `records` yields, as `libs.common.kafka.compacted.CompactedTable` follows a topic."""

    def __init__(self, records: Callable[[], Iterator[Inbound]], apply: Callable[[Inbound], None]) -> None:
        self._records = records
        self._apply = apply
        self._next: Iterator[Inbound] = iter(())
        self.partitions: frozenset[int] = frozenset()
        self.is_open = False

    def open(self, partitions: Collection[int]) -> None:
        """Begin."""
        self._next = self._records()
        self.partitions = frozenset(partitions)
        self.is_open = True

    def catch_up(self, timeout: float, between: Callable[[], None]) -> None:
        """Apply the rest, one record a go."""
        del timeout
        assert self.is_open
        between()
        for record in self._next:
            self._apply(record)
            between()

    def close(self) -> None:
        """End."""
        self.is_open = False


class FakeLookup:
    """Finds what `records` yields, as `libs.common.kafka.lookup.Lookup` does in a topic."""

    def __init__(self, records: Callable[[], Iterable[Inbound]]) -> None:
        self._records = records
        self.asked: list[tuple[int, int]] = []

    def read(self, partition: int, offset: int, seconds: float) -> Inbound | None:
        """Return the record at `offset`."""
        del seconds
        self.asked.append((partition, offset))
        return next((r for r in self._records() if (r.partition, r.offset) == (partition, offset)), None)

    def close(self) -> None:
        """End."""
