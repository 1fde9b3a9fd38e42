"""Co-partitioned topics: a partition is processed only if every partner topic has one of the same number.

Partitions may be added to a topic while services run. The results of the new ones have no place to go until the partners have
as many partitions. Until then the new ones wait unread, and all others continue. Kafka is queried every `ASK_SECONDS` without
waiting for the response; until one arrives, the previous one counts. A partner may have more partitions than the topic read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from typing import Any, Final

import structlog
from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from libs.common.kafka.client.configs import SilentLog, admin_config, make_client
from libs.common.kafka.records import TopicPartition
from libs.common.settings.kafka import KafkaSettings

log = structlog.get_logger(__name__)

ASK_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 5.0
TOGETHER: Final = "these topics must have the same number of partitions"


class Partners:
    """The partner topics of one consumer. Used from its thread; nothing happens before the first `look`."""

    def __init__(
        self, kafka: KafkaSettings, topics: Collection[str], partners: Collection[str], clock: Callable[[], float]
    ) -> None:
        self._topics = topics
        self._partners = partners
        self._clock = clock
        self._counts: dict[str, int] = {}
        self._asker = _Asker(kafka)
        self._ask_at = clock()
        self._trouble = ""

    def look(self) -> None:
        """Apply responses, and query again when it is time; never blocks."""
        if not self._partners:
            return
        if answers := self._asker.answers():
            self._counts.update(answers)
            self._tell()
        if self._clock() >= self._ask_at:
            self._asker.ask([*self._topics, *self._partners])
            self._ask_at = self._clock() + ASK_SECONDS

    def has(self, partition: TopicPartition) -> bool:
        """Return whether every partner has a partition of this number, as far as is known."""
        return all(partition.partition < self._counts.get(name, partition.partition + 1) for name in self._partners)

    def trouble(self) -> str:
        """Return the topics with different partition counts; empty if they match."""
        return self._trouble

    def close(self) -> None:
        """Drop the client. Idempotent; a later `look` creates another."""
        self._asker.close()

    def _tell(self) -> None:
        """Check whether the partition counts match, and log changes."""
        most = max((self._counts.get(topic, 0) for topic in self._topics), default=0)
        known = [self._counts[name] for name in self._partners if name in self._counts]
        least = min(known, default=most)
        counts = ", ".join(f"{name} {self._counts[name]}" for name in (*self._topics, *self._partners) if name in self._counts)
        effect = f"until they do, partitions {least} and above wait while the others continue"
        trouble = f"{TOGETHER}: {counts}; {effect}" if most > least else ""
        if trouble and trouble != self._trouble:
            log.warning(trouble)
        elif self._trouble and not trouble:
            log.info("the partition counts match again; all partitions continue", counts=counts)
        self._trouble = trouble


class _Asker:
    """Queries partition counts, one query at a time."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._client: AdminClient | None = None
        self._asked: Mapping[str, Future[Any]] = {}

    def ask(self, topics: list[str]) -> None:
        """Send a query, unless one is pending."""
        if self._asked:
            return
        if self._client is None:
            self._client = make_client(AdminClient, admin_config(self._kafka), SilentLog("partners"))
        self._client.poll(0)  # drains accumulated log lines
        self._asked = self._client.describe_topics(TopicCollection(topics), request_timeout=_ANSWER_SECONDS)

    def answers(self) -> dict[str, int]:
        """Return the responses once, when all have arrived; topics that Kafka cannot answer for now are left out."""
        if not self._asked or not all(future.done() for future in self._asked.values()):
            return {}
        asked, self._asked = self._asked, {}
        counts = {}
        for topic, future in asked.items():
            try:
                counts[topic] = len(future.result().partitions)
            except KafkaException:
                continue  # unavailable or not permitted: the consumer and the producer report that
        if not counts:
            self._client = None  # the next one signs in with the current contents of the password file
        return counts

    def close(self) -> None:
        self._client = None
        self._asked = {}
