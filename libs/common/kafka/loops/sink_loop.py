"""The loop of a service that carries records out of Kafka: at least once, in batches, with offsets committed after the write.

A batch is handled until it is durable. Then its dead letters are written and acknowledged, and then its next offsets are
committed. On `Retry` from the handler, the loop pauses the partitions, keeps polling to stay in the group, and hands over the
same batch again. A handler that waits long for its destination beats in the meantime, which also keeps the membership. A commit
that fails because partitions move is not an error: the records are delivered again, here or elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from libs.common.kafka.client import metrics
from libs.common.kafka.client.configs import check_reachable
from libs.common.kafka.group.consumer import GroupConsumer
from libs.common.kafka.group.membership import GroupSpec
from libs.common.kafka.group.offsets import next_offsets
from libs.common.kafka.loops.batching import Collector, PollPolicy
from libs.common.kafka.loops.dead_letter_writer import DeadLetterWriter
from libs.common.kafka.loops.limit import SMALLEST_SAMPLE_OF_SINKS, RejectionLimit
from libs.common.kafka.loops.waiting import Held, Pausable, Reason, Waiting
from libs.common.kafka.records import Inbound, NextOffsets, TopicPartition
from libs.common.messages.dead_letters import DeadLetter
from libs.common.process.health import NO_PARTITIONS, Health, Need
from libs.common.process.service import Stop
from libs.common.process.watch import Watch
from libs.common.settings.kafka import KafkaSettings

__all__ = ["BatchHandler", "Handled", "PollPolicy", "SinkLoop", "SinkLoopSpec"]

_LETTERS_AT_ONCE: Final = 1_000
_LETTER_BYTES_AT_ONCE: Final = 4_194_304
_FOR_DESTINATION: Final = Reason("a batch is waiting for its destination", Need.DESTINATION, metrics.RETRIES)


@dataclass(frozen=True, slots=True)
class Handled:
    """The result of a batch: everything is durable except what is rejected.

    Attributes:
        rejected: dead letters for the errors topic. They are iterated once, and may be made only then: if everything is
            rejected, they need many times the memory of the batch.
        records: number of records tried; 0: the number of messages.
        refused: number of records in `rejected`; 0: one per letter.
    """

    rejected: Collection[DeadLetter] = ()
    records: int = 0
    refused: int = 0


class BatchHandler(Protocol):
    """Writes batches. Called from one thread."""

    def open(self) -> None:
        """Connect; may raise."""

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Receive the callback that `handle` must call every few seconds while it waits; it may call `revoked`."""

    def handle(self, batch: Sequence[Inbound]) -> Handled:
        """Make `batch` durable; it may have been handled before. Raises Retry if the world is at fault."""

    def tick(self) -> None:
        """Do time-based work. Called several times a second between batches."""

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Release `partitions`."""

    def close(self) -> None:
        """Close connections. Idempotent."""


@dataclass(frozen=True, slots=True)
class SinkLoopSpec:
    """What to read, and when to stop. `dead_letter_limit` is a share of records, 0 to 1."""

    group: str
    topics: tuple[str, ...]
    errors_topic: str
    policy: PollPolicy
    dead_letter_limit: float


class SinkLoop:
    """A `libs.common.process.service.Service`. Nothing happens before `run`."""

    def __init__(
        self,
        kafka: KafkaSettings,
        spec: SinkLoopSpec,
        handler: BatchHandler,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kafka = kafka
        self._spec = spec
        self._handler = handler
        self._clock = clock

    def run(self, stop: Stop, health: Health) -> None:
        """Work until `stop` is set. What is held then is delivered again.

        Raises:
            ServerUnreachable, ConfigError: Kafka, a topic or the destination is missing at start-up.
            DeadLetterLimit: the destination refuses too much.
        """
        health.not_ready(NO_PARTITIONS)
        check_reachable(self._kafka, (*self._spec.topics, self._spec.errors_topic))
        held = Held()
        listener = SinkListener(self._handler, held, health)
        consumer = GroupConsumer(self._kafka, GroupSpec(self._spec.group, self._spec.topics), listener)
        letters = DeadLetterWriter(self._kafka, self._spec.errors_topic)
        work = SinkWork(SinkParts(self._handler, consumer, letters, held), self._spec, self._clock)
        try:
            letters.open()
            self._handler.open()
            consumer.open()
            work.run(stop, health)
        finally:
            consumer.close()
            letters.close()
            self._handler.close()


class RecordSource(Pausable, Protocol):
    """The consumer; see `GroupConsumer`."""

    def commit(self, offsets: NextOffsets) -> None:
        """Commit, without waiting."""


class Letters(Protocol):
    """The destination of dead letters; see `DeadLetterWriter`."""

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """Make them durable or raise Retry."""


class SinkListener:
    """The consumer's listener: forgets revoked partitions and tells the handler."""

    def __init__(self, handler: BatchHandler, held: Held, health: Health) -> None:
        self._handler = handler
        self._held = held
        self._health = health

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Report ready."""
        del partitions
        self._health.ready()

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Forget and tell the handler; partitions that remain are assigned anew, unless Kafka is down."""
        self._health.not_ready(NO_PARTITIONS)
        self._held.forget(partitions)
        self._handler.revoked(partitions)

    def rewound(self, partitions: Collection[TopicPartition]) -> None:
        """Forget."""
        self._held.forget(partitions)


