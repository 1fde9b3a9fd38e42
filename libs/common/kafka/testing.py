"""Stand-ins for Kafka in unit tests: a session, a listener that does nothing, and a producer's client.

The session fulfils the contract, including rewinds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from libs.common.errors import Retry
from libs.common.kafka.records import CommitResult, Inbound, Listener, NextOffsets, Outbound, TopicPartition
from libs.common.messages.headers import Headers


@dataclass(frozen=True, slots=True)
class FakeCommit:
    """One transaction that committed."""

    outputs: tuple[Outbound, ...]
    offsets: NextOffsets


class FakeSession:
    """Holds topics in memory. `feed` adds records, `endings` scripts the results of the next commits, `committed` lists them.

    Args:
        listener: called as by the real session.
        partitions: assigned by the first `poll`.
    """

    def __init__(self, listener: Listener, partitions: Collection[TopicPartition]) -> None:
        self._listener = listener
        self._arriving = frozenset(partitions)
        self._rewinding: frozenset[TopicPartition] = frozenset()  # the listener must be called again
        self._owned: frozenset[TopicPartition] = frozenset()
        self._records: dict[TopicPartition, list[Inbound]] = {}
        self._positions: dict[TopicPartition, int] = {}
        self.next_offsets: dict[TopicPartition, int] = {}
        self.committed: list[FakeCommit] = []
        # One per commit; when empty, commits succeed. An exception is raised after the rewind, as by the real session.
        self.endings: deque[CommitResult | Exception] = deque()
        self.is_open = False
        self.is_paused = False
        self.is_troubled_by = ""

    def feed(self, records: Iterable[Inbound]) -> None:
        """Append `records` to their partitions."""
        for record in records:
            self._records.setdefault(record.source, []).append(record)

    def assign(self, partitions: Collection[TopicPartition]) -> None:
        """Assign `partitions` at the next `poll`."""
        self._arriving |= frozenset(partitions)

    def revoke(self, partitions: Collection[TopicPartition]) -> None:
        """Take `partitions` away now."""
        gone = self._owned & frozenset(partitions)
        self._owned -= gone
        self._rewinding -= gone
        self._listener.revoked(gone)

    def outputs(self, topic: str) -> list[Outbound]:
        """Return what was committed to `topic`, in order."""
        return [output for commit in self.committed for output in commit.outputs if output.topic == topic]

    def open(self) -> None:
        """Behave like `Session.open`."""
        self.is_open = True

    def poll(self, max_records: int, seconds: float) -> list[Inbound]:
        """Return at most `max_records`, without waiting. A listener that raises Retry is called again by the next call."""
        del seconds
        if self._rewinding:
            self._rewind(self._rewinding)
        if self._arriving:
            self._begin(self._arriving - self._owned)
        return [] if self.is_paused else self._deliver(max_records)

    def commit(self, outputs: list[Outbound], offsets: NextOffsets) -> CommitResult:
        """Commit, or end as `endings` says; offsets of partitions that are not owned abort."""
        ending = self.endings.popleft() if self.endings else CommitResult.COMMITTED
        if ending is CommitResult.COMMITTED and self._owned and offsets.keys() <= self._owned:
            self.next_offsets.update(offsets)
            self.committed.append(FakeCommit(tuple(outputs), dict(offsets)))
            return CommitResult.COMMITTED
        self._rewind(self._owned)
        if isinstance(ending, Exception):
            raise ending
        return CommitResult.ABORTED

    def trouble(self) -> str:
        """Return what is in `is_troubled_by`."""
        return self.is_troubled_by

    def owned(self) -> frozenset[TopicPartition]:
        """Return what is assigned."""
        return self._owned

    def pause(self) -> None:
        """Deliver nothing."""
        self.is_paused = True

    def resume(self) -> None:
        """Resume delivery."""
        self.is_paused = False

    def close(self) -> None:
        """Close; idempotent."""
        self.is_open = False

    def _begin(self, partitions: frozenset[TopicPartition]) -> None:
        with suppress(Retry):
            self._listener.assigned(partitions)
            self._arriving = frozenset()
            self._owned |= partitions
            self._positions.update({p: self.next_offsets.get(p, 0) for p in partitions})

    def _rewind(self, partitions: frozenset[TopicPartition]) -> None:
        self._rewinding = partitions
        self._positions = {p: self.next_offsets.get(p, 0) for p in self._owned}
        with suppress(Retry):
            self._listener.rewound(partitions)
            self._rewinding = frozenset()

    def _deliver(self, max_records: int) -> list[Inbound]:
        found: list[Inbound] = []
        for partition in sorted(self._owned - self._rewinding):
            waiting = [r for r in self._records.get(partition, []) if r.offset >= self._positions[partition]]
            taken = waiting[: max_records - len(found)]
            if taken:
                self._positions[partition] = taken[-1].offset + 1
                found += taken
        return found


class FakeProducer:
    """A producer's client. Waits acknowledge the records that it holds, unless Kafka is down, and report failures.

    Args:
        room: maximum number of records that it holds.
        answer: returns why a record fails; None if it does not.
    """

    def __init__(self, room: int = 10, answer: Callable[[Outbound], KafkaError | None] = lambda _: None) -> None:
        self._room = room
        self._answer = answer
        self._held: list[tuple[Outbound, Callable[[KafkaError | None, object], None]]] = []
        self.written: list[Outbound] = []
        self.missing: frozenset[str] = frozenset()  # topics that do not exist
        self._named: set[str] = set()
        self.most = 0  # all records so far
        self.now = 0.0  # waits advance the clock
        self.is_away = False

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Any:
        """List all topics that were written to, but for the missing ones."""
        del topic, timeout
        if self.is_away:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))  # noqa: SLF001
        return SimpleNamespace(topics=dict.fromkeys(self._named - self.missing))

    def produce(
        self, topic: str, value: Any = None, key: Any = None, partition: int = -1, on_delivery: Any = None, /, **more: Any
    ) -> None:
        """Hold one record; BufferError if there is no room."""
        if len(self._held) == self._room:
            raise BufferError("Local: Queue full")
        self._named.add(topic)
        record = Outbound(topic, value, key, tuple(more.get("headers", ())), None if partition < 0 else partition)
        self._held.append((record, on_delivery))
        self.most = max(self.most, len(self._held))

    def poll(self, timeout: float, /) -> int:
        """Let Kafka accept one record."""
        self.now += timeout
        return self._take(1)

    def flush(self, timeout: float, /) -> int:
        """Let Kafka accept all records."""
        self.now += timeout
        self._take(len(self._held))
        return len(self._held)

    def _take(self, count: int) -> int:
        if self.is_away:
            return 0
        taken, self._held = self._held[:count], self._held[count:]
        for record, report in taken:
            error = self._answer(record)
            if error is None:
                self.written.append(record)
            else:
                report(error, None)
        return len(taken)

    def __len__(self) -> int:
        return len(self._held)


class SilentListener:
    """Does nothing."""

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Do nothing."""

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Do nothing."""

    def rewound(self, partitions: Collection[TopicPartition]) -> None:
        """Do nothing."""


def record(topic: str, partition: int, offset: int, value: bytes | None = b"", headers: Headers = ()) -> Inbound:
    """Return an inbound record for tests."""
    return Inbound(topic, partition, offset, timestamp_ms=0, key=None, value=value, headers=headers)
