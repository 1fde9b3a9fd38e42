"""Read compacted topics without a group, up to their current ends, committed records only.

"The end" is the high watermark at the start, not the last stable offset: readers wait until the transactions that were open at
that time have ended. So the last commit of a killed predecessor is seen, and anything that it did not commit is gone for good.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import wait
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, IsolationLevel, Message
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from libs.common.errors import ServerUnreachable
from libs.common.kafka.client.client_log import ClientLog
from libs.common.kafka.client.configs import ANSWER_SECONDS, answer_of, consumer_config, make_admin, make_client, reader_group
from libs.common.kafka.client.failures import is_end, is_passing, translated
from libs.common.kafka.client.inbound import inbound
from libs.common.kafka.records import Inbound
from libs.common.kafka.topics.admin import partition_count
from libs.common.settings.kafka import KafkaSettings

# An abandoned transaction ends after its timeout and the broker's clean-up interval (10 s by default).
CLEAN_UP_SECONDS: Final = 15.0
_SLICE_SECONDS = 0.1
_SLICE_RECORDS = 1_000
# Records are small and similar: decompressed they are ten times as large, each costs the client some 400 bytes in addition, and
# the client keeps everything that arrives, however little is wanted. With the client's 100,000 records and the usual 256 KiB
# per partition, a monitor took 209 MiB to read a million records; with these limits it takes 123.
_SMALL_FETCHES: Final[Mapping[str, int]] = {
    "queued.max.messages.kbytes": 4_096,
    "queued.min.messages": 10_000,
    "fetch.message.max.bytes": 64 * 1024,
}
_WHOLE_FETCH: Final = 1024 * 1024


def patience_for(kafka: KafkaSettings) -> float:
    """Return the seconds for which a topic may deliver nothing because an abandoned transaction is still open."""
    return kafka.transaction_timeout_ms / 1000 + CLEAN_UP_SECONDS


class CompactedTable:
    """Follows a compacted topic and passes every committed record to `apply`, once, in order per partition."""

    def __init__(self, kafka: KafkaSettings, topic: str, apply: Callable[[Inbound], None]) -> None:
        self._kafka = kafka
        self._topic = topic
        self._apply = apply
        self._follower = _Follower(kafka, topic)

    def open(self, partitions: Collection[int] | None = None, first: int = 0) -> None:
        """Start at the beginning of `partitions` (default: all), or at the offset `first` in those that reach beyond it.

        Raises:
            ServerUnreachable, ConfigError: Kafka does not respond, or the topic does not exist, if all are requested.
        """
        if partitions is None:
            partitions = range(partition_count(self._kafka, self._topic))
        self._follower.open(dict.fromkeys(partitions, first))

    def open_at(self, starts: Mapping[int, int]) -> None:
        """Start at these offsets of the partitions; for a topic of which only the end is of interest, compacted or not."""
        self._follower.open(starts)

    def beginnings(self, between: Callable[[], None] = lambda: None) -> dict[int, int]:
        """Return the first offset that each partition still has. Raises `ServerUnreachable`, and what `between` raises."""
        earliest: Any = OffsetSpec.earliest
        return self._follower.offsets(earliest(), between)

    def catch_up(self, timeout: float = 60.0, between: Callable[[], None] = lambda: None) -> None:
        """Apply everything up to the ends as they are now; call `between` many times a second, since it may take long.

        Exceptions of `between` propagate; the next call continues from there.

        Raises:
            ServerUnreachable: nothing arrived for `timeout` seconds before the end.
        """
        for record in self._follower.read_to(self._follower.ends(between), timeout, between):
            self._apply(record)

    def read_to(self, last: int, timeout: float, between: Callable[[], None]) -> None:
        """Apply everything up to the offset `last` of each partition, or to its end, and possibly some records after that.

        Exceptions of `between` propagate; the next call continues from there.

        Raises:
            ServerUnreachable: nothing arrived for `timeout` seconds before that.
        """
        for record in self._follower.read_to(self._follower.ends(between, last + 1), timeout, between):
            self._apply(record)

    def take_new(self, between: Callable[[], None]) -> None:
        """Apply what has arrived since, and wait for nothing: neither for the end, nor for Kafka if it is down."""
        for record in self._follower.arrived(between):
            self._apply(record)

    def close(self) -> None:
        """Stop following. Idempotent."""
        self._follower.close()


class _Follower:
    """A consumer without a group. Tracks how far each partition has been read, including past aborted records."""

    def __init__(self, kafka: KafkaSettings, topic: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._kafka = kafka
        self._topic = topic
        self._clock = clock
        self._consumer: Consumer | None = None
        self._admin: AdminClient | None = None
        self._reached: dict[int, int] = {}

    def open(self, starts: Mapping[int, int]) -> None:
        common = consumer_config(self._kafka, reader_group(self._kafka))
        config = {
            **common,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 100,
            # Records before the beginning of the partition are gone: read what remains.
            **({"auto.offset.reset": "earliest"} if any(starts.values()) else {}),
            **_SMALL_FETCHES,
            # The client does not accept less than its largest message.
            "fetch.max.bytes": max(_WHOLE_FETCH, int(common.get("message.max.bytes", 0))),
        }
        self._consumer = make_client(Consumer, config, ClientLog(f"reader of {self._topic}"))
        self._reached = dict.fromkeys(starts, 0)
        self._consumer.assign([ClientPartition(self._topic, number, at or OFFSET_BEGINNING) for number, at in starts.items()])

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
        self._admin = None

    def ends(self, between: Callable[[], None], most: int | None = None) -> dict[int, int]:
        """Return the high watermarks, at most `most`: they include records of open transactions."""
        latest: Any = OffsetSpec.latest
        ends = self.offsets(latest(), between)
        return ends if most is None else {number: min(end, most) for number, end in ends.items()}

    def offsets(self, which: Any, between: Callable[[], None]) -> dict[int, int]:
        """Ask Kafka for an offset of each partition."""
        if not self._reached:
            return {}
        wanted = {ClientPartition(self._topic, number): which for number in self._reached}
        # Kept, because it costs threads, but not after a failure: it may know an old leader epoch, with which it fails forever.
        admin, self._admin = self._admin or make_admin(self._kafka), None
        answers = admin.list_offsets(wanted, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=ANSWER_SECONDS)
        waiting = set(answers.values())
        while waiting:
            between()
            waiting = wait(waiting, _SLICE_SECONDS).not_done
        doing = f"querying offsets of {self._topic}"
        found = {partition.partition: answer_of(future, doing).offset for partition, future in answers.items()}
        self._admin = admin
        return found

    def read_to(self, ends: Mapping[int, int], patience: float, between: Callable[[], None]) -> Iterator[Inbound]:
        """Yield records until `ends` are reached, counting aborted and removed records."""
        if self._consumer is None:
            raise RuntimeError("the reader is not open")
        deadline = self._clock() + patience
        while any(self._reached[number] < end for number, end in ends.items()):
            # Here, because an exception loses no record, and no end: the client reports each end only once.
            if self._clock() > deadline:
                raise ServerUnreachable(self._stuck(ends, patience))
            between()
            messages = self._consumer.consume(_SLICE_RECORDS, _SLICE_SECONDS)
            for message in messages:
                if self._note(message):
                    yield inbound(message)
            if any(message.error() is None for message in messages):
                deadline = self._clock() + patience

    def arrived(self, between: Callable[[], None]) -> Iterator[Inbound]:
        """Yield the records that the client has received already."""
        if self._consumer is None:
            raise RuntimeError("the reader is not open")
        while messages := self._consumer.consume(_SLICE_RECORDS, 0.0):
            for message in messages:
                if self._note(message):
                    yield inbound(message)
            between()

    def _note(self, message: Message) -> bool:
        """Remember how far the partition has been read; return whether `message` is a record."""
        error, partition, offset = message.error(), message.partition(), message.offset()
        if error is not None and not is_passing(error):
            raise translated(error, f"reading {self._topic} as {reader_group(self._kafka)}")
        if partition is None or offset is None:
            return False
        if error is None:
            self._reached[partition] = offset + 1
            return True
        if is_end(error):
            self._reached[partition] = max(self._reached[partition], offset)
        return False

    def _stuck(self, ends: Mapping[int, int], patience: float) -> str:
        number = min(number for number, end in ends.items() if self._reached[number] < end)
        return (
            f"partition {number} of {self._topic} was read to {self._reached[number]} of {ends[number]}, nothing came for "
            f"{patience:.0f} s: Kafka is down, or a transaction hangs (check with kafka-transactions.sh find-hanging)"
        )
