"""The lag metric of a group consumer, on a real Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, Producer
from prometheus_client import REGISTRY

from libs.common.kafka.client.configs import consumer_config, transactional_config
from libs.common.kafka.group import lag
from libs.common.kafka.group.consumer import GroupConsumer
from libs.common.kafka.group.membership import GroupSpec
from libs.common.kafka.group.offsets import next_offsets
from libs.common.kafka.testing import SilentListener
from libs.common.settings.kafka import KafkaSettings, TopicSettings

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

SECONDS = 60.0
PARTITIONS = range(4)
RECORDS = 5  # a partition and transaction


def _write(producer: Producer, topic: str) -> None:
    """Write one transaction: some records to each partition, and behind them a marker."""
    producer.begin_transaction()
    for number in range(RECORDS * len(PARTITIONS)):
        producer.produce(topic, b"v", partition=number % len(PARTITIONS))
    producer.commit_transaction(SECONDS)


def _shown(topic: str) -> dict[int, float]:
    """Return the lag of each partition that shows one."""
    labels = {number: {"topic": topic, "partition": str(number)} for number in PARTITIONS}
    found = {number: REGISTRY.get_sample_value("blobtide_kafka_consumer_lag_records", labels[number]) for number in PARTITIONS}
    return {number: value for number, value in found.items() if value is not None}


def _at_least(topic: str, records: int) -> Callable[[], bool]:
    return lambda: min(_shown(topic).values()) >= records


def _until(done: Callable[[], bool], step: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline, what
        step()


def test_lag_grows_while_paused_is_zero_when_idle_and_goes_with_the_partition(
    kafka_settings: KafkaSettings, topics: TopicSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits is shown also while nothing is fetched; markers behind the last record are nothing that waits."""
    monkeypatch.setattr(lag, "ASK_SECONDS", 0.2)
    group, topic = f"{kafka_settings.group_prefix}.lag", topics.flows
    producer = Producer(transactional_config(kafka_settings, group))
    producer.init_transactions(SECONDS)
    _write(producer, topic)
    consumer = GroupConsumer(kafka_settings, GroupSpec(group, (topic,)), SilentListener())

    def read() -> None:
        if records := consumer.poll(100, 0.1):
            consumer.commit(next_offsets(records))

    consumer.open()
    try:
        _until(lambda: _shown(topic) == dict.fromkeys(PARTITIONS, 0.0), read, "all is read, and no lag")
        consumer.pause()
        for transactions in (1, 2):  # what waits grows while nothing is read
            _write(producer, topic)
            _until(_at_least(topic, transactions * RECORDS), read, "what waits is shown")
        assert max(_shown(topic).values()) <= 2 * (RECORDS + 1) + 1  # with the markers of three transactions
        consumer.resume()
        _until(lambda: _shown(topic) == dict.fromkeys(PARTITIONS, 0.0), read, "all is read again, and no lag")
        other = Consumer(consumer_config(kafka_settings, group))
        other.subscribe([topic])

        def share() -> None:
            read()
            other.poll(0.1)

        _until(lambda: 0 < len(consumer.owned()) < len(PARTITIONS), share, "another has its share")
        assert set(_shown(topic)) <= {partition.partition for partition in consumer.owned()}
        other.close()
    finally:
        consumer.close()
    assert _shown(topic) == {}
