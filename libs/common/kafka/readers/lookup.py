"""Look up single records of a topic, one or many, by partition and offset, which compaction does not change.

To remember a committed record, its offset is enough. Uncommitted records are not hidden, so that a record is found immediately
after its commit, before the broker has marked it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
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
_MANY_FETCH_BYTES: Final = 262_144
_SLICE_SECONDS: Final = 0.1
_SLICE_RECORDS: Final = 500
_NEAR: Final = 200  # offsets; reading on over so many others takes less time than a jump

Offsets = dict[int, list[int]]
"""Ascending offsets by partition."""


class Lookup:
    """Reads records of one topic. Connects when first used; belongs to one thread. `many`: usually many at once."""

    def __init__(
        self, kafka: KafkaSettings, topic: str, clock: Callable[[], float] = time.monotonic, *, many: bool = False
    ) -> None:
        self._kafka = kafka
        self._topic = topic
        # Where the first of many is gone, the others may follow.
        many_config = {"fetch.message.max.bytes": _MANY_FETCH_BYTES, "auto.offset.reset": "earliest"}
        self._config = many_config if many else {"fetch.message.max.bytes": _FETCH_BYTES}
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
        raise ServerUnreachable(self._missing({partition: [offset]}, seconds))

    def read_many(
        self, places: Iterable[tuple[int, int]], patience: float, between: Callable[[], None]
    ) -> dict[tuple[int, int], Inbound]:
        """Return the records at `places` (partition and offset) that still exist, calling `between` many times a second.

        Raises:
            ServerUnreachable: nothing arrives for `patience` seconds. Exceptions of `between` propagate.
        """
        found: dict[tuple[int, int], Inbound] = {}
        for run in _runs(places):
            self._read_run(run, patience, between, found)
        return found

    def _read_run(
        self, wanted: Offsets, patience: float, between: Callable[[], None], found: dict[tuple[int, int], Inbound]
    ) -> None:
        """Read from the first offset in each partition to the last one; removes from `wanted` what has been settled."""
        consumer = self._consumer or self._connect()
        consumer.assign([ClientPartition(self._topic, partition, offsets[0]) for partition, offsets in wanted.items()])
        deadline = self._clock() + patience
        try:
            while wanted:
                between()
                messages = consumer.consume(_SLICE_RECORDS, _SLICE_SECONDS)
                for message in filter(self._is_answer, messages):
                    _settle(message, wanted, found)
                    deadline = self._clock() + patience
                if self._clock() > deadline:
                    raise ServerUnreachable(self._missing(wanted, patience))
        finally:
            consumer.unassign()

    def _missing(self, wanted: Offsets, patience: float) -> str:
        partition = min(wanted)
        return f"offset {wanted[partition][0]} of partition {partition} of {self._topic} did not arrive within {patience:.0f} s"

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
            "queued.min.messages": 1,
            # Between one requested partition and the next, the client waits as long as one of these.
            "fetch.queue.backoff.ms": 1,
            "fetch.wait.max.ms": 10,
            **self._config,
        }
        self._consumer = make_client(Consumer, config, ClientLog(f"lookup in {self._topic}"))
        return self._consumer


def _runs(places: Iterable[tuple[int, int]]) -> list[Offsets]:
    """Return offsets to be read at once: in each partition those that are near each other."""
    runs: list[Offsets] = []
    at: dict[int, int] = {}  # by partition, the run of the previous offset
    for partition, offset in sorted(set(places)):
        number = at.get(partition, -1)
        if number < 0 or offset - runs[number][partition][-1] > _NEAR:
            number = at[partition] = number + 1
            if number == len(runs):
                runs.append({})
        runs[number].setdefault(partition, []).append(offset)
    return runs


def _settle(message: Message, wanted: Offsets, found: dict[tuple[int, int], Inbound]) -> None:
    """Note a record, or that there are none up to there; a report that there are none at all is about all offsets."""
    partition, offset = message.partition(), message.offset()
    offsets = wanted.get(-1 if partition is None else partition)
    if partition is None or offsets is None:
        return
    if message.error() is not None or offset is None:
        del wanted[partition]
        return
    if offset in offsets:
        found[partition, offset] = inbound(message)
    offsets[:] = [one for one in offsets if one > offset]
    if not offsets:
        del wanted[partition]
