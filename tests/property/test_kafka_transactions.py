"""The transaction state machine against a model broker, under every kind of client error at every step."""

# ruff: noqa: D102 - the model's methods are the client's
from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from libs.common.errors import BlobtideError
from libs.common.kafka.client.client_log import ClientLog
from libs.common.kafka.client.failures import OutputRefused
from libs.common.kafka.records import Outbound, TopicPartition
from libs.common.kafka.transactions.producer import (
    ProducerState,
    Transaction,
    TransactionalProducer,
    TransactionEnd,
    TransactionTimes,
)
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from tests.metric_values import since_now


class Fault(StrEnum):
    """How a client call goes wrong."""

    SLOW = "slow"  # succeeds, but late
    RETRIED = "retried"  # retriable once, then well
    SILENT = "silent"  # retriable for ever, nothing has happened
    APPLIED = "applied"  # retriable for ever, although the broker did it
    ABORT = "abort"
    REFUSED = "refused"
    FATAL = "fatal"
    FENCED = "fenced"


_ERRORS = {
    Fault.RETRIED: KafkaError(KafkaError._TIMED_OUT, retriable=True),
    Fault.SILENT: KafkaError(KafkaError._TIMED_OUT, retriable=True),
    Fault.APPLIED: KafkaError(KafkaError._TIMED_OUT, retriable=True),
    Fault.ABORT: KafkaError(KafkaError.REBALANCE_IN_PROGRESS, txn_requires_abort=True),
    Fault.REFUSED: KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, txn_requires_abort=True),
    Fault.FATAL: KafkaError(KafkaError._STATE, fatal=True),
    Fault.FENCED: KafkaError(KafkaError._FENCED, fatal=True),
}
STEPS = ("begin_transaction", "produce", "flush", "send_offsets_to_transaction", "commit_transaction")
CALLS = st.sampled_from(STEPS)
LOST_AFTER = frozenset({Fault.FATAL, Fault.FENCED})


@dataclass
class World:
    """The broker, the clock and the fault that waits."""

    now: float = 0.0
    applied: list[tuple[list[object], object]] = field(default_factory=list)
    fault: tuple[str, Fault] | None = None
    clients: list[ModelClient] = field(default_factory=list)


