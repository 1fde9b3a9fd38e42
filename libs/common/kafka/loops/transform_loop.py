"""The loop of a service that turns records into records, exactly once.

The loop collects a batch, calls `Transform.handle`, and commits its outputs with the next offsets in one transaction. A record
on which `handle` raises, or whose output Kafka refuses, is found by halving the batch; it alone goes to the errors topic, with
its original bytes, in the transaction that moves past it. Too many of them in a row stop the service.

A `Retry` from the transform blames no record: the world is at fault. The loop stays in the group, without an open transaction,
and then tries the same again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Final, Protocol

import structlog

from libs.common.errors import ConfigError, DeadLetterLimit, Retry, ServerUnreachable
from libs.common.kafka.client import metrics
from libs.common.kafka.client.failures import OutputRefused
from libs.common.kafka.client.throttle import Throttle
from libs.common.kafka.group.offsets import next_offsets
from libs.common.kafka.loops.batching import Collector, PollPolicy
from libs.common.kafka.loops.dead_messages import dead_message
from libs.common.kafka.loops.isolation import Isolation
from libs.common.kafka.loops.limit import RejectionLimit
from libs.common.kafka.loops.waiting import Held, Reason, Waiting
from libs.common.kafka.records import CommitResult, Inbound, Listener, Outbound, Session, TopicPartition
from libs.common.messages.dead_letters import ErrorCode
from libs.common.process.crash import crash_point
from libs.common.process.health import NO_PARTITIONS, Health, Need
from libs.common.process.service import Stop
from libs.common.process.watch import Watch

__all__ = ["PollPolicy", "Transform", "TransformLoop"]

log = structlog.get_logger(__name__)

# A bug that affects every record soon stops the service; single bad records among good ones never do.
CRASHES_IN_A_ROW: Final = 20

_Hear = Callable[[Collection[TopicPartition], Callable[[], None]], None]

_FOR_OTHERS: Final = Reason("work waits", Need.OTHERS, metrics.WORK_RETRIES)


class Transform(Protocol):
    """A service's work on records. May be called repeatedly with the same records, or with parts of a batch.

    Subclasses need not define methods that they do not need.

    `handle`, `assigned`, `rewound` and `tick` may raise `Retry`: they are called again after `Retry.after` seconds, and the
    process is not ready until they return. Partitions may come and go between the two calls.
    """

    def handle(self, batch: Sequence[Inbound]) -> list[Outbound]:
        """Return the outputs of `batch`. Raising anything except `Retry` is a bug, and dead-letters the record at fault."""

    def committed(self) -> None:
        """Record that the last outputs of `handle` were committed; otherwise the same records are delivered again."""

    def assigned(self, partitions: Collection[TopicPartition], between: Callable[[], None]) -> None:
        """Load state for new partitions before any of their records are delivered.

        It may block, calling `between` many times a second and letting its exceptions propagate. It may itself raise
        `ServerUnreachable`, and is then called again.
        """
        del partitions, between

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Forget state of revoked partitions."""
        del partitions

    def rewound(self, partitions: Collection[TopicPartition], between: Callable[[], None]) -> None:
        """Forget uncommitted state of these partitions, whose records are delivered again, and reload it as in `assigned`.

        State that `handle` creates anew in every call needs no rewinding.
        """
        del partitions, between

    def tick(self, health: Health) -> None:
        """Do periodic work; called in every round, whether or not records arrived."""
        del health


class _TransformResult(Enum):
    DONE = auto()
    TRY_SMALLER = auto()  # nothing has moved: try the same records in smaller parts
    COMES_AGAIN = auto()  # the session went back to the committed offsets


@dataclass(slots=True)
class _LoopRun:
    """State of a running loop."""

    session: Session
    held: Held
    collector: Collector
    waiting: Waiting


