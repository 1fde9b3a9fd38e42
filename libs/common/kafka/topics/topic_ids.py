"""The ids that Kafka assigns to topics on creation.

A topic that is deleted and created again under the same name has a new id, and its offsets refer to other records. The id
therefore identifies the generation of the source.
"""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

from libs.common.errors import Retry, ServerUnreachable
from libs.common.kafka.client.configs import ANSWER_SECONDS, answer_of, make_admin
from libs.common.settings.kafka import KafkaSettings


class TopicIds:
    """Returns the id of a topic, asking Kafka once for each. Connects on first use; belongs to one thread."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._admin: AdminClient | None = None
        self._known: dict[str, str] = {}

    def __call__(self, topic: str) -> str:
        """Return the id of `topic`: 22 characters of base64 (with ``+`` and ``/``).

        In a cluster without ids, all topics have the same one.

        Raises:
            Retry: if Kafka does not respond.
            BlobtideError: if there is no such topic, or this user may not see it.
        """
        if topic not in self._known:
            self._known[topic] = self._asked(topic)
        return self._known[topic]

    def forget(self, topics: Iterable[str]) -> None:
        """Ask again for the ids of `topics`: their partitions have moved, and they may have been recreated."""
        for topic in topics:
            self._known.pop(topic, None)

    def _asked(self, topic: str) -> str:
        self._admin = self._admin or make_admin(self._kafka)
        answers = self._admin.describe_topics(TopicCollection([topic]), request_timeout=ANSWER_SECONDS)
        try:
            return str(answer_of(answers[topic], f"querying the id of topic {topic}").topic_id)
        except ServerUnreachable as error:
            raise Retry(str(error)) from error
