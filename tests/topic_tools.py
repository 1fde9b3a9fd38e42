"""What integration tests ask of topics and groups: counts, lag, deletion."""

from __future__ import annotations

import time
from collections.abc import Iterable

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from libs.common.kafka.follow import Follower, Since
from libs.common.kafka.records import Inbound
from libs.common.settings.kafka import KafkaSettings

SECONDS = 30.0


def committed_records(kafka: KafkaSettings, topic: str) -> list[Inbound]:
    """Return every committed record of a topic."""
    follower = Follower(kafka, (topic,), Since(0))
    follower.open()
    try:
        return list(follower.backlog())
    finally:
        follower.close()


def lag(kafka: KafkaSettings, group: str, topic: str) -> int:
    """Return how many offsets of `topic` the group has not committed; transaction markers count, the last one excepted."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "lag", "isolation.level": "read_committed"})
    try:
        partitions = [TopicPartition(topic, n) for n in admin.list_topics(topic, timeout=SECONDS).topics[topic].partitions]
        asked = ConsumerGroupTopicPartitions(f"{kafka.group_prefix}.{group}", partitions)
        committed = admin.list_consumer_group_offsets([asked])[asked.group_id].result(SECONDS).topic_partitions
        total = 0
        for partition in committed:
            low, high = consumer.get_watermark_offsets(partition, timeout=SECONDS)
            total += max(0, high - 1 - max(partition.offset, low)) if high > low else 0
        return total
    finally:
        consumer.close()


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
    """Delete consumer groups, so that they begin at the beginning."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    names = [f"{kafka.group_prefix}.{group}" for group in groups]
    for future in admin.delete_consumer_groups(names).values():
        future.result(SECONDS)