class TransformLoop:
    """A `libs.common.process.service.Service`.

    Args:
        make_session: called with the loop's listener.
        transform: the service's own work.
        policy: limits of a batch.
        errors_topic: destination of single bad records.
        stage: the service's name in dead letters.
        clock: seconds, for waits.
    """

    def __init__(
        self,
        make_session: Callable[[Listener], Session],
        transform: Transform,
        policy: PollPolicy,
        errors_topic: str,
        stage: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_session = make_session
        self._transform = transform
        self._policy = policy
        self._errors_topic = errors_topic
        self._stage = stage
        self._clock = clock
        self._isolation = Isolation()
        self._limit = RejectionLimit(share=1.0, consecutive=CRASHES_IN_A_ROW)
        self._throttle = Throttle()

    def run(self, stop: Stop, health: Health) -> None:
        """Work until `stop` is set. What is held then is uncommitted and will be delivered again.

        Raises:
            ServerUnreachable: Kafka is unreachable at start-up.
            DeadLetterLimit: `handle` raises on record after record.
        """
        health.not_ready(NO_PARTITIONS)
        run = self._opened(Watch(stop, health))
        try:
            while not stop.is_set():
                health.beat()
                run.waiting.until_done(partial(self._transform.tick, health))
                run.held.batch = run.collector.step()
                self._process(run)
                health.tell(run.session.trouble(), Need.TOPICS)
        finally:
            run.session.close()

    def _opened(self, watch: Watch) -> _LoopRun:
        held = Held()
        session = self._make_session(_Listener(self._transform, held, watch))
        held.collector = collector = Collector(session.poll, self._policy)
        session.open()
        return _LoopRun(session, held, collector, Waiting(session, collector, _FOR_OTHERS, watch, self._clock))

    def _process(self, run: _LoopRun) -> None:
        while run.held.batch:
            if run.waiting.until_done(lambda: self._step(run), lambda: run.held.batch) is None:
                return

    def _step(self, run: _LoopRun) -> bool:
        """Try the next part of the batch. Always True; raises Retry if it should be tried again later."""
        part = self._isolation.next_part(run.held.batch)
        match self._attempt(run.session, part):
            case _TransformResult.DONE:
                if not self._isolation.is_condemned(part):
                    self._limit.check(len(part), 0)
                    self._transform.committed()
                self._isolation.succeeded(part)
                run.held.batch = run.held.batch[len(part) :]
            case _TransformResult.COMES_AGAIN:
                run.held.batch = []
                run.collector.take()
            case _TransformResult.TRY_SMALLER:
                pass
        return True

    def _attempt(self, session: Session, part: Sequence[Inbound]) -> _TransformResult:
        if self._isolation.is_condemned(part):
            outputs = [crash_letter(part[0], self._stage, self._errors_topic)]
        else:
            try:
                outputs = self._transform.handle(part)
                crash_point("transform.handled")
            except (DeadLetterLimit, ConfigError, ServerUnreachable, Retry):
                raise
            except Exception as error:  # noqa: BLE001 - a bug in one record's handling must not stop all others
                self._suspect(error, part)
                return _TransformResult.TRY_SMALLER
        return self._commit(session, part, outputs)

    def _commit(self, session: Session, part: Sequence[Inbound], outputs: list[Outbound]) -> _TransformResult:
        try:
            result = session.commit(outputs, next_offsets(part))
        except OutputRefused as error:
            self._suspect(error, part)
            return _TransformResult.COMES_AGAIN
        if result is CommitResult.COMMITTED:
            crash_point("transform.committed")
            return _TransformResult.DONE
        self._isolation.aborted(part)
        return _TransformResult.COMES_AGAIN

    def _suspect(self, error: Exception, part: Sequence[Inbound]) -> None:
        self._tell(error, part)
        self._isolation.failed(part)
        if len(part) == 1:
            self._limit.check(1, 1)

    def _tell(self, error: Exception, part: Sequence[Inbound]) -> None:
        if len(part) == 1:
            record = part[0]
            log.error(
                "a record cannot be processed; sending it to the errors topic",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                error_type=type(error).__name__,
                exc_info=error,
            )
        elif self._throttle.admits():
            log.warning(
                "a batch cannot be processed; looking for the record at fault",
                records=len(part),
                error_type=type(error).__name__,
            )


def crash_letter(record: Inbound, stage: str, errors_topic: str) -> Outbound:
    """Return the dead letter of a record on which our code failed."""
    letter = dead_message(stage, ErrorCode.HANDLER_CRASH, "processing this record failed; see the service's log", record)
    return Outbound(errors_topic, letter.data, letter.key, letter.headers())


class _Listener:
    """Tells the transform about partitions, and drops uncommitted records, because they are delivered again."""

    def __init__(self, transform: Transform, held: Held, watch: Watch) -> None:
        self._transform = transform
        self._held = held
        self._watch = watch
        self._health = watch.health
        self._is_rewinding = False  # and has to wait with it
        self._throttle = Throttle()

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        self._tell(self._transform.assigned, partitions)
        self._health.ready()

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        self._health.not_ready(NO_PARTITIONS)
        self._is_rewinding = False
        self._transform.revoked(partitions)
        self._held.forget(partitions)

    def rewound(self, partitions: Collection[TopicPartition]) -> None:
        self._held.forget(partitions)
        try:
            self._tell(self._transform.rewound, partitions)
        except Retry:
            self._is_rewinding = True
            raise
        if self._is_rewinding:
            self._is_rewinding = False
            self._health.ready()

    def _tell(self, hear: _Hear, partitions: Collection[TopicPartition]) -> None:
        """Call the transform. If it raises Retry, the session leaves the partitions unread and calls again when it is time."""
        try:
            hear(partitions, self._watch.keep_alive)
        except Retry as retry:
            if not self._watch.stop.is_set():
                self._say(retry)
            raise

    def _say(self, retry: Retry) -> None:
        metrics.WORK_RETRIES.inc()
        self._health.not_ready(f"partitions are waiting: {retry}")
        if self._throttle.admits():
            log.warning("partitions wait", reason=str(retry), retry_seconds=retry.after)
