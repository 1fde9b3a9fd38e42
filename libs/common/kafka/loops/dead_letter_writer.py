"""Write dead letters outside a transaction: durable when `write` returns, possibly duplicated after a crash, never lost."""

from __future__ import annotations

from collections.abc import Sequence

from libs.common.errors import BlobtideError, Retry
from libs.common.kafka.client import metrics
from libs.common.kafka.publisher import Publisher, PublisherSpec
from libs.common.kafka.records import Outbound
from libs.common.messages.dead_letters import DeadLetter
from libs.common.settings.kafka import KafkaSettings


class DeadLetterWriter:
    """Publishes to `topic`. Letters too large for the topic are truncated."""

    def __init__(self, kafka: KafkaSettings, topic: str, publisher: Publisher | None = None) -> None:
        self._topic = topic
        self._publisher = publisher or Publisher(kafka, PublisherSpec("dead letters", (topic,)))

    def open(self) -> None:
        """Read the topic's size limit. Optional: otherwise it is learned from refusals.

        Raises:
            ConfigError: the limit is too small.
        """
        self._publisher.limits.read()

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """Write all `letters`; return when all are acknowledged.

        Raises:
            Retry: not all were acknowledged; write all of them again.
            ConfigError: the topic's size limit is too small.
            BlobtideError: Kafka refuses them for good, for example because of missing rights.
        """
        refused = self._publisher.publish([self._message(letter) for letter in letters])
        if any(record.is_too_large for record in refused):
            raise Retry(f"{self._topic} does not accept messages as large as these dead letters", after=0.0)
        if refused:
            raise BlobtideError(f"dead letters cannot be written to {self._topic}: {refused[0].reason}")
        for letter in letters:
            metrics.DEAD_LETTERS.labels(letter.stage, letter.code.value).inc()

    def close(self) -> None:
        """Drop the client; the caller must write unacknowledged letters again. Idempotent."""
        self._publisher.close()

    def _message(self, letter: DeadLetter) -> Outbound:
        return self._publisher.limits.fitted(Outbound(self._topic, letter.data, letter.key, letter.headers()))
