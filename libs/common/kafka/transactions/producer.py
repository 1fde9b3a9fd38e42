"""The transaction state machine: one transactional producer, one transaction at a time, replaced whenever it is in doubt.

::

    COLD ──init──► READY ──begin──► OPEN ──offsets sent──► COMMITTING ──► READY
                                     │                        │  success, but slow ──► RECYCLE
                              abort needed             deadline passed ──► DOUBT ────► RECYCLE
                                     ▼                        │
                                 ABORTING ──────────────► RECYCLE ──new client, init──► READY
    fenced twice within a minute, close ──► EXIT

Its promise: `commit` writes all outputs and the offsets, or nothing. Outputs are in the log before the offsets are sent. The
group coordinator then checks the generation, so a process that lost its partitions cannot add records behind the back of the
process that took them over and has read the topics to their ends. After anything but a quick success the producer is replaced.
The new one's `init_transactions` ends whatever the old one left open, so that afterwards the committed offsets show the
outcome.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from operator import attrgetter
from typing import Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as ClientPartition

from libs.common.errors import BlobtideError
from libs.common.kafka.client import metrics
from libs.common.kafka.client.bounded_calls import BoundedCalls, CallHangs
from libs.common.kafka.client.client_log import ClientLog
from libs.common.kafka.client.failures import (
    RAISED_WHILE_SERVING,
    OutputRefused,
    OutputTooLarge,
    Remedy,
    classify,
    error_of,
    is_denied,
    is_fenced,
    is_out_of_group,
    is_refusal,
    is_too_large,
    may_be_of_another,
    translated,
)
from libs.common.kafka.client.protocols import TransactionalClient
from libs.common.kafka.client.throttle import Throttle
from libs.common.kafka.records import NextOffsets, Outbound
from libs.common.messages.dead_letters import stage_and_code
from libs.common.process.crash import crash_point

log = structlog.get_logger(__name__)

_MOST_REPORTS: Final = 10_000  # kept from one transaction to the next


class ProducerState(StrEnum):
    """State of the producer between and within transactions."""

    COLD = "cold"
    READY = "ready"
    OPEN = "open"
    COMMITTING = "committing"
    ABORTING = "aborting"
    DOUBT = "doubt"
    RECYCLE = "recycle"
    EXIT = "exit"


class TransactionEnd(StrEnum):
    """How a transaction ended, for the consumer's side."""

    COMMITTED = "committed"
    ABORTED = "aborted"  # or in doubt: go back to the committed offsets
    LEFT_GROUP = "left_group"  # the same, and the consumer's membership cannot be trusted: rejoin


@dataclass(frozen=True, slots=True)
class TransactionTimes:
    """Seconds. Commit and abort together stay below the ten that a process has after SIGTERM."""

    call: float = 3.0  # one client call; longer waits repeat the call
    commit: float = 6.0  # from the beginning of the transaction to the end of the commit
    abort: float = 1.0
    grace: float = 2.0  # a call that exceeds its timeout by this much counts as hanging
    # A commit that took longer may have sent a second EndTxn, which could affect the next transaction.
    slow_commit: float = 3.0
    fence_window: float = 60.0


@dataclass(frozen=True, slots=True)
class Transaction:
    """What is written together.

    If a consumer group divides the work, `offsets` is never empty, since only the offset commit is checked against the
    generation. If holding the transactional id is what entitles a process to the work, there are none (`fenced.py`).
    """

    outputs: Sequence[Outbound]
    offsets: NextOffsets = field(default_factory=dict)
    group_metadata: bytes = b""


class _Failed(Exception):
    """A step did not succeed within the deadline."""

    def __init__(self, error: KafkaError, failure: Remedy) -> None:
        super().__init__(error.str())
        self.error = error
        self.failure = failure


