"""Transactions, rewinds and takeovers on a real Kafka."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any, Self

import psutil
import pytest
from confluent_kafka import Producer

from libs.common.errors import BlobtideError, ConfigError, Retry
from libs.common.kafka.client.configs import producer_config
from libs.common.kafka.client.failures import OutputRefused
from libs.common.kafka.group.consumer import GroupConsumer
from libs.common.kafka.group.offsets import next_offsets
from libs.common.kafka.readers.compacted import CompactedTable
from libs.common.kafka.records import CommitResult, Inbound, Outbound, TopicPartition
from libs.common.kafka.transactions.producer import ProducerState, Transaction, TransactionEnd
from libs.common.kafka.transactions.session import SessionSpec, TransactionalSession
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.kafka import LocalKafka
from tests.freezing import frozen
from tests.running import until
from tests.topic_tools import fill, read_compacted

pytestmark = pytest.mark.kafka

SECONDS = 60.0
PARTITIONS = range(4)


class _Listener:
    def __init__(self) -> None:
        self.log: list[str] = []

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        self.log.append(f"assigned {len(partitions)}")

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        self.log.append(f"revoked {len(partitions)}")

    def rewound(self, partitions: Collection[TopicPartition]) -> None:
        self.log.append(f"rewound {len(partitions)}")


class _Member:
    """A session with its listener, in the group "copy" of one test."""

    def __init__(self, kafka: KafkaSettings, topic: str, ordinal: int = 0) -> None:
        self.listener = _Listener()
        self.session = TransactionalSession(kafka, SessionSpec("copy", ordinal, (topic,)), self.listener)

    def __enter__(self) -> Self:
        self.session.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def read(self, count: int) -> list[Inbound]:
        """Return `count` records."""
        found: list[Inbound] = []
        _until(lambda: len(found) >= count, lambda: found.extend(self.session.poll(100, 0.1)))
        return found

    @property
    def consumer(self) -> GroupConsumer:
        return self.session._consumer


def _until(done: Callable[[], Any], step: Callable[[], object] = lambda: time.sleep(0.05)) -> None:
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline, "it did not happen in time"
        step()


def _fill_alike(kafka: KafkaSettings, topic: str, count: int) -> None:
    producer = Producer(producer_config(kafka))
    for number in range(count):
        key = b"account/container/resource-%d" % number
        while True:
            try:
                producer.produce(topic, b"state of " + 2 * key, key)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(SECONDS) == 0


def _values(kafka: KafkaSettings, topic: str) -> list[bytes]:
    return sorted(record.value or b"" for record in read_compacted(kafka, topic, PARTITIONS))


def _copy(topic: str, records: list[Inbound]) -> list[Outbound]:
    return [Outbound(topic, record.value, partition=record.partition) for record in records]


def test_what_is_refused_is_rewound_and_comes_again(kafka_settings: KafkaSettings, topics: TopicSettings) -> None:
    """An output that the broker can never take aborts the transaction; the same records come again and commit once."""
    sent = fill(kafka_settings, topics.raw_flow_logs, 8)
    with _Member(kafka_settings, topics.raw_flow_logs) as member:
        records = member.read(8)
        offsets = next_offsets(records)
        without_key = Outbound(topics.checkpoints, b"a compacted topic needs a key")
        with pytest.raises(OutputRefused, match=topics.checkpoints):
            member.session.commit([*_copy(topics.flows, records), without_key], offsets)
        assert member.listener.log == ["assigned 4", "rewound 4"]
        again = member.read(8)
        assert sorted((r.partition, r.offset) for r in again) == sorted((r.partition, r.offset) for r in records)
        assert member.session.commit(_copy(topics.flows, again), next_offsets(again)) is CommitResult.COMMITTED
        assert member.session.commit([Outbound(topics.flows, b"extra", partition=0)], {}) is CommitResult.COMMITTED
    assert _values(kafka_settings, topics.flows) == sorted([*sent, b"extra"])


def test_a_rewind_and_an_arrival_while_paused_skip_nothing(kafka_settings: KafkaSettings, topics: TopicSettings) -> None:
    """What was thrown away while nothing was delivered comes first, and in order, when delivery goes on."""
    fill(kafka_settings, topics.raw_flow_logs, 4_000)
    with _Member(kafka_settings, topics.raw_flow_logs) as member:
        member.session.pause()
        _until(lambda: member.listener.log, lambda: member.session.poll(100, 0.1))
        member.session.resume()
        first = member.read(40)
        assert member.session.commit([], next_offsets(first)) is CommitResult.COMMITTED
        member.read(1_000)
        member.session.pause()
        member.session.poll(100, 0.1)
        # Offsets of a partition that is not ours abort.
        foreign = {TopicPartition(topics.flows, 0): 1}
        assert member.session.commit([], foreign) is CommitResult.ABORTED
        member.session.poll(100, 0.1)
        member.session.resume()
        again = member.read(4_000 - len(first))
    for number in PARTITIONS:
        assert [r.offset for r in (*first, *again) if r.partition == number] == list(range(1_000))


def test_a_member_that_lost_its_partitions_cannot_commit(kafka_settings: KafkaSettings, topics: TopicSettings) -> None:
    """What a zombie read before others took over never commits, neither by its session nor with its old membership."""
    fill(kafka_settings, topics.raw_flow_logs, 8)
    with _Member(kafka_settings, topics.raw_flow_logs) as first:
        records = first.read(8)
        old_membership = first.consumer.group_metadata()
        assert old_membership is not None
        with _Member(kafka_settings, topics.raw_flow_logs, ordinal=1) as second:
            _until(
                lambda: len(first.session.owned()) == len(second.session.owned()) == 2,
                lambda: (first.session.poll(1, 0.1), second.session.poll(1, 0.1)),
            )
            assert first.listener.log[:3] == ["assigned 4", "revoked 4", "assigned 2"]
            assert first.session.commit(_copy(topics.flows, records), next_offsets(records)) is CommitResult.ABORTED
            producer = first.session._producer
            _until(lambda: producer.prepare(1.0))
            zombie = Transaction(tuple(_copy(topics.flows, records)), next_offsets(records), old_membership)
            assert producer.commit(zombie) is TransactionEnd.LEFT_GROUP
            assert producer.state is ProducerState.RECYCLE
    assert _values(kafka_settings, topics.flows) == []


def test_two_processes_with_one_ordinal_end_with_a_clear_message(kafka_settings: KafkaSettings, topics: TopicSettings) -> None:
    """Two processes that share a transactional id fence each other once; the second time one ends and names the setting."""
    with _Member(kafka_settings, topics.raw_flow_logs) as first, _Member(kafka_settings, topics.raw_flow_logs) as second:

        def work() -> None:
            for member in (first, second):
                member.session.poll(1, 0.1)
                member.session.commit([Outbound(topics.flows, b"x")], {})

        with pytest.raises(BlobtideError, match="BLOBTIDE_INSTANCE__ORDINAL"):
            _until(lambda: False, work)


def test_a_broker_that_restarts_costs_time_only(
    kafka: LocalKafka, kafka_settings: KafkaSettings, topics: TopicSettings
) -> None:
    """While the broker is dead, calls return within their bounds and commits abort; afterwards everything is written once."""
    sent = fill(kafka_settings, topics.raw_flow_logs, 8)
    with _Member(kafka_settings, topics.raw_flow_logs) as member:
        records = member.read(8)
        kafka.kill()
        try:
            began = time.monotonic()
            assert member.session.commit(_copy(topics.flows, records), next_offsets(records)) is CommitResult.ABORTED
            assert member.session.poll(1, 0.1) == []
            assert time.monotonic() - began < SECONDS
        finally:
            kafka.start()
        again = member.read(8)
        assert member.session.commit(_copy(topics.flows, again), next_offsets(again)) is CommitResult.COMMITTED
    assert _values(kafka_settings, topics.flows) == sorted(sent)


def test_a_compacted_topic_is_read_past_what_a_killed_predecessor_left(
    kafka_settings: KafkaSettings, topics: TopicSettings
) -> None:
    """The reader waits for a transaction that is open: its records are seen if it commits and gone if it was abandoned."""
    kafka = kafka_settings.model_copy(update={"transaction_timeout_ms": 10_000})
    table: dict[bytes | None, bytes | None] = {}
    reader = CompactedTable(kafka, topics.checkpoints, lambda r: table.update({r.key: r.value}))
    fill(kafka, topics.raw_flow_logs, 4)
    with _Member(kafka, topics.raw_flow_logs) as predecessor:
        predecessor.read(4)
        assert predecessor.session.commit([Outbound(topics.checkpoints, b"1", b"k")], {}) is CommitResult.COMMITTED
        reader.open()
        reader.catch_up()
        assert table == {b"k": b"1"}
        # Leave a transaction open, as a process does that is killed between produce and commit.
        client = predecessor.session._producer._client
        assert client is not None
        client.begin_transaction()
        client.produce(topics.checkpoints, b"2", b"k")
        assert client.flush(SECONDS) == 0
        with _Member(kafka, topics.raw_flow_logs):  # the successor with the same ordinal ends it
            reader.catch_up()
        reader.close()
    assert table == {b"k": b"1"}
    assert [r.value for r in read_compacted(kafka, topics.checkpoints, PARTITIONS)] == [b"1"]


def test_a_compacted_topic_is_read_with_little_memory(kafka_settings: KafkaSettings, topics: TopicSettings) -> None:
    """What waits in the client while records are applied is a few megabytes, however much the topic holds."""
    count, grown = 150_000, [0]
    _fill_alike(kafka_settings, topics.blob_state, count)
    before = psutil.Process().memory_info().rss

    def apply(_: Inbound) -> None:
        if not seen:
            time.sleep(3.0)  # the client fetches what it may
            grown[0] = psutil.Process().memory_info().rss - before
        seen.append(None)

    seen: list[None] = []
    reader = CompactedTable(kafka_settings, topics.blob_state, apply)
    reader.open()
    reader.catch_up()
    reader.close()
    assert len(seen) == count
    assert grown[0] < 40_000_000


def test_a_compacted_topic_may_hold_records_larger_than_a_fetch(kafka_settings: KafkaSettings, topics: TopicSettings) -> None:
    """Whatever the broker takes is read, also by a client that was told of larger messages still."""
    values = [os.urandom(900_000) for _ in range(4)]
    kafka = kafka_settings.model_copy(update={"librdkafka": {"message.max.bytes": "5000000"}})
    producer = Producer(producer_config(kafka_settings))
    for number, value in enumerate(values):
        producer.produce(topics.checkpoints, value, b"%d" % number, partition=0)
    assert producer.flush(SECONDS) == 0
    found: list[bytes | None] = []
    reader = CompactedTable(kafka, topics.checkpoints, lambda record: found.append(record.value))
    reader.open()
    reader.catch_up()
    reader.close()
    assert found == values


def test_waiting_for_a_broker_that_is_away_can_be_left(
    kafka: LocalKafka, kafka_settings: KafkaSettings, topics: TopicSettings
) -> None:
    """Who catches up with a topic is asked many times a second whether to go on, and who takes what is new never waits."""
    seen: list[bytes | None] = []
    reader = CompactedTable(kafka_settings, topics.raw_flow_logs, lambda record: seen.append(record.value))
    fill(kafka_settings, topics.raw_flow_logs, 4)
    reader.open()
    asked = 0

    def leave() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise Retry("leave")

    with frozen(kafka), pytest.raises(Retry, match="leave"):
        reader.catch_up(between=leave)
    assert seen == []
    reader.catch_up()
    with frozen(kafka):
        reader.take_new(lambda: None)
    assert sorted(value or b"" for value in seen) == [b"0", b"1", b"2", b"3"]
    fill(kafka_settings, topics.raw_flow_logs, 1, first=4)

    def has_arrived() -> bool:
        reader.take_new(lambda: None)
        return seen[-1] == b"4"

    until(has_arrived, "what is new is taken")
    reader.close()


def test_a_missing_topic_is_named_at_the_start(kafka_settings: KafkaSettings) -> None:
    """A service whose topic does not exist ends with one line that says which and how to make it."""
    member = _Member(kafka_settings, "No.Such.Topic")
    with pytest.raises(ConfigError, match=r"topic No\.Such\.Topic does not exist; run `blobtide topics apply`"):
        member.session.open()


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are ended with the test."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for child in started:
        child.kill()
        child.wait()


@pytest.mark.parametrize("die", ["before", "after"])
def test_a_killed_process_leaves_every_record_once(
    kafka_settings: KafkaSettings, topics: TopicSettings, children: list[subprocess.Popen[bytes]], die: str
) -> None:
    """SIGKILL between produce and commit, or just after the commit: the next process goes on; every record is there once."""
    sent = fill(kafka_settings, topics.raw_flow_logs, 200)
    spec = {
        "kafka": {"bootstrap_servers": kafka_settings.bootstrap_servers, "group_prefix": kafka_settings.group_prefix},
        "source": topics.raw_flow_logs,
        "target": topics.flows,
        "errors": topics.errors,
        "ordinal": 0,
    }

    def start(moment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.kafka_child", json.dumps({**spec, "die": moment})]
        children.append(subprocess.Popen(command))
        return children[-1]

    assert start(die).wait(SECONDS) == -signal.SIGKILL
    survivor = start("never")
    _until(lambda: len(_values(kafka_settings, topics.flows)) >= len(sent))
    survivor.terminate()
    assert survivor.wait(SECONDS) == 0
    assert _values(kafka_settings, topics.flows) == sorted(sent)
