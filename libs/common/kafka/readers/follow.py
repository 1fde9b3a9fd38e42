"""Read topics without a group: nothing is committed, and nothing is disturbed. For people inspecting topics, not for services.

Reading starts at the beginning, at the newest records, or at a time, and stops at the current ends of the topics or continues.
Only committed records are seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from heapq import nlargest
from typing import Final

from confluent_kafka import OFFSET_END, Consumer, KafkaException
from confluent_kafka import TopicPartition as ClientPartition

from libs.common.errors import ConfigError, ServerUnreachable
from libs.common.kafka.client.client_log import ClientLog
from libs.common.kafka.client.configs import check_reachable, consumer_config, make_client, reader_group
from libs.common.kafka.client.failures import is_end, is_passing, raise_for, translated
from libs.common.kafka.client.inbound import inbound
from libs.common.kafka.records import Inbound, TopicPartition
from libs.common.settings.kafka import KafkaSettings

_SECONDS: Final = 10.0
_PATIENCE_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = 0.2
_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Newest:
    """Start with the last `count` records of all partitions together; 0: only records written from now on."""

    count: int


@dataclass(frozen=True, slots=True)
class Since:
    """Start at the first record at or after this time (milliseconds since 1970); 0 is the beginning."""

    timestamp_ms: int


class Follower:
    """Reads `topics`, or one `partition` of each, from `start`; from one thread."""

    def __init__(
        self,
        kafka: KafkaSettings,
        topics: tuple[str, ...],
        start: Newest | Since,
        partition: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._start = start
        self._partition = partition
        self._clock = clock
        self._consumer: Consumer | None = None
        self._unfinished: set[TopicPartition] = set()

    def open(self) -> None:
        """Connect and go to the start.

        Raises:
            ServerUnreachable, ConfigError: Kafka, a topic or the partition is missing.
        """
        check_reachable(self._kafka, self._topics)
        config = {
            **consumer_config(self._kafka, reader_group(self._kafka)),
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
        self._consumer = make_client(Consumer, config, ClientLog("follow"))
        start = self._starts(self._clock() + _SECONDS)
        self._unfinished = {TopicPartition(partition.topic, partition.partition) for partition in start}
        self._consumer.assign(start)

    def backlog(self) -> Iterator[Inbound]:
        """Yield what exists now, up to the ends of the topics; if started with `Newest`, the newest records in order of time.

        Raises:
            ServerUnreachable: a partition that has not been read to its end delivers nothing for long.
            BlobtideError: Kafka refuses.
        """
        records = self.unordered()
        if isinstance(self._start, Newest):
            records = reversed(nlargest(self._start.count, records, key=_age))
        yield from records

    def unordered(self) -> Iterator[Inbound]:
        """Yield what exists now as it arrives, without keeping any; if started with `Newest`, more than that.

        Raises:
            ServerUnreachable, BlobtideError: as `backlog`.
        """
        waited = 0.0
        while self._unfinished:
            unfinished = set(self._unfinished)
            begun = self._clock()
            records = self.poll(_SECONDS)
            waited += self._clock() - begun
            if self._unfinished < unfinished or any(record.source in unfinished for record in records):
                waited = 0.0
            elif waited > _PATIENCE_SECONDS:
                silent = min(unfinished)
                raise ServerUnreachable(f"no data from partition {silent.partition} of {silent.topic}; is its leader up?")
            yield from records

    def poll(self, seconds: float) -> list[Inbound]:
        """Return what arrives within `seconds`, without waiting for more.

        Raises:
            BlobtideError: Kafka refuses.
        """
        deadline = self._clock() + seconds
        while (left := deadline - self._clock()) > 0:
            got, ended = self._consume(min(left, 0.2))
            if got or ended:
                return got
        return []

    def close(self) -> None:
        """Disconnect; idempotent."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _consume(self, seconds: float) -> tuple[list[Inbound], bool]:
        assert self._consumer is not None, "open first"  # noqa: S101
        got: list[Inbound] = []
        ended = False
        for message in self._consumer.consume(_BATCH, seconds):
            error = message.error()
            if error is None:
                got.append(inbound(message))
            elif is_end(error):
                self._unfinished.discard(TopicPartition(str(message.topic()), int(message.partition() or 0)))
                ended = True
            elif not is_passing(error):
                raise translated(error, f"reading {message.topic() or 'topics'} as {reader_group(self._kafka)}")
        return got, ended

    def _starts(self, deadline: float) -> list[ClientPartition]:
        """Find where to start; a topic that was just created has no leader for a moment."""
        while True:
            try:
                return [partition for topic in self._topics for partition in self._start_of(topic)]
            except KafkaException as error:
                if self._clock() > deadline:
                    reason = error.args[0].str()
                    raise ServerUnreachable(f"cannot query where topics start and end: {reason}") from error
                time.sleep(_RETRY_SECONDS)

    def _start_of(self, topic: str) -> list[ClientPartition]:
        assert self._consumer is not None, "open first"  # noqa: S101
        about = self._consumer.list_topics(topic, timeout=_SECONDS).topics[topic]
        raise_for(about)
        numbers = self._chosen(topic, about.partitions)
        if isinstance(self._start, Since):
            asked = [ClientPartition(topic, number, self._start.timestamp_ms) for number in numbers]
            found: list[ClientPartition] = self._consumer.offsets_for_times(asked, timeout=_SECONDS)
            for partition in found:
                raise_for(partition)  # then it has no offset, which does not mean "nothing since"
            return [partition if partition.offset >= 0 else _at(partition, OFFSET_END) for partition in found]
        return [self._newest(topic, number, self._start.count) for number in numbers]

    def _chosen(self, topic: str, numbers: Collection[int]) -> Collection[int]:
        if self._partition is None:
            return numbers
        if self._partition not in numbers:
            there = "one partition, 0" if len(numbers) == 1 else f"{len(numbers)} partitions, 0 to {len(numbers) - 1}"
            raise ConfigError(f"topic {topic} has no partition {self._partition}: it has {there}")
        return [self._partition]

    def _newest(self, topic: str, number: int, count: int) -> ClientPartition:
        assert self._consumer is not None, "open first"  # noqa: S101
        partition = ClientPartition(topic, number)
        low, high = self._consumer.get_watermark_offsets(partition, timeout=_SECONDS)
        # Transaction markers occupy offsets too: look further back than the count; the surplus is cut after sorting.
        return _at(partition, max(low, high - 2 * count) if count else high)


def _at(partition: ClientPartition, offset: int) -> ClientPartition:
    return ClientPartition(partition.topic, partition.partition, offset)


def _age(record: Inbound) -> tuple[int, str, int, int]:
    return record.timestamp_ms, record.topic, record.partition, record.offset
