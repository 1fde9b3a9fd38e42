"""Kafka records as frozen values; client messages never leave `libs.common.kafka`.

Values created once per message are `msgspec.Struct`s: creating a frozen dataclass takes ten times as long. Fields form no
cycles, so the garbage collector can ignore them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from libs.common.messages.headers import Headers


class TopicPartition(msgspec.Struct, frozen=True, order=True, gc=False):
    """One partition of one topic."""

    topic: str
    partition: int


class Inbound(msgspec.Struct, frozen=True, gc=False):
    """A record that was read."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def source(self) -> TopicPartition:
        """The partition it came from."""
        return TopicPartition(self.topic, self.partition)


class Outbound(msgspec.Struct, frozen=True):
    """A record to write. Without `partition` the key decides (murmur2).

    `value` may be any other object with the buffer protocol, such as a `pyarrow.Buffer`, which avoids a copy.
    `placed` is called with the record's offset before its transaction ends; rarely not, if a response from Kafka was lost.
    """

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    partition: int | None = None
    placed: Callable[[int], None] | None = None


# Always *next* offsets: the first record that has not been processed.
NextOffsets = Mapping[TopicPartition, int]


class CommitResult(StrEnum):
    """How a transaction ended."""

    COMMITTED = "committed"  # outputs and offsets are durable together
    # Work is repeated from the committed offsets. The listener was told (`rewound` or `revoked`) or, while Kafka is down, will
    # be told by a later `poll` before any record is delivered; until then every commit is aborted.
    ABORTED = "aborted"


class Listener(Protocol):
    """Receives news about partitions, from `Session.poll` and `Session.commit`, in the caller's thread.

    `assigned` and `rewound` may raise `ServerUnreachable` or `Retry`. A later `poll` calls them again, after the delay of the
    `Retry`; no record of these partitions is delivered before.
    """

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Partitions were assigned, and nothing of them has been delivered yet; loading state here is allowed and may block.

        Called without partitions if the group has assigned none to this process.
        """

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Partitions were revoked or lost: forget all uncommitted work on them."""

    def rewound(self, partitions: Collection[TopicPartition]) -> None:
        """Uncommitted work was discarded and will be delivered again from the committed offsets: forget it and reload state."""


class Session(Protocol):
    """A consumer and a transactional producer, used from one thread: read, then commit outputs with next offsets.

    The implementation is `libs.common.kafka.transactions.session.TransactionalSession`. The committed offsets are the only
    truth: after anything ambiguous the session replaces its producer, seeks to them and calls `Listener.rewound`.
    """

    def open(self) -> None:
        """Connect, fence older instances of the same transactional id, subscribe. Raises `ServerUnreachable`."""

    def poll(self, max_records: int, seconds: float) -> list[Inbound]:
        """Return what arrives within `seconds`, at most `max_records`; must be called often, even while paused."""

    def commit(self, outputs: list[Outbound], offsets: NextOffsets) -> CommitResult:
        """Write `outputs` and `offsets` in one transaction; `offsets` may be empty or unchanged: the generation is checked.

        Raises `failures.OutputRefused`, after a rewind as with ABORTED, if an output can never be written. One that is
        too large for its topic ends as ABORTED: the topic's `topic_limits.TopicLimits.room` is then smaller.
        """

    def trouble(self) -> str:
        """Return which co-partitioned topics differ in partition count, so that partitions wait; empty if none do."""

    def owned(self) -> frozenset[TopicPartition]:
        """Return the partitions assigned now."""

    def pause(self) -> None:
        """Stop delivery from all partitions, including ones assigned later, until `resume`."""

    def resume(self) -> None:
        """Resume delivery."""

    def close(self) -> None:
        """Abort open work, leave the group, close clients. Idempotent."""


class StateTable(Protocol):
    """A compacted topic that is followed; see `libs.common.kafka.readers.compacted.CompactedTable`."""

    def open(self) -> None:
        """Start at the beginning."""

    def catch_up(self, timeout: float, between: Callable[[], None]) -> None:
        """Apply everything up to the current end, calling `between` periodically. Raises `ServerUnreachable`."""

    def close(self) -> None:
        """Disconnect."""


MakeTable = Callable[[Callable[[Inbound], None]], StateTable]
"""Returns a table that passes each record to what it is given; not yet open."""