class ModelClient:
    """A transactional client that refuses every use the real one would punish."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.outputs: list[object] = []
        self.offsets: object = None
        self.is_open = False
        self.lost = False
        self.frozen: object = None

    def init_transactions(self, timeout: float) -> None:
        assert self is self.world.clients[-1]
        self._go("init_transactions", timeout)

    def begin_transaction(self) -> None:
        assert not self.is_open
        self._go("begin_transaction", 0.0)
        self.is_open, self.outputs, self.offsets = True, [], None

    def produce(self, topic: str, value: object = None, key: object = None, partition: int = -1, **more: object) -> None:
        del topic, key, partition, more
        assert self.is_open
        self._go("produce", 0.0)
        self.outputs.append(value)

    def poll(self, timeout: float) -> int:
        self.world.now += timeout
        return 0

    def flush(self, timeout: float) -> int:
        self._go("flush", timeout)
        return 0

    def send_offsets_to_transaction(self, positions: Sequence[object], _metadata: bytes, timeout: float) -> None:
        assert positions, "a transaction without offsets is not fenced by the group"
        assert self.frozen is None or self.frozen is positions, "a repeated call had other arguments"
        self.frozen = positions
        self._go("send_offsets_to_transaction", timeout)
        self.offsets, self.frozen = positions, None

    def commit_transaction(self, timeout: float) -> None:
        assert self.is_open or self.world.fault == ("commit_transaction", Fault.APPLIED)
        assert self.offsets is not None
        if self.world.fault == ("commit_transaction", Fault.APPLIED):
            self._apply()
        self._go("commit_transaction", timeout)
        self._apply()

    def abort_transaction(self, _timeout: float) -> None:
        assert not self.lost, "abort after a fatal error"
        self.is_open = False

    def __len__(self) -> int:
        return 0

    def _apply(self) -> None:
        if self.is_open:
            self.world.applied.append((self.outputs, self.offsets))
        self.is_open = False

    def _go(self, call: str, timeout: float) -> None:
        assert not self.lost, f"{call} after a fatal error"
        if self.world.fault is None or self.world.fault[0] != call:
            return
        kind = self.world.fault[1]
        if kind is Fault.SLOW:
            self.world.now += 4.0
            return
        self.world.now += timeout
        if kind in (Fault.RETRIED, *LOST_AFTER, Fault.ABORT, Fault.REFUSED):
            self.world.fault = None
        self.lost = kind in LOST_AFTER
        raise KafkaException(_ERRORS[kind])


class Transactions(RuleBasedStateMachine):
    """Whatever fails wherever: all or nothing, never a call on a lost client, always ready again."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.producer = TransactionalProducer("id", self._make, clock=lambda: self.world.now)
        self.number = 0

    def _make(self, _log: ClientLog) -> ModelClient:
        self.world.clients.append(ModelClient(self.world))
        return self.world.clients[-1]

    @rule()
    def commit_well(self) -> None:
        """Without a fault the work is applied once and the producer stays."""
        self._prepare()
        before, client = len(self.world.applied), self.world.clients[-1]
        assert self._commit() is TransactionEnd.COMMITTED
        assert len(self.world.applied) == before + 1
        assert self.world.clients[-1] is client
        assert self.producer.state is ProducerState.READY

    @rule(call=CALLS, kind=st.sampled_from([k for k in Fault if k is not Fault.APPLIED]))
    def commit_with_a_fault(self, call: str, kind: Fault) -> None:
        """With a fault the work is applied exactly if COMMITTED is returned."""
        self._prepare()
        before = len(self.world.applied)
        self.world.fault = (call, kind)
        ending = self._commit()
        self.world.fault = None
        assert len(self.world.applied) == before + (ending is TransactionEnd.COMMITTED)
        self._check_recycled(ending, call, kind)

    @rule()
    def commit_in_doubt(self) -> None:
        """A commit that the broker did and did not answer is reported as not known: the caller asks for the offsets."""
        self._prepare()
        before = len(self.world.applied)
        self.world.fault = ("commit_transaction", Fault.APPLIED)
        assert self._commit() is TransactionEnd.ABORTED
        self.world.fault = None
        assert len(self.world.applied) == before + 1
        assert self.producer.state is ProducerState.RECYCLE

    @rule(kind=st.sampled_from([Fault.SILENT, Fault.RETRIED]))
    def broker_away_at_init(self, kind: Fault) -> None:
        """While the coordinator does not answer, the producer is not ready, and it says so within the time it was given."""
        if self.producer.state is ProducerState.READY:
            return
        self.world.fault = ("init_transactions", kind)
        began = self.world.now
        assert not self.producer.prepare(1.0)
        assert self.world.now - began <= 1.0
        self.world.fault = None

    @invariant()
    def rests_between_calls(self) -> None:
        """No transaction is left open by a client that is still used, and every applied one is whole."""
        assert self.producer.state in (ProducerState.COLD, ProducerState.READY, ProducerState.RECYCLE)
        assert all(outputs == [b"a", b"b"] and offsets for outputs, offsets in self.world.applied)

    def _prepare(self) -> None:
        self.world.now += 100.0  # fencing twice within a minute has a test of its own
        assert self.producer.prepare(1.0)

    def _commit(self) -> TransactionEnd:
        self.number += 1
        outputs = (Outbound("t", b"a"), Outbound("t", b"b"))
        began = self.world.now
        try:
            return self.producer.commit(Transaction(outputs, {TopicPartition("in", 0): self.number}, b"member"))
        except OutputRefused:
            return TransactionEnd.ABORTED
        finally:
            assert self.world.now - began < 20.0

    def _check_recycled(self, ending: TransactionEnd, call: str, kind: Fault) -> None:
        if ending is TransactionEnd.COMMITTED:
            assert kind in (Fault.SLOW, Fault.RETRIED)
            slow = (call, kind) in {("commit_transaction", Fault.SLOW), ("commit_transaction", Fault.RETRIED)}
            assert (self.producer.state is ProducerState.RECYCLE) == slow
        else:
            assert self.producer.state is ProducerState.RECYCLE
            assert (ending is TransactionEnd.LEFT_GROUP) == (kind in LOST_AFTER)


TestTransactions = Transactions.TestCase
TestTransactions.settings = settings(max_examples=30, stateful_step_count=15, deadline=None)


