"""A Kafka with a topic to write rows to."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any, Final

from confluent_kafka import Consumer, Producer, TopicPartition

from libs.common.errors import ServerUnreachable
from libs.common.kafka.topics.making import make_topic
from libs.common.settings.kafka import KafkaSettings
from libs.local.kafka import LocalKafka

TOPIC: Final = "rows"
PARTITIONS: Final = 4
_TRIES: Final = 5
_SECONDS: Final = 60.0
_AT_ONCE: Final = 10_000
_LOOK_SECONDS: Final = 0.2


class TargetKafka(LocalKafka):
    """A broker with the topic `TOPIC`."""

    name = "target_kafka"

    def start(self) -> None:
        """Start, and make the topic."""
        super().start()
        for left in reversed(range(_TRIES)):
            try:
                make_topic(KafkaSettings(bootstrap_servers=self.bootstrap_servers), TOPIC, PARTITIONS, {})
            except ServerUnreachable:
                if not left:
                    raise
            else:
                return

    def committed_records(self) -> int:
        """Return how many records of the topic a careful consumer reads."""
        config = {"bootstrap.servers": self.bootstrap_servers, "group.id": "count", "isolation.level": "read_committed"}
        with closing(Consumer({**config, "enable.partition.eof": True, "enable.auto.commit": False})) as consumer:
            consumer.assign([TopicPartition(TOPIC, number, 0) for number in range(PARTITIONS)])
            records = ends = 0
            deadline = time.monotonic() + _SECONDS
            while ends < PARTITIONS:
                assert time.monotonic() < deadline, "Kafka does not answer"
                messages = consumer.consume(_AT_ONCE, _LOOK_SECONDS)
                at_ends = sum(message.error() is not None for message in messages)
                records, ends = records + len(messages) - at_ends, ends + at_ends
            return records


KEY_AND_HEADERS: Final[Mapping[str, Any]] = {
    "key": b"shop.prod/insights-logs-flowlogflowevent/flowLogResourceID=/SUBSCRIPTION_GROUP/WATCHER_FLOWLOG/y=2026/m=05/d=01"
    b"/h=12/m=00/macAddress=00224871C205/PT1H.json",
    "headers": [
        ("id", b"0123456789abcdef0123456789abcdef-40960-17"),
        ("row-type", b"flows"),
        ("schema-version", b"1"),
        ("content-type", b"application/json"),
    ],
}
"""What the records of the sinks have besides their content."""


def produce(config: Mapping[str, Any], rows: Iterable[bytes], **more: Any) -> int:
    """Write records to the topic with nothing but the client, and return how many were acknowledged.

    `more` are further arguments of its call, the same for all.
    """
    producer = Producer({**config, "enable.idempotence": True})
    sent = 0
    for row in rows:
        while True:
            try:
                producer.produce(TOPIC, row, **more)
                break
            except BufferError:
                producer.poll(1)
        sent += 1
    return sent - producer.flush(_SECONDS)
