"""A compacted topic as services read it, without Kafka."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from libs.common.kafka.records import Inbound
from libs.common.messages.events import BlobCheckpoint, CheckpointStatus, encode_event
from services.ingest.pending.checkpoints import CheckpointPlace, Checkpoints, LoadingTimes, Topic
from services.ingest.pending.places import Times
from tests.blob_container import EPOCH


def beat() -> None:
    """Stay alive."""


class FakeTable:
    """Follows what `records` yields, as `libs.common.kafka.readers.compacted.CompactedTable` follows a topic."""

    def __init__(self, records: Callable[[], Iterator[Inbound]], apply: Callable[[Inbound], None]) -> None:
        self._records = records
        self._apply = apply
        self._next: Iterator[Inbound] = iter(())
        self.partitions: frozenset[int] = frozenset()
        self.is_open = False

    def open(self, partitions: Collection[int], first: int = 0) -> None:
        """Begin."""
        self._next = (record for record in self._records() if record.offset >= first)
        self.partitions = frozenset(partitions)
        self.is_open = True

    def catch_up(self, timeout: float, between: Callable[[], None]) -> None:
        """Apply the rest, one record at a time."""
        self.read_to(sys.maxsize, timeout, between)

    def read_to(self, last: int, timeout: float, between: Callable[[], None]) -> None:
        """Apply what is up to `last`, and the next one, which Kafka brings with it."""
        del timeout
        assert self.is_open
        between()
        for record in self._next:
            self._apply(record)
            between()
            if record.offset >= last:
                break

    def close(self) -> None:
        """End."""
        self.is_open = False


class FakeLookup:
    """Finds what `records` yields, as `libs.common.kafka.readers.lookup.Lookup` does in a topic."""

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


@dataclass
class Log:
    """A partition of the checkpoint topic, and what is kept of it."""

    records: dict[int, Inbound] = field(default_factory=dict)
    end: int = 0
    clock: float = 0.0
    now: float = 0.0
    compacts: bool = True
    readings: int = -1  # of the topic, besides the first
    silent: int = 0  # so many of the next commits, nobody is told where they stand

    def __post_init__(self) -> None:
        self.offsets: dict[bytes, int] = {}
        self.lookup = FakeLookup(self._latest)
        self.checkpoints = self.start()

    def start(self) -> Checkpoints:
        """Load everything anew, as a process that starts."""
        times = Times(lambda: self.clock, lambda: self.now)
        made = Checkpoints(Topic(self._table, self.lookup), LoadingTimes(30.0, 300.0), times)
        self.loaded = made.load([0], beat)
        return made

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock += seconds
        self.now += seconds

    def write(self, name: str, status: CheckpointStatus, offset: int = 1) -> None:
        """Commit a checkpoint, and compact."""
        key = name.encode()
        event = BlobCheckpoint(name, "0123456789abcdef", status, offset, 1, 1, "e", offset, 0, "", EPOCH, EPOCH)
        self.checkpoints.put(0, key, encode_event(event))
        self._append(key, encode_event(event), status)

    def remove(self, name: str) -> None:
        """Commit a tombstone."""
        self.checkpoints.remove(0, name.encode())
        self._append(name.encode(), None, None)

    def get(self, name: str, checkpoints: Checkpoints | None = None) -> BlobCheckpoint | None:
        """Return what is known of a blob."""
        return (checkpoints or self.checkpoints).get(0, name.encode(), beat)

    def _append(self, key: bytes, value: bytes | None, status: CheckpointStatus | None) -> None:
        if self.compacts and key in self.offsets:
            self.records.pop(self.offsets[key], None)
        self.offsets[key] = self.end
        self.records[self.end] = Inbound("t", 0, self.end, 0, key, value, ())
        if self.silent:
            self.silent -= 1
        else:
            self.checkpoints.committed([(key, CheckpointPlace(0, self.end, status))])
        self.end += 2  # a commit marker follows

    def _table(self, apply: Callable[[Inbound], None]) -> FakeTable:
        self.readings += 1
        return FakeTable(lambda: iter(list(self.records.values())), apply)

    def _latest(self) -> Iterable[Inbound]:
        return self.records.values()
