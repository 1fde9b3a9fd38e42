"""Writing dead letters outside a transaction: durable when `write` returns, perhaps twice after a crash, never lost."""

from __future__ import annotations

from collections.abc import Sequence

from libs.common.errors import BlobtideError, Retry
from libs.common.kafka.client import metrics
from libs.common.kafka.publisher import Publisher, PublisherSpec
from libs.common.kafka.records import Outbound
from libs.common.messages.dead_letters import DeadLetter
from libs.common.settings.kafka import KafkaSettings


class DeadLetterWriter:
    """Publishes to `topic`. Of a letter that the topic does not take as a whole, the beginning is written."""

    def __init__(self, kafka: KafkaSettings, topic: str, publisher: Publisher | None = None) -> None:
        self._topic = topic
        self._publisher = publisher or Publisher(kafka, PublisherSpec("dead letters", (topic,)))

    def open(self) -> None:
        """Learn how much the topic takes. Optional: otherwise refusals teach it.

        Raises:
            ConfigError: too little to be of use.
        """
        self._publisher.limits.read()

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """Write all `letters`; return when every one is acknowledged.

        Raises:
            Retry: not all of them were; write all of them again.
            ConfigError: the topic takes too little to be of use.
            BlobtideError: Kafka refuses them for good, for example for want of rights.
        """
        refused = self._publisher.publish([self._message(letter) for letter in letters])
        if any(record.is_too_large for record in refused):
            raise Retry(f"{self._topic} does not accept messages as large as these dead letters", after=0.0)
        if refused:
            raise BlobtideError(f"dead letters cannot be written to {self._topic}: {refused[0].reason}")
        for letter in letters:
            metrics.DEAD_LETTERS.labels(letter.stage, letter.code.value).inc()

    def close(self) -> None:
        """Drop the client; letters that were not acknowledged are the caller's to write again. Idempotent."""
        self._publisher.close()

    def _message(self, letter: DeadLetter) -> Outbound:
        return self._publisher.limits.fitted(Outbound(self._topic, letter.data, letter.key, letter.headers()))
