"""Where a group consumer begins, on a real Kafka."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as ClientPartition

from libs.common.kafka.client.client_log import ClientLog
from libs.common.kafka.client.configs import consumer_config, make_client, producer_config
from libs.common.kafka.client.protocols import ConsumerClient
from libs.common.kafka.group.consumer import GroupConsumer
from libs.common.kafka.group.membership import GroupSpec
from libs.common.kafka.records import Inbound, TopicPartition
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.kafka import LocalKafka
from tests.freezing import suspended

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

SECONDS = 60.0
PARTITIONS = 4
RECORDS = 20  # a partition
COMMITTED = 7
# The client asks again, half a second later, for an offset of which the answer came too late.
ASKS_AGAIN_SECONDS = 0.5


class _Listener:
    def assigned(self, partitions: Collection[TopicPartition]) -> None: ...

    def revoked(self, partitions: Collection[TopicPartition]) -> None: ...

    def rewound(self, partitions: Collection[TopicPartition]) -> None: ...


class _Slow(Consumer):
    """The client, in whose process or broker something takes long between its answers and what they are used for."""

    meanwhile: Callable[[], None]
    asked = 0

    def get_watermark_offsets(self, partition: ClientPartition, *args: Any, **more: Any) -> tuple[int, int]:
        answer: tuple[int, int] = super().get_watermark_offsets(partition, *args, **more)
        self.asked += 1
        if self.asked == PARTITIONS:
            self.meanwhile()
        return answer


def _consumer(kafka: KafkaSettings, topic: str, meanwhile: Callable[[], None]) -> GroupConsumer:
    def make(client_log: ClientLog) -> ConsumerClient:
        client: Any = make_client(_Slow, consumer_config(kafka, f"{kafka.group_prefix}.slow"), client_log)
        client.meanwhile = meanwhile
        return cast("ConsumerClient", client)

    return GroupConsumer(kafka, GroupSpec(f"{kafka.group_prefix}.slow", (topic,)), _Listener(), make)


def _commit(kafka: KafkaSettings, topic: str) -> None:
    """Fill each partition and commit an offset in its middle."""
    producer = Producer(producer_config(kafka))
    for number in range(PARTITIONS * RECORDS):
        producer.produce(topic, b"%d" % number, partition=number % PARTITIONS)
    assert producer.flush(SECONDS) == 0
    client = Consumer(consumer_config(kafka, f"{kafka.group_prefix}.slow"))
    client.commit(offsets=[ClientPartition(topic, number, COMMITTED) for number in range(PARTITIONS)], asynchronous=False)
    client.close()


def test_a_broker_that_answers_late_while_partitions_are_placed_makes_nothing_come_twice(
    kafka: LocalKafka, kafka_settings: KafkaSettings, topics: TopicSettings
) -> None:
    """Each partition gives its records from the committed offset on, once and in order, whenever the broker's answers come."""

    def hang() -> None:
        """Return while the broker hangs, after the client may have asked it something once more."""
        processes = suspended(kafka)
        time.sleep(2 * ASKS_AGAIN_SECONDS)
        for process in processes:
            threading.Timer(ASKS_AGAIN_SECONDS / 2, process.resume).start()

    topic = topics.raw_flow_logs
    _commit(kafka_settings, topic)
    consumer = _consumer(kafka_settings, topic, hang)
    consumer.open()
    try:
        records = _read(consumer, PARTITIONS * (RECORDS - COMMITTED))
    finally:
        consumer.close()
    for number in range(PARTITIONS):
        assert [record.offset for record in records if record.partition == number] == list(range(COMMITTED, RECORDS))


def _read(consumer: GroupConsumer, count: int) -> list[Inbound]:
    """Return `count` records and what comes in the two seconds after them."""
    records: list[Inbound] = []
    deadline = time.monotonic() + SECONDS
    while len(records) < count:
        assert time.monotonic() < deadline, f"only {len(records)} records came"
        records += consumer.poll(100, 0.2)
    until = time.monotonic() + 4 * ASKS_AGAIN_SECONDS
    while time.monotonic() < until:
        records += consumer.poll(100, 0.2)
    return records