@dataclass(frozen=True, slots=True)
class SinkParts:
    """The parts that the loop uses."""

    handler: BatchHandler
    source: RecordSource
    letters: Letters
    held: Held


class SinkWork:
    """The loop itself, over open parts."""

    def __init__(self, parts: SinkParts, spec: SinkLoopSpec, clock: Callable[[], float]) -> None:
        self._parts = parts
        self._clock = clock
        self._limit = RejectionLimit(spec.dead_letter_limit, smallest=SMALLEST_SAMPLE_OF_SINKS)
        self._collector = parts.held.collector = Collector(parts.source.poll, spec.policy, clock)

    def run(self, stop: Stop, health: Health) -> None:
        """Collect and settle batches until `stop` is set."""
        waiting = Waiting(self._parts.source, self._collector, _FOR_DESTINATION, Watch(stop, health), self._clock)
        self._parts.handler.while_waiting(waiting.stay)
        while not stop.is_set():
            health.beat()
            self._parts.handler.tick()
            if batch := self._collector.step():
                self._settle(batch, waiting)

    def _settle(self, batch: list[Inbound], waiting: Waiting) -> None:
        """Make `batch` durable, then its dead letters, then commit the offsets that are still ours."""
        held = self._parts.held
        held.batch = batch
        handled = waiting.until_done(lambda: self._parts.handler.handle(held.batch), lambda: held.batch)
        if handled is not None:
            self._limit.check(handled.records or len(batch), handled.refused or len(handled.rejected))
            if self._all_written(handled.rejected, waiting) and held.batch:
                self._parts.source.commit(next_offsets(held.batch))
        held.batch = []

    def _all_written(self, letters: Iterable[DeadLetter], waiting: Waiting) -> bool:
        """Write `letters`, some at a time; return whether nothing came in between."""
        held = self._parts.held
        return all(
            waiting.until_done(partial(self._write, some), lambda: held.batch) is not None for some in _portions(letters)
        )

    def _write(self, letters: Sequence[DeadLetter]) -> bool:
        self._parts.letters.write(letters)
        return True


def _portions(letters: Iterable[DeadLetter]) -> Iterator[list[DeadLetter]]:
    """Divide letters into portions that need little memory."""
    portion: list[DeadLetter] = []
    size = 0
    for letter in letters:
        portion.append(letter)
        size += len(letter.data)
        if len(portion) >= _LETTERS_AT_ONCE or size >= _LETTER_BYTES_AT_ONCE:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
