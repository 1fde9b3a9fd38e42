"""Test whether a broker serves consumer groups, by committing an offset to a group of our own and reading it back.

A broker can answer for its topics but serve no groups: its group coordinator was lost while loading, or its log does not
accept the coordinator's writes. Only trying it tells. The probe takes the path of every group's commit: find the coordinator,
have it write, have it respond. It uses a consumer, because the admin client's request for a group's offsets terminates the
whole process if the coordinator moves meanwhile (librdkafka #3663, #4605).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as ClientPartition

from libs.common.kafka.client.configs import SilentLog, consumer_config, make_client
from libs.common.kafka.client.failures import error_of, is_denied
from libs.common.settings.kafka import KafkaSettings

_POLL_SECONDS: Final = 0.1
_NO_ANSWER: Final = "no answer"


class GroupProbe:
    """Probes with its own group, without members, on partition 0 of `topic`. Not thread-safe; connects at the first `ask`."""

    def __init__(self, kafka: KafkaSettings, topic: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._kafka = kafka
        self._topic = topic
        self._clock = clock
        self._consumer: Consumer | None = None
        self._offset = 0
        self._answers: dict[int, KafkaError | None] = {}

    def ask(self, seconds: float) -> str | None:
        """Return None if groups work, otherwise why not; takes little more than `seconds`.

        A user without the right to commit cannot tell, and assumes that they work.

        Raises:
            ConfigError: the settings of the client contradict each other.
        """
        deadline = self._clock() + seconds
        if self._consumer is None:
            config = consumer_config(self._kafka, f"{self._kafka.group_prefix}.probe") | {"on_commit": self._on_commit}
            self._consumer = make_client(Consumer, config, SilentLog("probe"))
        self._offset += 1
        try:
            error = self._commit(self._consumer, deadline)
            if error is None:
                return self._read_back(self._consumer, deadline)
        except KafkaException as exception:
            error = error_of(exception)
        return None if is_denied(error) else error.str()

    def close(self) -> None:
        """Disconnect; idempotent."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _commit(self, consumer: Consumer, deadline: float) -> KafkaError | None:
        """Commit the next offset asynchronously and poll for the response: a synchronous commit has no timeout."""
        self._answers.clear()
        consumer.commit(offsets=[ClientPartition(self._topic, 0, self._offset)], asynchronous=True)
        while self._offset not in self._answers:
            if self._clock() >= deadline:
                return KafkaError(KafkaError._TIMED_OUT, _NO_ANSWER)  # noqa: SLF001
            consumer.poll(_POLL_SECONDS)
        return self._answers[self._offset]

    def _read_back(self, consumer: Consumer, deadline: float) -> str | None:
        left = max(_POLL_SECONDS, deadline - self._clock())
        found = consumer.committed([ClientPartition(self._topic, 0)], timeout=left)[0].offset
        return None if found == self._offset else f"offset {self._offset} was committed but {found} was read back"

    def _on_commit(self, error: KafkaError | None, partitions: Sequence[ClientPartition]) -> None:
        """Record a response, possibly to an earlier commit."""
        for partition in partitions:
            self._answers[partition.offset] = error
