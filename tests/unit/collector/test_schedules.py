"""Requests by the clock: one for each period."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from libs.common.errors import ConfigError, ServerUnreachable
from libs.common.messages.blobs import partition_of
from libs.common.settings.collector import CollectionSchedule, CollectorSettings, Priority
from libs.demo.arm.server import SUBSCRIPTION, ArmWorld, serving_arm
from services.collector.requests.schema import read_request
from services.collector.schedules import CollectionSchedules, RequestView, SchedulePeriod, clock_of
from tests.collector_world import TOPICS, CollectorWorld

NIGHTLY = {"name": "nightly", "templates": ["vms"], "subscriptions": [SUBSCRIPTION], "offset_minutes": 150, "priority": "low"}
OWN_AND_NEW = RequestView(lambda _: True, lambda *_: False)


def at(text: str) -> datetime:
    """Return a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def schedules(**changes: object) -> CollectionSchedules:
    """Return one schedule, of a topic with four partitions."""
    return CollectionSchedules((CollectionSchedule.model_validate(NIGHTLY | changes),), "requests", lambda: 4)


def period_at(schedule: CollectionSchedule, now: datetime) -> SchedulePeriod:
    """Return the period in which `now` is."""
    return clock_of(schedule)(now)


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


HOURLY_BY_CRON = {"name": "cron", "templates": ["vms"], "subscriptions": [SUBSCRIPTION], "cron": "5 * * * *"}


def by_cron(**changes: object) -> CollectionSchedules:
    """Return one schedule with a cron expression, of a topic with four partitions."""
    return CollectionSchedules((CollectionSchedule.model_validate(HOURLY_BY_CRON | changes),), "requests", lambda: 4)


def fired(found: CollectionSchedules, begin: str, days: int) -> list[str]:
    """Return the moments, in UTC and without a year, at which something was due while a clock went on in steps."""
    now, moments = at(begin), []
    end, step = now + timedelta(days=days), timedelta(minutes=10)
    while now < end:
        keys = [(record.key or b"").decode() for record in found.due(now, OWN_AND_NEW)]
        moments += [key[-len("05-01T12:05:00Z") : -len(":00Z")] for key in keys]
        found.settle(committed=True)
        now += step
    return moments


def test_cron_makes_a_request_at_each_match() -> None:
    """As interval schedules do: once, under an id that names the match, and again if it could not be written."""
    found = by_cron()
    assert ids(found, "2026-05-01T12:04:59") == [b"cron:2026-05-01T11:05:00Z"], "the current period, since nobody has made it"
    found.settle(committed=True)
    assert ids(found, "2026-05-01T12:05:00") == [b"cron:2026-05-01T12:05:00Z"]
    found.settle(committed=False)
    assert ids(found, "2026-05-01T12:05:01") == [b"cron:2026-05-01T12:05:00Z"]
    found.settle(committed=True)
    assert fired(found, "2026-05-01T12:06:00", 1)[:3] == ["05-01T13:05", "05-01T14:05", "05-01T15:05"]
    assert fired(by_cron(cron="0 6 * * MON-FRI"), "2026-05-01T05:00:00", 5) == [
        "04-30T06:00", "05-01T06:00", "05-04T06:00", "05-05T06:00"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "begin", "moments"),
    [
        # In Berlin, 02:00 to 03:00 is missing on 29 March 2026, and there twice on 25 October.
        ("30 2 * * *", "2026-03-28T01:30:00", ["03-28T01:30", "03-29T01:00", "03-30T00:30"]),
        ("30 2 * * *", "2026-10-24T00:30:00", ["10-24T00:30", "10-25T00:30", "10-26T01:30"]),
        ("30 1,2 * * *", "2026-10-24T23:30:00", ["10-24T23:30", "10-25T00:30", "10-26T00:30", "10-26T01:30"]),
        ("0 */2 * * *", "2026-10-24T22:00:00", ["10-24T22:00", "10-25T00:00", "10-25T01:00", "10-25T03:00"]),
        ("*/30 * * * *", "2026-10-25T00:00:00", ["10-25T00:00", "10-25T00:30", "10-25T01:00", "10-25T01:30", "10-25T02:00"]),
        ("*/30 * * * *", "2026-03-29T00:00:00", ["03-29T00:00", "03-29T00:30", "03-29T01:00", "03-29T01:30"]),
    ],
)
def test_cron_has_a_time_zone_whose_clocks_change(expression: str, begin: str, moments: list[str]) -> None:
    """Fixed hours are neither left out nor repeated; what goes by the hour or minute goes on evenly."""
    assert fired(by_cron(cron=expression, timezone="Europe/Berlin"), begin, 3)[: len(moments)] == moments


