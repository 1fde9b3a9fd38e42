"""A transform that asks for time, on a real Kafka."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence

import pytest

from libs.common.errors import Retry
from libs.common.kafka.loops.transform_loop import PollPolicy, Transform, TransformLoop
from libs.common.kafka.publisher import Publisher, PublisherSpec
from libs.common.kafka.records import Inbound, Outbound, TopicPartition
from libs.common.kafka.transactions.session import SessionSpec, TransactionalSession
from libs.common.process.health import Health
from libs.common.process.service import Stop
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from tests.topic_tools import committed_records, lag

pytestmark = pytest.mark.kafka

SECONDS = 60.0
# A member that does not poll for so long loses its partitions; Kafka takes no less.
LONGEST_POLL = 10.0
COUNT = 200


class _Patient(Transform):
    """Copies records; first has its partitions wait, then its first batch for longer than a member may be silent."""

    def __init__(self, topic: str, stop: Stop) -> None:
        self._topic = topic
        self._stop = stop
        self._copied = 0
        self._handled = 0
        self.asked: list[str] = []
        self.batches: list[list[bytes | None]] = []

    def assigned(self, partitions: Collection[TopicPartition], between: Callable[[], None]) -> None:
        between()
        self.asked.append(f"assigned {len(partitions)}")
        if len(self.asked) == 1:
            raise Retry("its state is not there", after=0.5)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        self.asked.append(f"revoked {len(partitions)}")

    def handle(self, batch: Sequence[Inbound]) -> list[Outbound]:
        self.batches.append([record.value for record in batch])
        if len(self.batches) == 1:
            raise Retry("no answer", after=LONGEST_POLL + 2)
        self._handled = len(batch)
        return [Outbound(self._topic, record.value, partition=record.partition) for record in batch]

    def committed(self) -> None:
        self._copied += self._handled
        if self._copied == COUNT:
            self._stop.set()


def test_work_that_waits_longer_than_a_member_may_be_silent_keeps_its_partitions(
    kafka_settings: KafkaSettings, topics: TopicSettings
) -> None:
    """The same batch comes again to the same member, nothing is open meanwhile, and every record is copied once."""
    kafka = kafka_settings.model_copy(update={"max_poll_interval_ms": int(LONGEST_POLL * 1000), "session_timeout_ms": 6_000})
    values = [b"%d" % number for number in range(COUNT)]
    publisher = Publisher(kafka, PublisherSpec("things"))
    publisher.publish([Outbound(topics.flows, value, partition=number % 4) for number, value in enumerate(values)])
    publisher.close()
    stop = Stop()
    transform = _Patient(topics.raw_application_logs, stop)
    timer = threading.Timer(SECONDS, stop.set)
    timer.start()
    try:
        TransformLoop(
            lambda listener: TransactionalSession(kafka, SessionSpec("copy", 0, (topics.flows,)), listener),
            transform,
            PollPolicy(0.5, 50, 1 << 20),
            topics.errors,
            "copy",
        ).run(stop, Health())
    finally:
        timer.cancel()
    assert transform.asked == ["assigned 4", "assigned 4", "revoked 4"]
    assert transform.batches[0] == transform.batches[1]
    assert sorted(record.value or b"" for record in committed_records(kafka, topics.raw_application_logs)) == sorted(values)
    assert committed_records(kafka, topics.errors) == []
    assert lag(kafka, "copy", topics.flows) == 0
