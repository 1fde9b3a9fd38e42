"""Reading without a group, over a fake client: what ends it, and how much it holds."""

# ruff: noqa: ARG002 - the fake has the client's signatures

from __future__ import annotations

import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from confluent_kafka import KafkaError
from confluent_kafka import TopicPartition as ClientPartition

from libs.common.errors import BlobtideError, ConfigError, ServerUnreachable
from libs.common.kafka.readers import follow
from libs.common.kafka.readers.follow import Follower, Newest, Since
from libs.common.settings.kafka import KafkaSettings


class _Value(bytes):
    """A value that is counted as long as somebody holds it."""

    held: ClassVar[int] = 0

    def __init__(self, _: bytes) -> None:
        _Value.held += 1

    def __del__(self) -> None:
        _Value.held -= 1


class _Message:
    """A message of topic `t`, or an error; its timestamp is its offset."""

    def __init__(self, partition: int, offset: int, error: KafkaError | None = None) -> None:
        self._partition, self._offset, self._error = partition, offset, error

    def error(self) -> KafkaError | None:
        return self._error

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, self._offset

    def key(self) -> bytes | None:
        return None

    def value(self) -> bytes:
        return _Value(b"x")

    def headers(self) -> list[tuple[str, bytes | None]]:
        return [("type", None)]


def _end(partition: int) -> _Message:
    return _Message(partition, 0, KafkaError(KafkaError._PARTITION_EOF))


class _Client:
    """Two partitions of a thousand records; `answers` are what `consume` returns, each after a second of the clock."""

    def __init__(self, answers: Iterator[list[_Message]]) -> None:
        self.answers = answers
        self.assigned: list[tuple[int, int]] = []
        self.now = 0.0

    def list_topics(self, topic: str, timeout: float) -> Any:
        return SimpleNamespace(topics={topic: SimpleNamespace(partitions=range(2), error=None)})

    def get_watermark_offsets(self, partition: ClientPartition, timeout: float) -> tuple[int, int]:
        return 0, 1000

    def offsets_for_times(self, partitions: list[ClientPartition], timeout: float) -> list[ClientPartition]:
        return [ClientPartition(partition.topic, partition.partition, 0) for partition in partitions]

    def assign(self, partitions: list[ClientPartition]) -> None:
        self.assigned = [(partition.partition, partition.offset) for partition in partitions]

    def consume(self, number: int, timeout: float) -> list[_Message]:
        self.now += 1
        return next(self.answers, [])

    def clock(self) -> float:
        return self.now


def following(
    client: _Client, start: Newest | Since, monkeypatch: pytest.MonkeyPatch, partition: int | None = None
) -> Follower:
    """Return an open follower of the fake."""
    monkeypatch.setattr(follow, "check_reachable", lambda *_: None)
    monkeypatch.setattr(follow, "make_client", lambda *_: client)
    follower = Follower(KafkaSettings(), ("t",), start, partition, clock=client.clock)
    follower.open()
    return follower


@pytest.mark.parametrize("start", [Newest(10), Since(0)])
def test_a_topic_that_may_not_be_read_is_an_error(start: Newest | Since, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the client cannot get over by itself ends the reading with a reason, instead of waiting for ever."""
    denied = _Message(0, 0, KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    follower = following(_Client(itertools.repeat([denied])), start, monkeypatch)
    with pytest.raises(BlobtideError, match=r"Kafka denied reading t as blobtide.reader: .*check the ACLs"):
        list(follower.backlog())


@pytest.mark.parametrize("start", [Newest(10), Since(0)])
def test_a_partition_that_never_answers_is_an_error(start: Newest | Since, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passing errors may pass; if for long nothing comes from a partition, although others go on, its end is not waited for."""
    away = _Message(0, 0, KafkaError(KafkaError._TRANSPORT))
    elsewhere = ([away, _Message(1, offset), _end(1)] for offset in itertools.count())
    follower = following(_Client(elsewhere), start, monkeypatch)
    with pytest.raises(ServerUnreachable, match="partition 0 of t"):
        list(follower.backlog())


def test_a_slow_partition_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything that comes is progress, however long the whole takes."""
    slow = [[], [_Message(0, 1)]] * 200
    follower = following(_Client(iter([*slow, [_end(0)], [_end(1)]])), Since(0), monkeypatch)
    assert len(list(follower.backlog())) == 200


def test_only_as_many_records_are_held_as_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest of all partitions come, in order of time, and the others are let go while reading."""
    most = 0

    def answers() -> Iterator[list[_Message]]:
        nonlocal most
        for offset in range(200):
            yield [_Message(0, 2 * offset), _Message(1, 2 * offset + 1)]
            most = max(most, _Value.held)
        yield [_end(0), _end(1)]

    newest = list(following(_Client(answers()), Newest(5), monkeypatch).backlog())
    assert [record.offset for record in newest] == [395, 396, 397, 398, 399]
    assert most <= 10


def test_a_header_without_a_value_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka allows it, and readers of headers need not know."""
    client = _Client(iter([[_Message(0, 1), _end(0), _end(1)]]))
    assert [record.headers for record in following(client, Since(0), monkeypatch).backlog()] == [(("type", b""),)]


def test_an_answer_that_does_not_know_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """While leaders move, no partitions and no offset do not mean that there is nothing: records would be passed over."""
    moving = KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)
    client = _Client(iter([[_Message(0, 7), _end(0), _end(1)]]))
    no_topic = SimpleNamespace(topics={"t": SimpleNamespace(partitions={}, error=moving)})
    topics = iter([no_topic, *[client.list_topics("t", 1.0)] * 2])
    no_offset = SimpleNamespace(topic="t", partition=0, offset=-1001, error=moving)
    offsets = iter([[no_offset], [ClientPartition("t", number, 7) for number in range(2)]])
    begun: list[ClientPartition] = []
    monkeypatch.setattr(follow, "_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(client, "list_topics", lambda *_, **__: next(topics))
    monkeypatch.setattr(client, "offsets_for_times", lambda *_, **__: next(offsets))
    monkeypatch.setattr(client, "assign", begun.extend)
    assert [record.offset for record in following(client, Since(0), monkeypatch).backlog()] == [7]
    assert [(one.partition, one.offset) for one in begun] == [(0, 7), (1, 7)]


@pytest.mark.parametrize("start", [Newest(10), Since(0)])
def test_only_the_partition_that_was_asked_for_is_read(start: Newest | Since, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest records are those of this partition, however many newer ones the others have."""
    client = _Client(iter([[_Message(1, 1), _end(1)]]))
    follower = following(client, start, monkeypatch, partition=1)
    assert [number for number, _ in client.assigned] == [1]
    assert [record.partition for record in follower.backlog()] == [1]


def test_a_partition_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how many there are."""
    with pytest.raises(ConfigError, match="topic t has no partition 2: it has 2 partitions, 0 to 1"):
        following(_Client(iter([])), Since(0), monkeypatch, partition=2)