class TransactionalProducer:
    """One transactional id. Not thread-safe; belongs to the process that made it."""

    def __init__(
        self,
        transactional_id: str,
        make: Callable[[ClientLog], TransactionalClient],
        limits: TransactionTimes = TransactionTimes(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._id = transactional_id
        self._make = make
        self._limits = limits
        self._calls = BoundedCalls(limits.grace)
        self._clock = clock
        self._client: TransactionalClient | None = None
        self._log = ClientLog(transactional_id)
        self._pid = os.getpid()
        self._fences: deque[float] = deque(maxlen=2)
        self._throttle = Throttle(clock)
        self._too_large: set[str] = set()  # topics that did not take a record of this transaction
        self._denied: set[str] = set()  # topics that did not take a record of this transaction
        # Records of this transaction that were refused, by index: whether another record may be at fault.
        self._refused: dict[int, bool] = {}
        self._reports: list[Callable[[KafkaError | None, Message], None]] = []
        self.state = ProducerState.COLD

    def prepare(self, seconds: float) -> bool:
        """Make the producer ready; return False if Kafka did not respond within `seconds`: call again.

        Raises:
            BlobtideError: Kafka denies it, or another process keeps taking over the transactional id.
        """
        if self.state is ProducerState.READY:
            return True
        self._stay_in_process()
        if self._client is None:
            self._log = ClientLog(self._id)
            self._client = self._make(self._log)
        client = self._client
        try:
            self._calls.run(lambda: client.init_transactions(seconds), seconds)
        except CallHangs:
            self._hangs("init_transactions")
            self._recycle("hangs")
            return False
        except KafkaException as exception:
            self._init_failed(error_of(exception))
            return False
        self.state = ProducerState.READY
        return True

    def _init_failed(self, error: KafkaError) -> None:
        if self._client is not None:
            _serve(self._client, 0)
        if classify(error) is Remedy.RETRIABLE:
            return
        self._drop()
        if not is_fenced(error):
            raise translated(error, f"opening the transactional id {self._id}")
        self._count_fence()

    def commit(self, work: Transaction) -> TransactionEnd:
        """Write `work` as one transaction; return within the limits. `prepare` must have returned True.

        Raises:
            OutputTooLarge: a topic does not accept a record of this size; the transaction was aborted.
            OutputRefused: a record can never be written; the transaction was aborted.
            BlobtideError: another process keeps taking over the transactional id, or Kafka denies this user a part of the work.
        """
        self._stay_in_process()
        client = self._ready_client()
        self._too_large.clear()
        self._denied.clear()
        self._refused.clear()
        started = self._clock()
        try:
            committing = self._run(client, work, started + self._limits.commit)
        except _Failed as failed:
            return self._end(client, failed, work)
        metrics.TRANSACTION_SECONDS.observe(self._clock() - started)
        metrics.TRANSACTIONS.labels("committed").inc()
        _count(work.outputs)
        self._settle_success(client, committing)
        return TransactionEnd.COMMITTED

    def close(self) -> None:
        """Drop the client. An open transaction is ended by the next producer with this id, or by its timeout."""
        self._calls.close()
        self._client = None
        self.state = ProducerState.EXIT

    def _run(self, client: TransactionalClient, work: Transaction, deadline: float) -> float:
        """Begin, produce, flush, send offsets, commit; return the seconds that the commit alone took."""
        positions = [ClientPartition(tp.topic, tp.partition, offset) for tp, offset in work.offsets.items()]
        self._step(lambda _: client.begin_transaction(), deadline)
        self.state = ProducerState.OPEN
        self._produce(client, work.outputs, deadline)
        self._flush(client, deadline)
        if positions:
            self._step(lambda s: client.send_offsets_to_transaction(positions, work.group_metadata, s), deadline)
        self.state = ProducerState.COMMITTING
        crash_point("transaction.written")
        began = self._clock()
        self._step(client.commit_transaction, deadline)
        return self._clock() - began

    def _step(self, call: Callable[[float], object], deadline: float) -> None:
        """Call with the same arguments until it succeeds or `deadline` has passed."""
        while True:
            seconds = max(0.1, min(self._limits.call, deadline - self._clock()))
            try:
                self._calls.run(lambda s=seconds: call(s), seconds)  # type: ignore[misc]
            except CallHangs as exception:
                self._hangs("a step of a transaction")
                raise _Failed(KafkaError(KafkaError._TIMED_OUT, "call hangs"), Remedy.FATAL) from exception  # noqa: SLF001
            except RAISED_WHILE_SERVING as exception:
                error = error_of(exception)
                failure = classify(error)
                if failure is not Remedy.RETRIABLE or self._clock() >= deadline:
                    raise _Failed(error, failure) from exception
                self._wait()
            else:
                return

    def _wait(self) -> None:
        if self._client is not None:
            _serve(self._client, 0.05)

    def _produce(self, client: TransactionalClient, outputs: Sequence[Outbound], deadline: float) -> None:
        """Pass all records to the client: the inner loop of all writing, which does no more for each than it must."""
        produce, reports = client.produce, self._reports_of(len(outputs))
        for index, output in enumerate(outputs):
            partition = -1 if output.partition is None else output.partition
            report = reports[index] if output.placed is None else partial(self._delivered, index, output.placed)
            headers = list(output.headers)
            while True:
                try:
                    produce(output.topic, output.value, output.key, partition, headers=headers, on_delivery=report)
                except BufferError as full:
                    if self._clock() >= deadline:
                        raise _Failed(KafkaError(KafkaError._QUEUE_FULL), Remedy.ABORT) from full  # noqa: SLF001
                    self._wait()
                except KafkaException as exception:
                    error = error_of(exception)
                    self._note(error, output.topic)
                    raise _Failed(error, Remedy.FATAL if error.fatal() else Remedy.ABORT) from exception
                else:
                    break

    def _reports_of(self, records: int) -> Sequence[Callable[[KafkaError | None, Message], None]]:
        """Return the callbacks of so many records. They are made once, unless they are many: each costs half a record."""
        for new in range(len(self._reports), min(records, _MOST_REPORTS)):
            self._reports.append(partial(self._on_delivery, new))
        if records <= len(self._reports):
            return self._reports
        return [*self._reports, *(partial(self._on_delivery, new) for new in range(len(self._reports), records))]

    def _on_delivery(self, index: int, error: KafkaError | None, message: Message) -> None:
        """Record the result; a client callback must not raise."""
        if error is None:
            return
        self._note(error, message.topic() or "")
        if is_refusal(error):
            self._refused[index] = may_be_of_another(error, message.key())

    def _delivered(self, index: int, placed: Callable[[int], None], error: KafkaError | None, message: Message) -> None:
        """Report a record's offset."""
        self._on_delivery(index, error, message)
        offset = message.offset()
        if error is None and offset is not None and offset >= 0:
            placed(offset)

    def _note(self, error: KafkaError, topic: str) -> None:
        if is_too_large(error):
            self._too_large.add(topic)
        if is_denied(error):
            self._denied.add(topic)

    def _flush(self, client: TransactionalClient, deadline: float) -> None:
        while True:
            try:
                left = client.flush(max(0.1, min(self._limits.call, deadline - self._clock())))
            except RAISED_WHILE_SERVING as exception:
                error = error_of(exception)
                raise _Failed(error, classify(error)) from exception
            if left == 0:
                return
            if self._clock() >= deadline:
                raise _Failed(KafkaError(KafkaError._TIMED_OUT, f"{left} records unacknowledged"), Remedy.ABORT)  # noqa: SLF001

    def _settle_success(self, client: TransactionalClient, committing: float) -> None:
        _serve(client, 0)  # fetches the log lines examined next
        if committing > self._limits.slow_commit:
            self._recycle("slow_commit")
        elif self._log.coordinator_timed_out:
            self._recycle("coordinator_timeout")
        else:
            self.state = ProducerState.READY

    def _end(self, client: TransactionalClient, failed: _Failed, work: Transaction) -> TransactionEnd:
        """Leave a failed transaction: abort if allowed, and replace the producer."""
        outcome = self._outcome(failed)
        if is_refusal(failed.error) or is_denied(failed.error):
            _serve(client, 0)  # delivery reports, which name the topic
        if outcome == "aborted":
            self.state = ProducerState.ABORTING
            self._abort(client)
        elif outcome == "doubt":
            self.state = ProducerState.DOUBT
        metrics.TRANSACTIONS.labels(outcome).inc()
        self._tell(outcome, failed.error)
        self._recycle(outcome)
        if is_fenced(failed.error):
            self._count_fence()
        if is_denied(failed.error):
            raise translated(failed.error, self._denied_in(work))
        if is_refusal(failed.error):
            raise self._refusal(failed.error, frozenset(output.topic for output in work.outputs))
        broken = failed.failure is Remedy.FATAL or is_out_of_group(failed.error)
        return TransactionEnd.LEFT_GROUP if broken else TransactionEnd.ABORTED

    def _denied_in(self, work: Transaction) -> str:
        topics = self._denied or {output.topic for output in work.outputs} | {source.topic for source in work.offsets}
        return f"a transaction of {self._id} with {', '.join(sorted(topics))}"

    def _refusal(self, error: KafkaError, topics: frozenset[str]) -> OutputRefused:
        if is_too_large(error):
            topics = frozenset(self._too_large) or topics
            return OutputTooLarge(f"a record for {', '.join(sorted(topics))} is too large: {error.str()}", topics)
        guilty = [index for index, may_be_innocent in self._refused.items() if not may_be_innocent]
        return OutputRefused(
            f"a record for {', '.join(sorted(topics))} cannot be written: {error.str()}", frozenset(guilty or self._refused)
        )

    def _outcome(self, failed: _Failed) -> str:
        if failed.failure is Remedy.FATAL:
            return "fatal"
        if failed.failure is Remedy.RETRIABLE and self.state is ProducerState.COMMITTING:
            return "doubt"
        return "aborted"

    def _abort(self, client: TransactionalClient) -> None:
        """Abort, if nothing is in flight: an abort that overtakes a first produce breaks the next transaction (#4849).

        Otherwise the producer is dropped, and its successor's `init_transactions` aborts.
        """
        if len(client) > 0:
            return
        try:
            self._calls.run(lambda: client.abort_transaction(self._limits.abort), self._limits.abort)
        except CallHangs:
            self._hangs("abort_transaction")
        except KafkaException as exception:
            log.debug("the abort did not finish", error=error_of(exception).str())

    def _hangs(self, call: str) -> None:
        log.warning("the Kafka client hangs; continuing with a new one", client=self._id, call=call)

    def _recycle(self, reason: str) -> None:
        metrics.RECYCLES.labels(reason).inc()
        self._drop()

    def _drop(self) -> None:
        """Drop the client without `close`, which would wait for an abort for as long as the coordinator is down."""
        self._client = None
        self.state = ProducerState.RECYCLE

    def _count_fence(self) -> None:
        self._fences.append(self._clock())
        if len(self._fences) == self._fences.maxlen and self._fences[-1] - self._fences[0] < self._limits.fence_window:
            self.close()
            raise BlobtideError(
                f"another process uses the transactional id {self._id}: give each process of this service its own number "
                "in BLOBTIDE_INSTANCE__ORDINAL"
            )

    def _ready_client(self) -> TransactionalClient:
        if self.state is not ProducerState.READY or self._client is None:
            raise RuntimeError(f"commit in state {self.state}")
        return self._client

    def _stay_in_process(self) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError("a Kafka client was inherited by a forked process, where its threads do not run")

    def _tell(self, outcome: str, error: KafkaError) -> None:
        if self._throttle.admits():
            log.warning(
                "a transaction did not commit; its work will be repeated",
                outcome=outcome,
                error=error.str(),
                error_code=error.name(),
                similar_lines=self._throttle.take_swallowed(),
            )


def _serve(client: TransactionalClient, seconds: float) -> None:
    """Serve callbacks and log lines. A fatal error is raised here too, but the call that met it has already reported it."""
    with suppress(*RAISED_WHILE_SERVING):
        client.poll(seconds)


def _count(outputs: Sequence[Outbound]) -> None:
    """Count what was committed, including dead letters, so that those of every service count exactly once."""
    for topic, count in Counter(map(attrgetter("topic"), outputs)).items():
        metrics.RECORDS_WRITTEN.labels(topic).inc(count)
    for letter, count in Counter(map(stage_and_code, map(attrgetter("headers"), outputs))).items():
        if letter is not None:
            metrics.DEAD_LETTERS.labels(*letter).inc(count)
