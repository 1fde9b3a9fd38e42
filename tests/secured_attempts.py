"""What users of a broker with an authorizer attempt, and rights that one is given for a while."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from libs.common.kafka.client.configs import consumer_config, make_admin, producer_config, transactional_config
from libs.common.kafka.topics.acls import Right, grant_rights
from libs.common.settings.kafka import TopicSettings
from tests.secured_kafka import SecuredKafka

SECONDS: Final = 30.0
TOPICS: Final = TopicSettings()


def reading(broker: SecuredKafka, user: str, topic: str) -> None:
    """Read `topic` in the user's own group; raise what Kafka says of it."""
    joining(broker, user, f"blobtide.{user.replace('-', '.')}", topic)


def writing(broker: SecuredKafka, user: str, topic: str) -> None:
    """Write to `topic`; raise what Kafka says of it."""
    producer = Producer(producer_config(broker.settings(user)))
    errors: list[KafkaError | None] = []
    producer.produce(topic, b"x", on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(SECONDS) == 0
    raise_error(errors[0])


def opening(broker: SecuredKafka, user: str, name: str) -> None:
    """Open a transactional id; raise what Kafka says of it."""
    Producer(transactional_config(broker.settings(user), name)).init_transactions(SECONDS)


def joining(broker: SecuredKafka, user: str, group: str, topic: str = TOPICS.flows) -> None:
    """Read `topic` in `group`; raise what Kafka says of it."""
    consumer = Consumer(consumer_config(broker.settings(user), group))
    try:
        consumer.subscribe([topic])
        for message in consumer.consume(1, SECONDS):
            raise_error(message.error())
    finally:
        consumer.close()


def creating(broker: SecuredKafka, user: str, name: str) -> None:
    """Create a topic; raise what Kafka says of it."""
    admin = make_admin(broker.settings(user))
    admin.create_topics([NewTopic(name, 1)])[name].result(SECONDS)  # a client that is gone answers nothing


def raise_error(error: KafkaError | None) -> None:
    """Raise what is an error."""
    if error is not None:
        raise KafkaException(error)


@contextmanager
def granted(broker: SecuredKafka, rights: Sequence[Right]) -> Iterator[None]:
    """Give `nobody` rights for a while."""
    administrator = broker.as_administrator()
    grant_rights(administrator, rights)
    try:
        yield
    finally:
        admin = make_admin(administrator)
        anything: Any = None
        own = AclBindingFilter(
            ResourceType.ANY,
            anything,
            ResourcePatternType.ANY,
            "User:nobody",
            anything,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        admin.delete_acls([own])[own].result(SECONDS)
