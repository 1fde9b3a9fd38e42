"""Reading compacted topics, over a fake client: what counts as read, and what ends it."""

# ruff: noqa: ARG002 - the fake has the client's signatures

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, Message

from libs.common.errors import BlobtideError, Retry, ServerUnreachable
from libs.common.kafka.readers import compacted
from libs.common.kafka.readers.compacted import _Follower
from libs.common.settings.kafka import KafkaSettings

PATIENCE = 10.0


class _Client:
    """What each `consume` returns, and how long it takes."""

    def __init__(self, world: _World) -> None:
        self._world = world

    def assign(self, partitions: list[Any]) -> None: ...

    def consume(self, num_messages: int, timeout: float) -> list[Message]:
        seconds, messages = self._world.slices.popleft() if self._world.slices else (timeout, [])
        self._world.now += seconds
        return messages


class _World:
    def __init__(self) -> None:
        self.now = 0.0
        self.slices: deque[tuple[float, list[Message]]] = deque()
        self.follower = _Follower(KafkaSettings(), "t", lambda: self.now)

    def read(self, *slices: tuple[float, list[Message]], end: int, between: Callable[[], None] = lambda: None) -> list[int]:
        """Read partition 0 to `end`; return offsets."""
        self.slices.extend(slices)
        return [record.offset for record in self.follower.read_to({0: end}, PATIENCE, between)]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> _World:
    """Return a follower of one partition, over a fake client."""
    world = _World()
    monkeypatch.setattr(compacted, "make_client", lambda *_: _Client(world))
    world.follower.open({0: 0})
    return world


def _record(offset: int) -> Message:
    return Message(topic="t", partition=0, offset=offset, value=b"v", timestamp=(1, 0))


def _end(offset: int) -> Message:
    return Message(topic="t", partition=0, offset=offset, error=KafkaError(KafkaError._PARTITION_EOF))


def test_an_end_that_comes_at_the_last_moment_is_not_lost(world: _World) -> None:
    """An end counts although the patience has run out while it was waited for: the client does not tell it again."""
    assert world.read((0.1, [_record(0)]), (PATIENCE + 1, [_end(2)]), end=2) == [0]
    assert world.read(end=2) == []


def test_an_end_before_the_one_asked_for_is_remembered_when_patience_runs_out(world: _World) -> None:
    """Who gives up keeps what it was told: when the next look finds that nothing more was written, all has been read."""
    with pytest.raises(ServerUnreachable, match="read to 2 of 3"):
        world.read((PATIENCE + 1, [_end(2)]), end=3)
    assert world.read(end=2) == []


def test_records_extend_the_patience_and_nothing_ends_it(world: _World) -> None:
    """Reading may take long as long as records come; it ends when none came for the whole patience."""
    slow = [(PATIENCE - 1, [_record(offset)]) for offset in range(3)]
    seen = world.read(*slow, (PATIENCE + 1, [_record(3)]), end=4)
    assert seen == [0, 1, 2, 3]
    with pytest.raises(ServerUnreachable, match="read to 4 of 5, nothing came for 10 s"):
        world.read(end=5)


def test_who_leaves_goes_on_where_he_was(world: _World) -> None:
    """What was read before the caller broke off is not read again, and nothing is left out."""
    seen: list[int] = []
    asked = iter(range(10))

    def leave() -> None:
        if next(asked) == 1:
            raise Retry("leave")

    world.slices.extend([(0.1, [_record(0), _record(1)]), (0.1, [_record(2)])])
    with pytest.raises(Retry, match="leave"):
        seen.extend(record.offset for record in world.follower.read_to({0: 3}, PATIENCE, leave))
    assert world.read(end=3, between=leave) == [2]
    assert seen == [0, 1]


_DENIED = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "no")


@pytest.mark.parametrize(
    "denied",
    [
        Message(error=_DENIED),
        Message(topic="t", partition=0, error=_DENIED),
        Message(topic="t", partition=0, offset=1, error=_DENIED),
    ],
)
def test_an_error_is_raised_wherever_it_happened(world: _World, denied: Message) -> None:
    """What Kafka refuses is said at once, also by an error that names no partition or no offset."""
    with pytest.raises(BlobtideError, match="Kafka denied reading t"):
        world.read((0.1, [denied]), end=1)


def test_an_error_that_passes_is_waited_out(world: _World) -> None:
    """A broker that goes away meanwhile ends nothing as long as it comes back."""
    away = Message(error=KafkaError(KafkaError._ALL_BROKERS_DOWN, "away"))
    assert world.read((0.1, [away]), (0.1, [_record(0)]), end=1) == [0]
