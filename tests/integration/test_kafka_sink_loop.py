"""The sink loop on a real Kafka."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence

import pytest

from libs.common.errors import DeadLetterLimit, Retry
from libs.common.kafka.loops.sink_loop import Handled, PollPolicy, SinkLoop, SinkLoopSpec
from libs.common.kafka.records import Inbound, TopicPartition
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.process.health import Health
from libs.common.process.service import Stop
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from tests.topic_tools import fill, lag, read_compacted

pytestmark = pytest.mark.kafka

SECONDS = 60.0
PARTITIONS = range(4)


class _Destination:
    """Fails `failures` times, rejects what is in `refused`, keeps every batch; stops the loop once `enough` is written."""

    def __init__(self, enough: int, failures: int = 0, refused: frozenset[bytes] = frozenset()) -> None:
        self.stop = Stop()
        self._enough = enough
        self._failures = failures
        self._refused = refused
        self.attempts: list[list[Inbound]] = []
        self.written: list[bytes] = []
        self.log: list[str] = []

    def open(self) -> None:
        self.log.append("open")

    def tick(self) -> None: ...

    def while_waiting(self, beat: Callable[[], None]) -> None: ...

    def handle(self, batch: Sequence[Inbound]) -> Handled:
        self.attempts.append(list(batch))
        if len(self.attempts) <= self._failures:
            raise Retry("destination is down", after=0.3)
        self.written += [r.value or b"" for r in batch if r.value not in self._refused]
        if len(self.written) + len(self._refused) >= self._enough:
            self.stop.set()
        return Handled(
            tuple(DeadLetter("sink.test", ErrorCode.REFUSED, "no", r.value or b"") for r in batch if r.value in self._refused)
        )

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        self.log.append(f"revoked {len(partitions)}")

    def close(self) -> None:
        self.log.append("close")


def _run(kafka: KafkaSettings, topics: TopicSettings, destination: _Destination, limit: float = 0.5) -> None:
    spec = SinkLoopSpec(
        f"{kafka.group_prefix}.sink.test", (topics.flows,), topics.errors, PollPolicy(2.0, 1_000, 1 << 20), limit
    )
    timer = threading.Timer(SECONDS, destination.stop.set)
    timer.start()
    try:
        SinkLoop(kafka, spec, destination).run(destination.stop, Health())
    finally:
        timer.cancel()


def test_retry_gives_the_same_batch_and_the_commit_follows_the_write(
    kafka_settings: KafkaSettings, topics: TopicSettings
) -> None:
    """A destination that is down gets the same batch again; offsets follow the write, and a restart goes on there."""
    first = fill(kafka_settings, topics.flows, 40)
    destination = _Destination(enough=40, failures=2, refused=frozenset([b"7"]))
    _run(kafka_settings, topics, destination)
    assert destination.attempts[0] == destination.attempts[1] == destination.attempts[2]
    assert sorted(destination.written) == sorted(set(first) - {b"7"})
    assert [r.value for r in read_compacted(kafka_settings, topics.errors, PARTITIONS)] == [b"7"]
    assert lag(kafka_settings, "sink.test", topics.flows) == 0
    assert destination.log == ["open", "revoked 4", "close"]

    second = fill(kafka_settings, topics.flows, 8, first=40)
    restarted = _Destination(enough=8)
    _run(kafka_settings, topics, restarted)
    assert sorted(restarted.written) == sorted(second)


def test_a_destination_that_refuses_everything_stops_the_service_uncommitted(
    kafka_settings: KafkaSettings, topics: TopicSettings
) -> None:
    """Beyond the dead-letter limit the service ends with nothing committed: all records are there for the next start."""
    sent = fill(kafka_settings, topics.flows, 200)
    destination = _Destination(enough=1_000, refused=frozenset(sent))
    with pytest.raises(DeadLetterLimit):
        _run(kafka_settings, topics, destination, limit=0.1)
    deadline = time.monotonic() + SECONDS
    healthy = _Destination(enough=200)
    _run(kafka_settings, topics, healthy)
    assert time.monotonic() < deadline
    assert set(healthy.written) | {r.value for r in read_compacted(kafka_settings, topics.errors, PARTITIONS)} == set(sent)
