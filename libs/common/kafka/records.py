"""Kafka records as frozen values; client messages never leave `libs.common.kafka`.

What is made once a message is a `msgspec.Struct`: a frozen dataclass takes ten times as long to make. Fields form no cycles, so
the garbage collector need not look at them.
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
        """Where it came from."""
        return TopicPartition(self.topic, self.partition)


class Outbound(msgspec.Struct, frozen=True):
    """A record to write. Without `partition` the key decides (murmur2).

    `value` may be anything else that the client can take bytes from, such as a `pyarrow.Buffer`: it is not copied before.
    `placed` is told the offset that the record got, before its transaction ends; rarely not, when an answer of Kafka was lost.
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
    # Work comes again from the committed offsets. The listener was told (`rewound` or `revoked`), or, while Kafka is away, will
    # be by a later `poll` before any record is delivered; until then every commit is aborted.
    ABORTED = "aborted"


class Listener(Protocol):
    """Who wants to know about partitions. Calls come from `Session.poll` and `Session.commit`, in the caller's thread.

    `assigned` and `rewound` may raise `ServerUnreachable` or `Retry`. A later `poll` calls them again, after `Retry` only when
    its time is up; no record of these partitions comes before.
    """

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Partitions arrived. Nothing of them has been delivered yet; loading state here is allowed and may block.

        Called with none when the group has given this process no partition.
        """

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Partitions left or were lost: forget all uncommitted work on them."""

    def rewound(self, partitions: Collection[TopicPartition]) -> None:
        """Uncommitted work was thrown away and will be delivered again from the committed offsets: forget it, reload state."""


class Session(Protocol):
    """One consumer and one transactional producer, used from one thread: read, then commit outputs with next offsets.

    The implementation is `libs.common.kafka.transactions.session.TransactionalSession`. The committed offsets are the only
    truth: after anything unclear the session recycles its producer, seeks to them and calls `Listener.rewound`.
    """

    def open(self) -> None:
        """Connect, fence older instances of the same transactional id, subscribe. Raises `ServerUnreachable`."""

    def poll(self, max_records: int, seconds: float) -> list[Inbound]:
        """Return what arrives within `seconds`, at most `max_records`; must be called often, also while paused."""

    def commit(self, outputs: list[Outbound], offsets: NextOffsets) -> CommitResult:
        """Write `outputs` and `offsets` in one transaction; `offsets` may be empty or unmoved: the generation is checked.

        Raises `failures.OutputRefused`, after a rewind as with ABORTED, if an output can never be written. One that is
        too large for its topic ends as ABORTED: the topic's `topic_limits.TopicLimits.room` is then smaller.
        """

    def trouble(self) -> str:
        """Say which topics that belong together do not have equally many partitions, so that some wait; empty if they do."""

    def owned(self) -> frozenset[TopicPartition]:
        """Partitions that are assigned now."""

    def pause(self) -> None:
        """Stop delivery from all partitions, also from those that arrive later, until `resume`."""

    def resume(self) -> None:
        """Deliver again."""

    def close(self) -> None:
        """Abort what is open, leave the group, close clients. Idempotent."""
