"""What integration tests ask of topics and groups: counts, lag, deletion."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from contextlib import closing

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from libs.common.kafka.client.configs import producer_config
from libs.common.kafka.readers.compacted import CompactedTable, patience_for
from libs.common.kafka.readers.follow import Follower, Since
from libs.common.kafka.records import Inbound
from libs.common.settings.kafka import KafkaSettings

SECONDS = 30.0
_PARTITIONS = 4


def committed_records(kafka: KafkaSettings, topic: str) -> list[Inbound]:
    """Return every committed record of a topic."""
    follower = Follower(kafka, (topic,), Since(0))
    follower.open()
    try:
        return list(follower.backlog())
    finally:
        follower.close()


def committed_offsets(kafka: KafkaSettings, group: str, topic: str, partitions: Collection[int]) -> dict[int, int]:
    """Return what the group has committed by partition, negative where nothing.

    A consumer that never joins asks: with an admin client's request the client library ends the process when the
    coordinator moves at that moment (librdkafka's issue 3663).
    """
    with closing(_asker(kafka, group)) as consumer:
        found = consumer.committed([TopicPartition(topic, number) for number in partitions], timeout=SECONDS)
        return {partition.partition: partition.offset for partition in found}


def read_compacted(kafka: KafkaSettings, topic: str, partitions: Collection[int]) -> list[Inbound]:
    """Return every committed record of some partitions, in order per partition, when no transaction is open any more."""
    found: list[Inbound] = []
    table = CompactedTable(kafka, topic, found.append)
    table.open(partitions)
    try:
        table.catch_up(patience_for(kafka))
    finally:
        table.close()
    return found


def fill(kafka: KafkaSettings, topic: str, count: int, first: int = 0) -> list[bytes]:
    """Write the numbers from `first` on, in turn to the partitions of a topic with four, and return them as the values."""
    producer = Producer(producer_config(kafka))
    values = [b"%d" % number for number in range(first, first + count)]
    for number, value in enumerate(values):
        producer.produce(topic, value, partition=number % _PARTITIONS)
    assert producer.flush(SECONDS) == 0
    return values


def lag(kafka: KafkaSettings, group: str, topic: str) -> int:
    """Return how many offsets of `topic` the group has not committed; transaction markers count, the last one excepted."""
    total = 0
    with closing(_asker(kafka, group)) as consumer:
        numbers = consumer.list_topics(topic, timeout=SECONDS).topics[topic].partitions
        for number, offset in committed_offsets(kafka, group, topic, numbers).items():
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=SECONDS)
            total += max(0, high - 1 - max(offset, low)) if high > low else 0
    return total


def limit(kafka: KafkaSettings, topic: str, size: int) -> None:
    """Set `max.message.bytes` of a topic."""
    configure(kafka, topic, "max.message.bytes", str(size))


def configure(kafka: KafkaSettings, topic: str, name: str, value: str) -> None:
    """Set an option of a topic, and wait until its broker knows."""
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.incremental_alter_configs([resource])[resource].result(SECONDS)
    deadline = time.monotonic() + SECONDS
    while admin.describe_configs([resource])[resource].result(SECONDS)[name].value != value:
        assert time.monotonic() < deadline, f"{topic} keeps its {name}"
        time.sleep(0.1)


def _asker(kafka: KafkaSettings, group: str) -> Consumer:
    return Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": f"{kafka.group_prefix}.{group}"})


def recreate(kafka: KafkaSettings, topic: str) -> None:
    """Delete a topic with all its records and make it anew with as many partitions."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    partitions = len(admin.list_topics(topic, timeout=SECONDS).topics[topic].partitions)
    admin.delete_topics([topic])[topic].result(SECONDS)
    deadline = time.monotonic() + SECONDS
    while True:  # deletion goes on for a moment after the answer
        try:
            admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(SECONDS)
        except KafkaException:
            assert time.monotonic() < deadline, f"{topic} does not go away"
            time.sleep(0.2)
        else:
            return


def forget_groups(kafka: KafkaSettings, groups: Iterable[str]) -> None:
    """Delete consumer groups, so that they begin at the beginning; members that left without a word are in them for a while."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    deadline = time.monotonic() + SECONDS
    waiting: Collection[str] = [f"{kafka.group_prefix}.{group}" for group in groups]
    while waiting := {
        name: future.exception(SECONDS)
        for name, future in admin.delete_consumer_groups(sorted(waiting)).items()
        if future.exception(SECONDS) is not None
    }:
        assert time.monotonic() < deadline, f"groups stay: {waiting}"
        time.sleep(0.2)


def members(kafka: KafkaSettings, group: str) -> int:
    """Return how many members a group has; a killed one is a member until its session ends."""
    name = f"{kafka.group_prefix}.{group}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    return len(admin.describe_consumer_groups([name])[name].result(SECONDS).members)
