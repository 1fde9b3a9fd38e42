"""The loop of a service that carries records out of Kafka: at least once, in batches, offsets after the write.

A batch is handled until it is durable. Then its dead letters are written and acknowledged, then its next offsets are committed.
`Retry` from the handler pauses the partitions, keeps polling so that the group membership lives, and hands over the same batch
again. A handler that waits long for its destination beats meanwhile, which keeps the membership likewise. A commit that fails
because partitions move is no error: the records come again, here or elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeVar

import structlog

from libs.common.errors import Retry
from libs.common.kafka import metrics
from libs.common.kafka.batching import Collector, PollPolicy
from libs.common.kafka.client import check_reachable
from libs.common.kafka.consumer import GroupConsumer, GroupSpec
from libs.common.kafka.dead_letter_writer import DeadLetterWriter
from libs.common.kafka.limit import SMALLEST_SAMPLE_OF_SINKS, RejectionLimit
from libs.common.kafka.offsets import next_offsets
from libs.common.kafka.records import Inbound, NextOffsets, TopicPartition
from libs.common.kafka.throttle import Throttle
from libs.common.messages.dead_letters import DeadLetter
from libs.common.process.health import NO_PARTITIONS, Health, Need
from libs.common.process.service import Stop
from libs.common.settings.kafka import KafkaSettings

__all__ = ["BatchHandler", "Handled", "PollPolicy", "SinkLoop", "SinkLoopSpec"]

log = structlog.get_logger(__name__)

WAITING_SLICE_SECONDS: Final = 0.2
# Half of the least that max_poll_interval_ms may be. Not at every beat: a pause throws away what was fetched ahead.
_POLL_AT_LEAST_SECONDS: Final = 5.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Handled:
    """What became of a batch: everything is durable except what is rejected.

    Attributes:
        rejected: what goes to the errors topic.
        records: how many records were tried; 0 counts the messages.
        refused: how many of these are in `rejected`; 0 counts one a letter.
    """

    rejected: tuple[DeadLetter, ...] = ()
    records: int = 0
    refused: int = 0


class BatchHandler(Protocol):
    """Who writes. Called from one thread."""

    def open(self) -> None:
        """Connect; may raise."""

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Take what `handle` calls every few seconds while it waits; it may call `revoked`. Called before the first batch."""

    def handle(self, batch: Sequence[Inbound]) -> Handled:
        """Make `batch` durable; it may have been handled before. Raises Retry if the world is at fault."""

    def tick(self) -> None:
        """Do what is due by time. Called several times a second between batches."""

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Let go of `partitions`."""

    def close(self) -> None:
        """Close connections. Idempotent."""


@dataclass(frozen=True, slots=True)
class SinkLoopSpec:
    """Who reads what, and when to stop. `dead_letter_limit` is a share of records, 0 to 1."""

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
        """Work until `stop` is set. What is held then comes again.

        Raises:
            ServerUnreachable, ConfigError: Kafka, a topic or the destination is not there at the start.
            DeadLetterLimit: the destination refuses too much.
        """
        health.not_ready(NO_PARTITIONS)
        check_reachable(self._kafka, (*self._spec.topics, self._spec.errors_topic))
        listener = Held(self._handler, health)
        consumer = GroupConsumer(self._kafka, GroupSpec(self._spec.group, self._spec.topics), listener)
        letters = DeadLetterWriter(self._kafka, self._spec.errors_topic)
        work = SinkWork(SinkParts(self._handler, consumer, letters, listener), self._spec, self._clock)
        try:
            letters.open()
            self._handler.open()
            consumer.open()
            work.run(stop, health)
        finally:
            consumer.close()
            letters.close()
            self._handler.close()


class Source(Protocol):
    """The consumer's side; `GroupConsumer`."""

    def poll(self, max_records: int, seconds: float) -> list[Inbound]:
        """Return what arrives."""

    def pause(self) -> None:
        """Deliver nothing."""

    def resume(self) -> None:
        """Deliver again."""

    def commit(self, offsets: NextOffsets) -> None:
        """Commit, without waiting."""


class Letters(Protocol):
    """Where dead letters go; `DeadLetterWriter`."""

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """Make them durable or raise Retry."""


