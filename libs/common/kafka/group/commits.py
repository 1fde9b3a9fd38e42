"""Commits outside a transaction: sent without waiting, judged when the response arrives."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as ClientPartition

from libs.common.kafka.client import metrics
from libs.common.kafka.client.failures import error_of, is_moved
from libs.common.kafka.client.outages import Outages
from libs.common.kafka.client.protocols import ConsumerClient
from libs.common.kafka.records import TopicPartition


class Commits:
    """Commits of one client at a time; the client's synchronous commit would block for as long as the coordinator hangs."""

    def __init__(self, outages: Outages) -> None:
        self._outages = outages
        self._errors: list[KafkaError] = []
        self._failed: set[TopicPartition] = set()
        self.unanswered = 0

    def reset(self) -> None:
        """Forget commits of the client before."""
        self._errors, self._failed, self.unanswered = [], set(), 0

    def send(self, client: ConsumerClient, offsets: Mapping[TopicPartition, int]) -> None:
        """Request a commit of `offsets`."""
        positions = [ClientPartition(p.topic, p.partition, offset) for p, offset in offsets.items()]
        self._failed -= offsets.keys()
        self.unanswered += 1
        try:
            client.commit(offsets=positions, asynchronous=True)
        except KafkaException as exception:
            self.answered(error_of(exception), positions)

    def answered(self, error: KafkaError | None, partitions: list[ClientPartition]) -> None:
        """Record a response. A client callback: it never raises."""
        self.unanswered -= 1
        self._errors += [found for found in (error, *(p.error for p in partitions)) if found is not None]
        self._failed |= {TopicPartition(p.topic, p.partition) for p in partitions if error is not None or p.error is not None}

    def failed(self) -> frozenset[TopicPartition]:
        """Return the partitions of which a commit failed and no later one was sent."""
        return frozenset(self._failed)

    def judge(self) -> None:
        """Count failed commits; raise if Kafka refused one."""
        errors, self._errors = self._errors, []
        for error in errors:
            if is_moved(error):
                metrics.LOST_COMMITS.labels("moved").inc()
            else:
                metrics.LOST_COMMITS.labels("failed").inc()
                self._outages.tolerate(error, "committing offsets")