def test_two_fences_within_a_minute_name_the_setting_that_is_wrong() -> None:
    """A process that is fenced twice within a minute ends and says that another has its ordinal; once is tolerated."""
    world = World()

    def make(_log: ClientLog) -> ModelClient:
        world.clients.append(ModelClient(world))
        return world.clients[-1]

    producer = TransactionalProducer("blobtide.ingest.0", make, clock=lambda: world.now)
    work = Transaction((Outbound("t", b"a"),), {TopicPartition("in", 0): 1}, b"member")

    def fenced() -> TransactionEnd:
        assert producer.prepare(1.0)
        world.fault = ("send_offsets_to_transaction", Fault.FENCED)
        return producer.commit(work)

    assert fenced() is TransactionEnd.LEFT_GROUP
    world.now += 61.0
    assert fenced() is TransactionEnd.LEFT_GROUP
    world.now += 30.0
    with pytest.raises(BlobtideError, match=r"blobtide\.ingest\.0: .* BLOBTIDE_INSTANCE__ORDINAL"):
        fenced()
    assert producer.state is ProducerState.EXIT


def test_what_is_committed_counts_once_and_dead_letters_by_their_stage_and_code() -> None:
    """An aborted transaction counts only as such; when its work is committed, each record and each dead letter counts once."""
    world = World()

    def make(_log: ClientLog) -> ModelClient:
        world.clients.append(ModelClient(world))
        return world.clients[-1]

    def letter(stage: str, code: ErrorCode) -> Outbound:
        made = DeadLetter(stage, code, "why", b"bad", key=b"k", original=(("type", b"x"), ("stage", b"y")))
        return Outbound("Errors.counted", made.data, made.key, made.headers())

    codes = (("parser", ErrorCode.BAD_JSON), ("parser", ErrorCode.SHORT_TUPLE), ("ingest", ErrorCode.BAD_JSON))
    letters = (letter(*codes[0]), letter(*codes[1]), letter(*codes[0]), letter(*codes[2]))
    other = Outbound("counted", b"a", headers=(("type", b"flow-batch"), ("stage", b"parser"), ("code", b"bad_json")))
    work = Transaction((other, *letters), {TopicPartition("in", 0): 1}, b"member")
    committed, aborted = (since_now("blobtide_kafka_transactions_total", outcome=how) for how in ("committed", "aborted"))
    timed = since_now("blobtide_kafka_transaction_duration_seconds_count")
    recycled = since_now("blobtide_kafka_producer_recycles_total", reason="aborted")
    written = [since_now("blobtide_kafka_records_written_total", topic=topic) for topic in ("counted", "Errors.counted")]
    dead = [since_now("blobtide_kafka_dead_letters_total", stage=stage, code=code) for stage, code in codes]
    producer = TransactionalProducer("id", make, clock=lambda: world.now)
    assert producer.prepare(1.0)
    world.fault = ("flush", Fault.ABORT)
    assert producer.commit(work) is TransactionEnd.ABORTED
    assert [moved() for moved in (aborted, recycled, committed, timed, *written, *dead)] == [1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert producer.prepare(1.0)
    assert producer.commit(work) is TransactionEnd.COMMITTED
    assert [moved() for moved in (aborted, recycled, committed, timed, *written, *dead)] == [1, 1, 1, 1, 1, 4, 2, 1, 1]


def test_a_client_that_hangs_is_left_behind() -> None:
    """A call that never returns costs its transaction and its client; the next one commits."""
    world, released = World(), threading.Event()

    class Hanging(ModelClient):
        def send_offsets_to_transaction(self, *_: object) -> None:
            released.wait()

    def make(_log: ClientLog) -> ModelClient:
        world.clients.append(ModelClient(world) if world.clients else Hanging(world))
        return world.clients[-1]

    producer = TransactionalProducer("id", make, TransactionTimes(grace=1.0, call=0.05), clock=lambda: world.now)
    work = Transaction((Outbound("t", b"a"),), {TopicPartition("in", 0): 1}, b"member")
    assert producer.prepare(1.0)
    assert producer.commit(work) is TransactionEnd.LEFT_GROUP
    assert producer.state is ProducerState.RECYCLE
    assert world.applied == []
    assert producer.prepare(1.0)
    assert producer.commit(work) is TransactionEnd.COMMITTED
    assert len(world.applied) == 1
    released.set()
    producer.close()