def test_jitter_of_cron_stays_within_the_period() -> None:
    """Even if the period is shorter than the jitter, so that none is left out."""
    schedule = CollectionSchedule.model_validate(HOURLY_BY_CRON | {"cron": "0,10 * * * *", "jitter_minutes": 40})
    long, short = (period_at(schedule, at(f"2026-05-01T12:{minute}:30")) for minute in (10, "00"))
    assert short.begin <= short.fires < long.begin <= long.fires < at("2026-05-01T12:50:00")
    assert short.fires > short.begin


def test_what_is_too_late_is_left_out() -> None:
    """Up to then, a collector that was down makes it up, but only the latest; later, an id may have been forgotten."""
    for found in (by_cron(cron="0 0 1 * *", late_minutes=60), schedules(every_minutes=100_000, late_minutes=60)):
        begin = clock_of(next(iter(found._requests)))(at("2026-05-20T00:00:00")).begin.replace(tzinfo=None)
        assert ids(found, (begin + timedelta(minutes=60, seconds=1)).isoformat()) == []
        assert len(ids(found, (begin + timedelta(minutes=60)).isoformat())) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cron": "5 * * *"}, 'a cron expression has 5 fields, not 4; give minute, hour, .* such as "5 '),
        ({"cron": "0 5 * * * *"}, "has 5 fields, not 6"),
        ({"cron": "61 * * * *"}, "not a cron expression: bad minute"),
        ({"cron": "0 25 * * *"}, "bad hour"),
        ({"cron": "0 0 30 2 *"}, "bad day-of-month"),
        ({"cron": "* * */20 * 1L"}, "no time matches"),
        ({"cron": "@daily"}, "has 5 fields, not 1"),
        ({"timezone": "Mars/Olympus"}, "unknown time zone 'Mars/Olympus'"),
        ({"every_minutes": 60}, "give cron, or every_minutes and offset_minutes, not both"),
        ({"cron": None, "timezone": "Europe/Berlin"}, "timezone needs cron"),
        ({"late_minutes": 50_000}, "less than or equal to 20160"),
    ],
)
def test_settings_of_cron_are_checked(changes: dict[str, object], said: str) -> None:
    """And say what is wrong with the expression."""
    with pytest.raises(ValidationError, match=said):
        CollectionSchedule.model_validate(HOURLY_BY_CRON | changes)


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


def test_the_collector_lives_on_while_it_cannot_ask_for_partitions(world: CollectorWorld) -> None:
    """What is due is written when Kafka is back; partitions are counted anew when they are assigned anew."""
    answers: list[int | Exception] = [ServerUnreachable("away"), ServerUnreachable("away"), 1]

    def partitions() -> int:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    world.partitions = partitions
    world.run(until=lambda: world.session is not None and bool(world.session.outputs(TOPICS.collection_requests)))
    assert answers == [1]


def test_partitions_are_counted_again_when_told() -> None:
    """There may be more of them than before, and then requests belong to others."""
    counts = iter((4, 5))
    found = CollectionSchedules((CollectionSchedule.model_validate(NIGHTLY),), "requests", lambda: next(counts))
    asked: list[int] = []

    def is_own(partition: int) -> bool:
        asked.append(partition)
        return False

    for _ in range(2):
        assert ids(found, "2026-05-01T12:00:00", RequestView(is_own, lambda *_: False)) == []
    found.forget_partitions()
    assert ids(found, "2026-05-01T12:00:00", RequestView(is_own, lambda *_: False)) == []
    key = b"nightly:2026-05-01T02:30:00Z"
    assert asked == [partition_of(key, 4), partition_of(key, 4), partition_of(key, 5)]
