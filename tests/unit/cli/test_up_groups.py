"""How long Kafka's groups may fail before its broker is started again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from libs.common.errors import ServerUnreachable
from services.cli.up import groups as up_groups
from services.cli.up.groups import PATIENCE_SECONDS, GroupWatch

SECONDS = 20.0


class _Probe:
    """Answers as it is told to."""

    def __init__(self) -> None:
        self.answer: str | None = None
        self.asked = 0
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False

    def ask(self, seconds: float) -> str | None:
        """Answer, if the gate is open."""
        del seconds
        self.gate.wait(SECONDS)
        self.asked += 1
        if self.answer == "raise":
            raise ServerUnreachable("away")
        return self.answer

    def close(self) -> None:
        """Take note."""
        self.closed = True


class _World:
    """A watch, its probe, and a clock that moves when told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.probe = _Probe()
        self.watch = GroupWatch(self.probe, lambda: self.now)

    def lost_after(self, seconds: float) -> bool:
        """Let time pass as it does for who looks often, and tell whether groups are lost at its end."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1)
            lost = self.watch.is_lost()
        return lost

    def asked_again(self) -> None:
        """Wait until one question that begins from now on has been answered."""
        wanted = self.probe.asked + 2
        wait_for(lambda: self.probe.asked >= wanted)


def wait_for(done: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[_World]:
    """Ask all the time."""
    monkeypatch.setattr(up_groups, "_EVERY_SECONDS", 0.001)
    made = _World()
    made.watch.start()
    yield made
    made.probe.gate.set()
    made.watch.close()
    assert made.probe.closed


def test_groups_that_work_are_not_lost_however_long_it_takes(world: _World) -> None:
    """Every answer begins the time anew."""
    for _ in range(3):
        world.now += PATIENCE_SECONDS * 0.9
        world.asked_again()
    assert not world.watch.is_lost()
    assert world.watch.still_for() == 0


@pytest.mark.parametrize(("answer", "reason"), [("Broker: not coordinator", "Broker: not coordinator"), ("raise", "away")])
def test_groups_that_do_not_work_are_lost_after_a_while(world: _World, answer: str, reason: str) -> None:
    """Failing for the whole patience is lost, and the reason is kept; less is not."""
    world.probe.answer = answer
    world.asked_again()
    assert not world.lost_after(PATIENCE_SECONDS - 1)
    assert world.lost_after(1)
    assert world.watch.reason == reason


def test_a_question_that_never_returns_is_no_answer(world: _World) -> None:
    """A client that hangs counts as groups that do not work."""
    world.probe.gate.clear()
    wait_for(lambda: world.lost_after(PATIENCE_SECONDS))
    assert world.watch.reason == "no answer"


def test_each_start_in_vain_makes_more_patient_until_groups_work(world: _World) -> None:
    """The next start waits twice as long; once groups have worked, the first patience counts again."""
    world.probe.answer = "no"
    world.asked_again()
    for patience in (PATIENCE_SECONDS, 2 * PATIENCE_SECONDS, 4 * PATIENCE_SECONDS):
        assert not world.lost_after(patience - 1)
        assert world.lost_after(1)
        world.watch.broker_restarts()
    world.probe.answer = None
    world.asked_again()
    world.probe.answer = "no"
    world.asked_again()
    assert world.lost_after(PATIENCE_SECONDS)


def test_the_time_in_which_the_broker_is_away_does_not_count(world: _World) -> None:
    """While the broker is known to be down or starting, its groups cannot work and are not lost."""
    world.probe.answer = "no"
    world.asked_again()
    assert not world.lost_after(PATIENCE_SECONDS - 1)
    world.watch.forgive()
    assert not world.lost_after(PATIENCE_SECONDS - 1)


def test_a_process_that_was_suspended_asks_anew_before_it_judges(world: _World) -> None:
    """After Ctrl-Z, or the sleep of a laptop, nothing was asked for long, which says nothing of the broker."""
    world.probe.gate.clear()
    world.watch.is_lost()
    world.now += 10 * PATIENCE_SECONDS
    assert not world.watch.is_lost()
    assert world.lost_after(PATIENCE_SECONDS)
