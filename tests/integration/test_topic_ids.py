"""The ids of topics on a real Kafka."""

from __future__ import annotations

import re
import time

import pytest
from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from libs.common.errors import BlobtideError, Retry
from libs.common.kafka.topics.topic_ids import TopicIds
from libs.common.settings.kafka import KafkaSettings, TopicSettings

pytestmark = pytest.mark.kafka

SECONDS = 30.0


def _create(admin: AdminClient, topic: str) -> None:
    """Create `topic`; one of that name may still be on its way out."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(SECONDS)
        except KafkaException:
            assert time.monotonic() < deadline
        else:
            return


def test_a_topic_that_is_created_anew_has_another_id(kafka_settings: KafkaSettings, topics: TopicSettings) -> None:
    """The id stays while the topic does; whoever asks again after a deletion learns the new one."""
    admin = AdminClient({"bootstrap.servers": kafka_settings.bootstrap_servers})
    name = f"{topics.errors}.anew"
    _create(admin, name)
    ids = TopicIds(kafka_settings)
    first = _listed(ids, name, not_this=None)
    assert re.fullmatch(r"[A-Za-z0-9+/]{22}", first)
    assert ids(topics.errors) != first
    assert TopicIds(kafka_settings)(name) == first

    admin.delete_topics([name])[name].result(SECONDS)
    _create(admin, name)
    assert ids(name) == first
    ids.forget([name])
    second = _listed(ids, name, not_this=first)
    assert second == TopicIds(kafka_settings)(name)
    described = admin.describe_topics(TopicCollection([name]))[name].result(SECONDS)
    assert second == str(described.topic_id)


def _listed(ids: TopicIds, topic: str, not_this: str | None) -> str:
    """Return the id of a topic that has just been created, once the broker lists it and no longer lists the one before."""
    deadline = time.monotonic() + SECONDS
    while (found := _asked(ids, topic)) is None or found == not_this:
        assert time.monotonic() < deadline
        ids.forget([topic])
    return found


def _asked(ids: TopicIds, topic: str) -> str | None:
    try:
        return ids(topic)
    except BlobtideError:
        return None


def test_the_id_of_a_topic_that_is_not_there_is_an_error_that_names_it(kafka_settings: KafkaSettings) -> None:
    """Nothing is made up for it."""
    with pytest.raises(BlobtideError, match=r"querying the id of topic No\.Such"):
        TopicIds(kafka_settings)("No.Such")


def test_a_kafka_that_is_away_is_asked_again_later() -> None:
    """Whoever needs the id waits for Kafka, and does not end."""
    with pytest.raises(Retry, match="did not respond"):
        TopicIds(KafkaSettings(bootstrap_servers="127.0.0.1:9"))("Errors")
