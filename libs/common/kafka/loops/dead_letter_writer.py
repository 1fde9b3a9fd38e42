"""Writing dead letters outside a transaction: durable when `write` returns, perhaps twice after a crash, never lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, Message, Producer

from libs.common.errors import Retry
from libs.common.kafka.client import metrics
from libs.common.kafka.client.client_log import ClientLog
from libs.common.kafka.client.configs import make_client, producer_config
from libs.common.kafka.client.failures import RAISED_WHILE_SERVING, error_of, is_denied, is_passing, is_too_large, translated
from libs.common.kafka.records import Outbound
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.messages.dead_letters import DeadLetter
from libs.common.settings.kafka import KafkaSettings

log = structlog.get_logger(__name__)

FLUSH_SECONDS: Final = 3.0


class DeadLetterWriter:
    """An idempotent producer for `topic`. Of a letter that the topic does not take as a whole, the beginning is written."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._limits = TopicLimits(kafka, (topic,))
        self._client: Any = None
        self._problems: list[KafkaError] = []

    def open(self) -> None:
        """Learn how much the topic takes. Optional: otherwise refusals teach it.

        Raises:
            ConfigError: too little to be of use.
        """
        self._limits.read()

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """Write all `letters`; return when every one is acknowledged.

        Raises:
            Retry: not all of them were; write all of them again.
            ConfigError: the topic takes too little to be of use.
            BlobtideError: Kafka refuses them for good, for example for want of rights.
        """
        if not letters:
            return
        if self._client is None:
            self._client = make_client(Producer, self._limits.config(producer_config(self._kafka)), ClientLog("dead letters"))
        self._problems = []
        try:
            for letter in letters:
                self._send(self._limits.fitted(Outbound(self._topic, letter.data, letter.key, letter.headers())))
            left = self._client.flush(FLUSH_SECONDS)
        except BufferError as error:
            self.close()
            raise Retry(f"Kafka took none of the dead letters that wait for it within {FLUSH_SECONDS:g} s") from error
        except RAISED_WHILE_SERVING as error:
            self.close()
            raise self._problem(error_of(error)) from error
        if self._problems:
            self.close()
            raise self._problem(self._problems[0])
        if left:
            self.close()
            raise Retry(f"Kafka did not acknowledge {left} dead letters within {FLUSH_SECONDS:g} s")
        for letter in letters:
            metrics.DEAD_LETTERS.labels(letter.stage, letter.code.value).inc()

    def close(self) -> None:
        """Drop the client; letters that were not acknowledged are the caller's to write again. Idempotent."""
        self._client = None

    def _send(self, letter: Outbound) -> None:
        try:
            self._enqueue(letter)
        except BufferError:
            # More letters than the client holds: make room.
            self._client.flush(FLUSH_SECONDS)
            self._enqueue(letter)

    def _enqueue(self, letter: Outbound) -> None:
        self._client.produce(
            letter.topic, letter.value, letter.key, headers=list(letter.headers), on_delivery=self._on_delivery
        )

    def _on_delivery(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._problems.append(error)

    def _problem(self, error: KafkaError) -> Exception:
        if is_too_large(error):
            self._limits.refused((self._topic,))
            return Retry(f"{self._topic} takes smaller messages than these dead letters", after=0.0)
        if is_denied(error):
            return translated(error, f"writing dead letters to {self._topic}")
        if error.fatal() or is_passing(error) or error.code() == KafkaError._MSG_TIMED_OUT:  # noqa: SLF001
            return Retry(f"dead letters were not written: {error.str()}")
        return translated(error, f"writing dead letters to {self._topic}")
