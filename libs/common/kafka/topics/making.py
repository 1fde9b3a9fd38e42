"""Create a single topic that is not declared anywhere, for commands that prepare a destination."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from libs.common.errors import BlobtideError
from libs.common.kafka.client.configs import ANSWER_SECONDS, answer_of, check_reachable, make_admin
from libs.common.kafka.topics.admin import is_there_already, wait_for
from libs.common.settings.kafka import KafkaSettings

_AS_THE_CLUSTER_DOES: Final = -1  # replication


def make_topic(kafka: KafkaSettings, topic: str, partitions: int, config: Mapping[str, str]) -> bool:
    """Create a topic unless it exists; return whether it was created. An existing topic is not changed.

    Raises:
        ServerUnreachable: if Kafka does not respond.
        BlobtideError: if Kafka refuses.
    """
    check_reachable(kafka)
    admin = make_admin(kafka)
    wanted = NewTopic(topic, partitions, _AS_THE_CLUSTER_DOES, config=dict(config))
    (future,) = admin.create_topics([wanted], request_timeout=ANSWER_SECONDS, operation_timeout=ANSWER_SECONDS).values()
    try:
        answer_of(future, f"creating topic {topic}")
    except BlobtideError as error:
        if not is_there_already(error.__cause__):
            raise
        return False
    wait_for(admin, [topic])
    return True
