"""Requests by the clock: one for each period."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from libs.common.errors import ConfigError
from libs.common.settings.collector import CollectionSchedule, CollectorSettings, Priority
from libs.demo.arm.server import SUBSCRIPTION, ArmWorld, serving_arm
from services.collector.requests.schema import read_request
from services.collector.schedules import CollectionSchedules, RequestView, period_at
from tests.collector_world import TOPICS, CollectorWorld

NIGHTLY = {"name": "nightly", "templates": ["vms"], "subscriptions": [SUBSCRIPTION], "offset_minutes": 150, "priority": "low"}
OWN_AND_NEW = RequestView(lambda _: True, lambda *_: False)


def at(text: str) -> datetime:
    """Return a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def schedules(**changes: object) -> CollectionSchedules:
    """Return one schedule, of a topic with four partitions."""
    return CollectionSchedules((CollectionSchedule.model_validate(NIGHTLY | changes),), "requests", lambda: 4)


def ids(found: CollectionSchedules, now: str, standing: RequestView = OWN_AND_NEW) -> list[bytes | None]:
    """Return the keys of what is due."""
    return [record.key for record in found.due(at(now), standing)]


def test_each_period_has_one_request_that_names_it() -> None:
    """It is due again until it is written; in the next period another one is."""
    found = schedules()
    (record,) = found.due(at("2026-05-01T12:00:00"), OWN_AND_NEW)
    request = read_request(record.value or b"")
    assert (record.key, request.message_id) == (b"nightly:2026-05-01T02:30:00Z", "nightly:2026-05-01T02:30:00Z")
    assert (request.time, request.priority) == (at("2026-05-01T02:30:00"), Priority.LOW)
    assert [call.parameters for call in request.api_requests] == [{"subscriptionId": SUBSCRIPTION}]
    assert ids(found, "2026-05-01T12:00:01") == []
    found.settle(committed=False)
    assert ids(found, "2026-05-01T12:00:02") == [record.key]
    found.settle(committed=True)
    assert ids(found, "2026-05-02T02:29:59") == []
    assert ids(found, "2026-05-02T02:30:00") == [b"nightly:2026-05-02T02:30:00Z"]


def test_only_the_owner_writes_it_and_only_if_it_is_not_known() -> None:
    """So one of several collectors does, and none a second time."""
    asked: list[tuple[int, bytes]] = []

    def is_known(partition: int, key: bytes) -> bool:
        asked.append((partition, key))
        return True

    assert ids(schedules(), "2026-05-01T12:00:00", RequestView(lambda _: False, is_known)) == []
    assert asked == []
    owners = [
        number for number in range(4) if ids(schedules(), "2026-05-01T12:00:00", RequestView(number.__eq__, lambda *_: False))
    ]
    assert len(owners) == 1
    assert ids(schedules(), "2026-05-01T12:00:00", RequestView(lambda _: True, is_known)) == []
    assert asked == [(owners[0], b"nightly:2026-05-01T02:30:00Z")]


def test_periods_follow_each_other_and_jitter_stays_within_them() -> None:
    """It is the same for whoever computes it, and differs from period to period."""
    schedule = CollectionSchedule.model_validate(NIGHTLY | {"every_minutes": 60, "jitter_minutes": 30})
    found = [period_at(schedule, at("2026-05-01T00:29:59") + timedelta(hours=number)) for number in range(24)]
    assert [period.begin for period in found] == [at("2026-04-30T23:30:00") + timedelta(hours=number) for number in range(24)]
    waits = [period.fires - period.begin for period in found]
    assert all(timedelta() <= wait < timedelta(minutes=30) for wait in waits)
    assert len(set(waits)) == 24
    assert waits == [period_at(schedule, period.begin).fires - period.begin for period in found]
    early = schedules(jitter_minutes=1_000)
    fires = period_at(CollectionSchedule.model_validate(NIGHTLY | {"jitter_minutes": 1_000}), at("2026-05-01T12:00:00")).fires
    assert early.due(fires - timedelta(seconds=1), OWN_AND_NEW) == []
    assert len(early.due(fires, OWN_AND_NEW)) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"templates": ["vm"]}, "nightly: unknown template 'vm'; did you mean vms?"),
        ({"templates": ["subnets"]}, "nightly: template subnets: resourceGroup, virtualNetwork must be given"),
        ({"parameters": {"x": "y"}}, "nightly: x: no template"),
        ({"subscriptions": ["a/b"]}, "must not contain a slash"),
    ],
)
def test_a_schedule_that_cannot_be_answered_is_refused(changes: dict[str, object], said: str) -> None:
    """When the collector is built."""
    with pytest.raises(ConfigError) as refused:
        schedules(**changes)
    assert said in str(refused.value)


def test_settings_of_schedules_are_checked() -> None:
    """Two of one name would have the same ids, and a jitter longer than the period would swallow some."""
    with pytest.raises(ValidationError, match="two schedules are named nightly"):
        CollectorSettings.model_validate({"schedules": [NIGHTLY, NIGHTLY]})
    with pytest.raises(ValidationError, match="jitter_minutes must be less"):
        CollectionSchedule.model_validate(NIGHTLY | {"jitter_minutes": 1_440})


@pytest.fixture
def world() -> Iterator[CollectorWorld]:
    """A collector with one schedule."""
    arm = ArmWorld()
    with serving_arm(arm) as url:
        yield CollectorWorld(arm, url, CollectorSettings.model_validate({"schedules": [NIGHTLY], "commit_seconds": 0.01}))


def test_the_collector_answers_what_its_schedule_asks_once(world: CollectorWorld) -> None:
    """After a restart in the same period, it knows that it has."""

    def sent() -> list[bytes]:
        outputs = [] if world.session is None else world.session.outputs(TOPICS.collection_requests)
        return [bytes(output.value or b"") for output in outputs]

    world.run(until=lambda: bool(sent()))
    (request,) = sent()
    world.send(request)
    world.run()
    rounds = iter(range(100))
    world.run(until=lambda: next(rounds) == 99)
    assert sent() == [request]
    assert list(world.ends().values()) == [("success", 10)]
