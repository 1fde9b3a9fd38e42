"""Whether a broker serves consumer groups: an offset committed to a group of our own, and read back.

A broker can answer for its topics and serve no group: its group coordinator was lost while it loaded, or its log does not
take what the coordinator writes. Only trying tells. What is tried goes the way of every group's commit: find the coordinator,
have it write, have it answer. A consumer does it, since the admin client's request for the offsets of a group ends the whole
process if the coordinator moves meanwhile (librdkafka #3663, #4605).
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
    """Tries a group of its own, which owns nothing, on partition 0 of `topic`. From one thread; connects at the first `ask`."""

    def __init__(self, kafka: KafkaSettings, topic: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._kafka = kafka
        self._topic = topic
        self._clock = clock
        self._consumer: Consumer | None = None
        self._offset = 0
        self._answers: dict[int, KafkaError | None] = {}

    def ask(self, seconds: float) -> str | None:
        """Return None if groups work, else why not; takes hardly more than `seconds`.

        Who may not commit cannot tell, and takes it that they work.

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
        """Commit the next offset. A commit that waits for its answer would have no timeout, so it is asked for and polled."""
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
        """Take an answer, which may be one to an earlier question."""
        for partition in partitions:
            self._answers[partition.offset] = error
