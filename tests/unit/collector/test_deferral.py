"""More requests than a collector works on: those beyond wait in Kafka, and urgent ones overtake them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from libs.common.kafka.records import CommitResult, Inbound, TopicPartition
from libs.common.kafka.testing import FakeSession
from libs.common.settings.collector import CollectorSettings, Priority
from libs.demo.arm.server import ArmWorld, serving_arm
from services.collector import backlog
from services.collector.backlog import RequestBacklog
from services.collector.deferral import DeferredRequests
from tests.clock import Clock
from tests.collector_world import LIST, PARTITION, CollectorWorld, request
from tests.metric_values import since_now, value

LOW, NORMAL, HIGH = 2, 1, 0
OTHER = TopicPartition("requests", 1)


def record(offset: int, size: int = 10, source: TopicPartition = PARTITION) -> Inbound:
    """Return a record whose id is its offset."""
    return Inbound(source.topic, source.partition, offset, 0, b"%d" % offset, b"x" * size, ())


def test_what_waits_comes_by_priority_and_then_in_order() -> None:
    """At most so many at once, and so many bytes, but one in any case; what is returned keeps its place."""
    waiting = DeferredRequests()
    for offset, rank in enumerate((LOW, NORMAL, LOW, HIGH, NORMAL)):
        waiting.add(record(offset), rank)
    assert [waiting.precede(rank) for rank in (HIGH, NORMAL, LOW)] == [True, True, True]
    first = waiting.take(2, 1_000)
    assert [one.offset for one in first] == [3, 1]
    assert (waiting.has(PARTITION, b"1"), waiting.has(PARTITION, b"2"), waiting.precede(HIGH)) == (False, True, False)
    waiting.back(first)
    assert [one.offset for one in waiting.take(9, 25)] == [3, 1]
    assert [one.offset for one in waiting.take(9, 5)] == [4]
    assert [one.offset for one in waiting.take(9, 1_000)] == [0, 2]
    assert waiting.take(9, 1_000) == []


def test_offsets_stay_at_the_oldest_that_waits() -> None:
    """By partition; and those of a partition that is revoked are forgotten."""
    requests = RequestBacklog(Clock())
    for offset in range(3):
        requests.defer(record(offset), Priority.NORMAL)
        requests.defer(record(offset + 10, source=OTHER), Priority.NORMAL)
    assert requests.next_offsets() == {PARTITION: 0, OTHER: 10}
    (taken,) = requests.deferred.take(1, 1)
    requests.pass_over(record(taken.offset))
    assert requests.next_offsets() == {PARTITION: 1, OTHER: 10}, "what is passed over late does not move them back"
    requests.forget([PARTITION])
    assert requests.next_offsets() == {OTHER: 10}
    assert requests.has(OTHER, b"11")
    assert not requests.has(PARTITION, b"2")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[CollectorWorld]:
    """A collector that works on five requests at once, and makes one call at a time."""
    monkeypatch.setattr(backlog, "MOST_REQUESTS", 5)
    monkeypatch.setattr(backlog, "MORE_REQUESTS", 1)
    monkeypatch.setattr(backlog, "AT_ONCE", 2)
    arm = ArmWorld(machines=4, page_size=4)
    with serving_arm(arm) as url:
        yield CollectorWorld(arm, url, CollectorSettings(commit_seconds=0.001, concurrency=1))


def order_of(world: CollectorWorld) -> list[str]:
    """Return the requests in the order in which they ended."""
    return [row["message_id"] for row in world.rows() if row["kind"] == "end"]


def test_an_urgent_request_overtakes_all_that_wait(world: CollectorWorld) -> None:
    """However many there are; all of them are answered in the end, once, and in their order."""
    for number in range(40):
        world.send(request(f"low-{number:02}", LIST, priority="low"))
    for name in ("high-1", "high-2", "high-3"):
        world.send(request(name, LIST, priority="high"))
    world.send(request("low-07", LIST, priority="low"))
    repeated = since_now("blobtide_collector_requests_total", outcome="repeated")
    world.run()
    ended = order_of(world)
    assert sorted(ended) == ["high-1", "high-2", "high-3", *(f"low-{number:02}" for number in range(40))]
    assert max(ended.index(f"high-{number}") for number in (1, 2, 3)) < 20
    assert [name for name in ended if name.startswith("low")] == [f"low-{number:02}" for number in range(40)]
    assert repeated() == 1
    assert value("blobtide_collector_deferred_requests") == 0


@pytest.mark.parametrize("aborted", [1, 3])
def test_nothing_that_waits_is_lost_or_done_twice(world: CollectorWorld, aborted: int) -> None:
    """Neither by a transaction that is aborted, nor if another process continues."""

    def prepare(session: FakeSession) -> None:
        session.endings.extend([*[CommitResult.COMMITTED] * aborted, CommitResult.ABORTED])

    world.prepare = prepare
    for number in range(20):
        world.send(request(f"m-{number:02}", LIST))
    world.run(until=lambda: len(order_of(world)) >= 3)
    assert world.committed < len(world.records)
    world.run()
    assert sorted(order_of(world)) == [f"m-{number:02}" for number in range(20)]


def test_what_kafka_deletes_while_it_waits_is_counted(world: CollectorWorld) -> None:
    """The others are answered."""
    expired = since_now("blobtide_collector_requests_total", outcome="expired")
    for number in range(12):
        world.send(request(f"m-{number:02}", LIST))
    world.expired = {8, 9}
    world.run()
    assert len(order_of(world)) == 10
    assert expired() == 2
