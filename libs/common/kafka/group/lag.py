"""The lag of a group, as a metric that stays correct even while the group consumes nothing.

The consumer learns the ends of its partitions from its fetches, and they stand still while it is paused. So a separate client
queries them every `ASK_SECONDS`. Nothing waits for a response; while Kafka is down, the last values remain.

The last record of a topic may be followed by non-records: transaction markers, aborted records. When the consumer has read a
partition to its end, it reports their extent, and they are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import IsolationLevel, KafkaException
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from libs.common.kafka.client import metrics
from libs.common.kafka.client.configs import SilentLog, admin_config, make_client
from libs.common.kafka.records import TopicPartition
from libs.common.settings.kafka import KafkaSettings

ASK_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 5.0


class Lag:
    """The lag of one consumer's partitions. Used from its thread; nothing happens before the first `publish`."""

    def __init__(self, kafka: KafkaSettings, clock: Callable[[], float]) -> None:
        self._ends = _StableEnds(kafka)
        self._clock = clock
        self._ask_at = clock()
        self._read_out: dict[TopicPartition, tuple[int, int]] = {}  # no records between the two offsets
        self._shown: set[TopicPartition] = set()

    def read_out(self, partition: TopicPartition, position: int, end: int) -> None:
        """Record that there was nothing between `position` and `end`, the end of the partition."""
        self._read_out[partition] = (position, end)

    def publish(self, committed: Mapping[TopicPartition, int]) -> None:
        """Publish the lag of the partitions in `committed` (next offsets) as far as known; query again when it is time."""
        for partition, end in self._ends.answers().items():
            if partition in committed:
                self._show(partition, max(0, end - self._settled(partition, committed[partition])))
        if committed and self._clock() >= self._ask_at:
            self._ends.ask(committed)
            self._ask_at = self._clock() + ASK_SECONDS

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Stop publishing revoked partitions."""
        for partition in partitions:
            self._read_out.pop(partition, None)
            if partition in self._shown:
                self._shown.remove(partition)
                metrics.LAG.remove(partition.topic, str(partition.partition))

    def close(self) -> None:
        """Drop the client. Idempotent; a later `publish` creates another."""
        self._ends.close()

    def _settled(self, partition: TopicPartition, committed: int) -> int:
        position, end = self._read_out.get(partition, (committed, committed))
        return max(committed, end) if position == committed else committed

    def _show(self, partition: TopicPartition, records: int) -> None:
        self._shown.add(partition)
        metrics.LAG.labels(partition.topic, str(partition.partition)).set(records)


class _StableEnds:
    """Queries last stable offsets, one query at a time."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._client: AdminClient | None = None
        self._asked: dict[ClientPartition, Future[Any]] = {}

    def ask(self, partitions: Collection[TopicPartition]) -> None:
        """Send a query, unless one is pending."""
        if self._asked:
            return
        if self._client is None:
            self._client = make_client(AdminClient, admin_config(self._kafka), SilentLog("lag"))
        self._client.poll(0)  # drains accumulated log lines
        latest: Any = OffsetSpec.latest
        wanted = {ClientPartition(one.topic, one.partition): latest() for one in partitions}
        self._asked = self._client.list_offsets(
            wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=_ANSWER_SECONDS
        )

    def answers(self) -> dict[TopicPartition, int]:
        """Return the responses once, when all have arrived; partitions that Kafka cannot answer for now are left out."""
        if not all(future.done() for future in self._asked.values()):
            return {}
        asked, self._asked = self._asked, {}
        ends = {}
        for partition, future in asked.items():
            try:
                ends[TopicPartition(partition.topic, partition.partition)] = future.result().offset
            except KafkaException:
                continue  # its leader is down; the consumer reports that
        if asked and not ends:
            self._client = None  # the next one signs in with the current contents of the password file
        return ends

    def close(self) -> None:
        self._client = None
        self._asked = {}
