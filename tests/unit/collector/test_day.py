"""A day of schedules, at speed: what a collector holds does not grow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from libs.common.kafka.testing import FakeCommit
from libs.common.settings.collector import CollectorSettings
from libs.demo.arm.server import SUBSCRIPTION, ArmWorld, serving_arm
from services.collector import progress
from tests.collector_world import TOPICS, CollectorWorld
from tests.entries import entries_in

MINUTES = 30  # between requests
STEP = 900.0
HOUR = 3_600.0
HOURS = 24
REMEMBERED = 4


class Day:
    """Lets time pass whenever the collector has nothing to do; every hour it looks at what the collector holds."""

    def __init__(self, world: CollectorWorld) -> None:
        self._world = world
        self._end = HOURS * HOUR
        self.held: list[int] = []
        self.requests = 0

    def is_over(self) -> bool:
        """Go on; return whether the day is over."""
        world = self._world
        if world.session is None:
            return False
        for request in world.session.outputs(TOPICS.collection_requests):
            world.send(bytes(request.value or b""))
            world.session.feed(world.records[-1:])
            self.requests += 1
        kept = (output for commit in world.session.committed for output in commit.outputs if output.topic == TOPICS.resources)
        world.session.committed = [FakeCommit(tuple(kept), {})]
        if world.committed == len(world.records):
            self._pass()
        return world.passed >= self._end

    def _pass(self) -> None:
        world = self._world
        world.passed += STEP
        step = int(world.passed // STEP)
        world.arm.gone = frozenset({step % world.arm.machines})
        world.arm.size = f"Standard_D{step}_v5"
        world.arm.asked.clear()
        if world.passed % HOUR == 0:
            self.held.append(entries_in(world.service))


@pytest.fixture
def world() -> Iterator[CollectorWorld]:
    """A collector with a schedule."""
    often = {"name": "often", "templates": ["vms"], "subscriptions": [SUBSCRIPTION], "every_minutes": MINUTES}
    arm = ArmWorld(machines=6)
    with serving_arm(arm) as url:
        yield CollectorWorld(arm, url, CollectorSettings.model_validate({"schedules": [often], "commit_seconds": 0.001}))


def test_what_a_collector_holds_does_not_grow_in_a_day(world: CollectorWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although resources come, change and go all the time; ids are remembered for some hours here."""
    monkeypatch.setattr(progress, "REMEMBERED_HOURS", REMEMBERED)
    day = Day(world)
    world.run(until=day.is_over)
    assert day.requests >= HOURS * 60 // MINUTES
    early, late = day.held[REMEMBERED + 1 : HOURS // 2], day.held[HOURS // 2 :]
    assert max(late) <= max(early) + 3, day.held