class Held:
    """What is delivered and not committed. It is the consumer's listener: what leaves is forgotten, and the handler is told."""

    def __init__(self, handler: BatchHandler, health: Health) -> None:
        self._handler = handler
        self._health = health
        self.batch: list[Inbound] = []
        self.collector: Collector | None = None

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Say that work can be done."""
        del partitions
        self._health.ready()

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Forget and tell the handler; what stays is assigned anew, or Kafka is away."""
        self._health.not_ready(NO_PARTITIONS)
        self.rewound(partitions)
        self._handler.revoked(partitions)

    def rewound(self, partitions: Collection[TopicPartition]) -> None:
        """Forget."""
        self.batch = [record for record in self.batch if record.source not in partitions]
        if self.collector is not None:
            self.collector.forget(partitions)


@dataclass(frozen=True, slots=True)
class SinkParts:
    """What the loop works with."""

    handler: BatchHandler
    source: Source
    letters: Letters
    held: Held


class SinkWork:
    """The loop itself, over parts that are open."""

    def __init__(self, parts: SinkParts, spec: SinkLoopSpec, clock: Callable[[], float]) -> None:
        self._parts = parts
        self._clock = clock
        self._limit = RejectionLimit(spec.dead_letter_limit, smallest=SMALLEST_SAMPLE_OF_SINKS)
        self._throttle = Throttle(clock)
        self._polled_at = clock()
        self._collector = parts.held.collector = Collector(parts.source.poll, spec.policy, clock)

    def run(self, stop: Stop, health: Health) -> None:
        """Collect, settle, until `stop` is set."""
        self._parts.handler.while_waiting(partial(self._stay, health))
        while not stop.is_set():
            health.beat()
            self._parts.handler.tick()
            if batch := self._collector.step():
                self._settle(batch, stop, health)

    def _settle(self, batch: list[Inbound], stop: Stop, health: Health) -> None:
        """Make `batch` durable, then its dead letters, then commit what is still ours."""
        held = self._parts.held
        held.batch = batch
        handled = self._until_done(lambda: self._parts.handler.handle(held.batch), stop, health)
        if handled is not None:
            self._limit.check(handled.records or len(batch), handled.refused or len(handled.rejected))
            if self._until_done(lambda: self._write(handled.rejected), stop, health) and held.batch:
                self._parts.source.commit(next_offsets(held.batch))
        held.batch = []

    def _write(self, letters: Sequence[DeadLetter]) -> bool:
        self._parts.letters.write(letters)
        return True

    def _until_done(self, action: Callable[[], T], stop: Stop, health: Health) -> T | None:
        """Repeat `action` while it raises Retry; None if it was not done when `stop` was set or nothing was left to do it for.

        It is tried once in any case: what was written before a stop is still committed.
        """
        while self._parts.held.batch:
            health.beat()
            self._polled_at = self._clock()
            try:
                done = action()
            except Retry as retry:
                metrics.RETRIES.inc()
                self._tell(retry)
                health.not_ready(f"batch waits for its destination: {retry}", Need.DESTINATION)
                self._wait(retry.after, stop, health)
                if stop.is_set():
                    return None
            else:
                health.ready(Need.DESTINATION)
                return done
        health.ready(Need.DESTINATION)  # as far as is known
        return None

    def _wait(self, seconds: float, stop: Stop, health: Health) -> None:
        """Stay in the group without taking more; a record that was already under way is kept for the next batch."""
        until = self._clock() + seconds
        self._parts.source.pause()
        while self._clock() < until and not stop.is_set():
            health.beat()
            self._collector.add(self._parts.source.poll(1, min(WAITING_SLICE_SECONDS, max(0.0, until - self._clock()))))
        self._parts.source.resume()

    def _stay(self, health: Health) -> None:
        """Show that the process is alive, and stay in the group, from inside a long `handle`."""
        health.beat()
        if self._clock() - self._polled_at >= _POLL_AT_LEAST_SECONDS:
            self._parts.source.pause()
            self._collector.add(self._parts.source.poll(1, 0.0))
            self._parts.source.resume()
            self._polled_at = self._clock()

    def _tell(self, retry: Retry) -> None:
        if self._throttle.admits():
            log.warning(
                "batch waits for its destination",
                reason=str(retry),
                retry_seconds=retry.after,
                similar_lines=self._throttle.take_swallowed(),
            )
