"""How far a group has come, asked by a process that is not its member."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from typing import Final

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as ClientPartition

from libs.common.kafka.client.client_log import ClientLog
from libs.common.kafka.client.configs import consumer_config, make_client
from libs.common.kafka.client.failures import error_of, translated
from libs.common.settings.kafka import KafkaSettings

_SECONDS: Final = 10.0


def committed_offsets(kafka: KafkaSettings, role: str, topic: str, partitions: Collection[int]) -> dict[int, int]:
    """Return the next offsets that the group of `role` has committed; 0 for partitions of which it has committed none.

    A consumer that never joins asks: with an admin client's request, the client library ends the process if the coordinator
    moves at that moment (librdkafka's issue 3663).

    Raises:
        ServerUnreachable: Kafka does not respond.
        BlobtideError: it refuses.
    """
    group = f"{kafka.group_prefix}.{role}"
    with closing(make_client(Consumer, consumer_config(kafka, group), ClientLog("committed"))) as consumer:
        try:
            found = consumer.committed([ClientPartition(topic, number) for number in partitions], timeout=_SECONDS)
        except KafkaException as error:
            raise translated(error_of(error), f"asking how far {group} has come") from error
    return {partition.partition: max(0, partition.offset) for partition in found}
