"""Look up single records of a topic by partition and offset, which compaction does not change.

To remember a committed record, its offset is enough. Uncommitted records are not hidden, so that a record is found immediately
after its commit, before the broker has marked it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from confluent_kafka import Consumer, Message
from confluent_kafka import TopicPartition as ClientPartition

from libs.common.errors import ServerUnreachable
from libs.common.kafka.client.client_log import ClientLog
from libs.common.kafka.client.configs import consumer_config, make_client, reader_group
from libs.common.kafka.client.failures import is_end, is_out_of_range, is_passing, translated
from libs.common.kafka.client.inbound import inbound
from libs.common.kafka.records import Inbound
from libs.common.settings.kafka import KafkaSettings

# Only one record is wanted: anything else the client fetches is discarded.
_FETCH_BYTES: Final = 16_384
_SLICE_SECONDS: Final = 0.1


class Lookup:
    """Reads records of one topic one by one. Connects when first used; belongs to one thread."""

    def __init__(self, kafka: KafkaSettings, topic: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._kafka = kafka
        self._topic = topic
        self._clock = clock
        self._consumer: Consumer | None = None

    def read(self, partition: int, offset: int, seconds: float) -> Inbound | None:
        """Return the record at `offset`; None if it no longer exists.

        Raises:
            ServerUnreachable: Kafka does not respond within `seconds`.
        """
        consumer = self._consumer or self._connect()
        consumer.assign([ClientPartition(self._topic, partition, offset)])
        deadline = self._clock() + seconds
        try:
            while self._clock() < deadline:
                for message in consumer.consume(1, _SLICE_SECONDS):
                    if self._is_answer(message):
                        return inbound(message) if message.error() is None and message.offset() == offset else None
        finally:
            consumer.unassign()
        raise ServerUnreachable(
            f"offset {offset} of partition {partition} of {self._topic} did not arrive within {seconds:.0f} s"
        )

    def close(self) -> None:
        """Disconnect. Idempotent."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _is_answer(self, message: Message) -> bool:
        """Return whether this is the record, or the report that there is none."""
        error = message.error()
        if error is None or is_end(error) or is_out_of_range(error):
            return True
        if not is_passing(error):
            raise translated(error, f"reading {self._topic} as {reader_group(self._kafka)}")
        return False

    def _connect(self) -> Consumer:
        config = {
            **consumer_config(self._kafka, reader_group(self._kafka)),
            "isolation.level": "read_uncommitted",
            "enable.partition.eof": True,
            "fetch.message.max.bytes": _FETCH_BYTES,
            "queued.min.messages": 1,
            # Between one requested partition and the next, the client waits as long as one of these.
            "fetch.queue.backoff.ms": 1,
            "fetch.wait.max.ms": 10,
        }
        self._consumer = make_client(Consumer, config, ClientLog(f"lookup in {self._topic}"))
        return self._consumer
