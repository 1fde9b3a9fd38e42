"""The ids that Kafka gives to topics when they are created.

A topic that was deleted and created again under its name has another id, and its offsets mean other records. The id makes it
another generation of the same source.
"""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

from libs.common.errors import Retry, ServerUnreachable
from libs.common.kafka.client.configs import ANSWER_SECONDS, answer_of, make_admin
from libs.common.settings.kafka import KafkaSettings


class TopicIds:
    """Gives the id of a topic, and asks Kafka once for each. Connects when first asked; belongs to one thread."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._admin: AdminClient | None = None
        self._known: dict[str, str] = {}

    def __call__(self, topic: str) -> str:
        """Return the id of `topic`: 22 characters of URL-safe base64. A cluster that has no ids gives all topics the same.

        Raises:
            Retry: Kafka does not answer.
            BlobtideError: there is no such topic, or this user may not know of it.
        """
        if topic not in self._known:
            self._known[topic] = self._asked(topic)
        return self._known[topic]

    def forget(self, topics: Iterable[str]) -> None:
        """Ask again for the ids of `topics`: their partitions have moved, and they may have been created anew."""
        for topic in topics:
            self._known.pop(topic, None)

    def _asked(self, topic: str) -> str:
        self._admin = self._admin or make_admin(self._kafka)
        answers = self._admin.describe_topics(TopicCollection([topic]), request_timeout=ANSWER_SECONDS)
        try:
            return str(answer_of(answers[topic], f"querying the id of topic {topic}").topic_id)
        except ServerUnreachable as error:
            raise Retry(str(error)) from error
