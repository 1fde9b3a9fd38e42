"""How far a group is behind, as a metric, also while it takes nothing in.

What the consumer itself knows of the ends of its partitions comes with its fetches, and stands still while they are paused. So
a client of its own asks for them every `ASK_SECONDS`. Nobody waits for an answer; while Kafka is away the last ones stand.

The last record of a topic may be followed by what is no record: the marker that ends a transaction, records that were aborted.
How far that goes tells the consumer, when it has read a partition to its end, and it is not counted.
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
    """The lag of what one consumer owns. Used from its thread; nothing happens before the first `publish`."""

    def __init__(self, kafka: KafkaSettings, clock: Callable[[], float]) -> None:
        self._ends = _StableEnds(kafka)
        self._clock = clock
        self._ask_at = clock()
        self._read_out: dict[TopicPartition, tuple[int, int]] = {}  # from the first offset to the second there is no record
        self._shown: set[TopicPartition] = set()

    def read_out(self, partition: TopicPartition, position: int, end: int) -> None:
        """Take note that from `position` on nothing came up to `end`, where the partition ended."""
        self._read_out[partition] = (position, end)

    def publish(self, committed: Mapping[TopicPartition, int]) -> None:
        """Show what is known of the partitions in `committed`, which has next offsets; ask anew when it is time to."""
        for partition, end in self._ends.answers().items():
            if partition in committed:
                self._show(partition, max(0, end - self._settled(partition, committed[partition])))
        if committed and self._clock() >= self._ask_at:
            self._ends.ask(committed)
            self._ask_at = self._clock() + ASK_SECONDS

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Show nothing more of partitions that left."""
        for partition in partitions:
            self._read_out.pop(partition, None)
            if partition in self._shown:
                self._shown.remove(partition)
                metrics.LAG.remove(partition.topic, str(partition.partition))

    def close(self) -> None:
        """Drop the client. Idempotent; a later `publish` makes another."""
        self._ends.close()

    def _settled(self, partition: TopicPartition, committed: int) -> int:
        position, end = self._read_out.get(partition, (committed, committed))
        return max(committed, end) if position == committed else committed

    def _show(self, partition: TopicPartition, records: int) -> None:
        self._shown.add(partition)
        metrics.LAG.labels(partition.topic, str(partition.partition)).set(records)


class _StableEnds:
    """Asks for last stable offsets, one question at a time."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._client: AdminClient | None = None
        self._asked: dict[ClientPartition, Future[Any]] = {}

    def ask(self, partitions: Collection[TopicPartition]) -> None:
        """Ask, unless an answer is being waited for."""
        if self._asked:
            return
        if self._client is None:
            self._client = make_client(AdminClient, admin_config(self._kafka), SilentLog("lag"))
        self._client.poll(0)  # takes the log lines that have gathered
        latest: Any = OffsetSpec.latest
        wanted = {ClientPartition(one.topic, one.partition): latest() for one in partitions}
        self._asked = self._client.list_offsets(
            wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=_ANSWER_SECONDS
        )

    def answers(self) -> dict[TopicPartition, int]:
        """Return what was answered, once, when all of it is there; what Kafka does not tell now is left out."""
        if not all(future.done() for future in self._asked.values()):
            return {}
        asked, self._asked = self._asked, {}
        ends = {}
        for partition, future in asked.items():
            try:
                ends[TopicPartition(partition.topic, partition.partition)] = future.result().offset
            except KafkaException:
                continue  # its leader is away; the consumer says so
        if asked and not ends:
            self._client = None  # the next one signs in with what the password file says by then
        return ends

    def close(self) -> None:
        self._client = None
        self._asked = {}
