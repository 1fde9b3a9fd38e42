"""What is said of programs that do not get on, and that nothing is said of those that rest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.cli.probe import Families
from services.cli.up.supervisor import CRASH_LOOP, Child, Program, ProgramState
from services.cli.up.trouble import STILL_SECONDS, UNREADY_SECONDS, Look, Troubles


def metrics(lag: float, rows: float, commits: float = 0.0) -> Families:
    """Return what a program may show."""
    return {
        "blobtide_kafka_consumer_lag_records": [({"topic": "t", "partition": "0"}, lag)],
        "blobtide_sink_rows_total": [({"sink": "x", "outcome": "written"}, rows)],
        "blobtide_kafka_transactions_total": [({"outcome": "committed"}, commits), ({"outcome": "aborted"}, lag)],
    }


class _Screen:
    """Looks at one program again and again."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.child = Child(Program("sink-x", (), {}, Path("x.log"), health_port=1), state=ProgramState.READY)
        self._troubles = Troubles(clock=lambda: self.now)

    def look(self, families: Families, reason: str | None = None, *, after: float = 0.0) -> str | None:
        """Return what is said after so many seconds."""
        self.now += after
        return self._troubles.line(Look(self.child, families, reason))


@pytest.fixture
def screen() -> _Screen:
    """Return a program that is ready."""
    return _Screen()


def test_a_program_that_has_read_all_there_is_rests(screen: _Screen) -> None:
    """Idle is not stuck: without lag nothing is said, however long nothing moves."""
    for _ in range(5):
        assert screen.look(metrics(0, 7), after=10 * STILL_SECONDS) is None


def test_a_program_with_records_before_it_that_does_nothing_is_stuck(screen: _Screen) -> None:
    """After half a minute the line says since when and how much waits; the first row or commit ends it."""
    screen.look(metrics(0, 7))
    assert screen.look(metrics(12, 7), after=10 * STILL_SECONDS) is None, "it has waited for no time yet"
    assert screen.look(metrics(900, 7), after=STILL_SECONDS - 1) is None
    line = screen.look(metrics(1_234, 7), after=1)
    assert line is not None
    assert re.fullmatch(r"sink-x +stuck +no progress since \d\d:\d\d:\d\d, with 1,234 records waiting; see x.log", line)
    assert screen.look(metrics(1_234, 8), after=1) is None
    assert screen.look(metrics(1_234, 8), after=STILL_SECONDS - 1) is None
    assert screen.look(metrics(1_234, 8, commits=1), after=STILL_SECONDS) is None


def test_a_program_that_is_slow_but_moves_is_not_stuck(screen: _Screen) -> None:
    """Whatever the lag, rows or commits that go on are no trouble."""
    for count in range(1, 9):
        assert screen.look(metrics(10_000 * count, count), after=STILL_SECONDS / 2) is None


def test_being_started_again_is_no_work_done(screen: _Screen) -> None:
    """A program that is restarted over and over counts from zero each time, and is stuck all the same."""
    screen.look(metrics(5, 100))
    assert screen.look(metrics(5, 100), after=1) is None
    screen.child.restarts += 1
    line = screen.look(metrics(5, 0), after=STILL_SECONDS)
    assert line is not None
    assert "no progress since" in line
    assert screen.look(metrics(5, 1), after=1) is None, "in its new life it has written"


def test_what_is_waited_for_is_shown_with_the_reason(screen: _Screen) -> None:
    """The reason of /readyz is shown once it has lasted, with the time since when nothing moves; not after that."""
    reason = "a batch is waiting for its destination: no host answers"
    assert screen.look(metrics(3, 7), reason) is None
    line = screen.look(metrics(3, 7), reason, after=UNREADY_SECONDS)
    assert line == f"sink-x         waiting   {reason}; see x.log"
    line = screen.look(metrics(3, 7), reason, after=STILL_SECONDS)
    assert line is not None
    assert re.search(r"destination: no host answers; no progress since \d\d:\d\d:\d\d; see x.log$", line)
    assert screen.look(metrics(0, 9), after=1) is None


def test_a_part_that_waits_is_shown_while_the_rest_moves(screen: _Screen) -> None:
    """Ingest that waits for one account and reads the others says so, and not that nothing moves."""
    for count in range(1, 5):
        line = screen.look(metrics(3, count), "waiting for storage: prod.eu", after=STILL_SECONDS)
    assert line == "sink-x         waiting   waiting for storage: prod.eu; see x.log"


def test_a_program_that_does_not_answer_is_shown(screen: _Screen) -> None:
    """One that hangs has no metrics, and does not count as resting."""
    screen.look(metrics(0, 7))
    screen.look({}, "no response on its health port 1", after=1)
    line = screen.look({}, "no response on its health port 1", after=STILL_SECONDS)
    assert line is not None
    assert "no response on its health port 1; no progress since" in line


@pytest.mark.parametrize(
    ("failures", "why", "refusal"), [(CRASH_LOOP, "no template", ""), (1, "killed by SIGKILL", "no template")]
)
def test_a_program_that_cannot_run_is_shown_with_its_reason(screen: _Screen, failures: int, why: str, refusal: str) -> None:
    """At every look, from the first on, for as long as it does not run."""
    screen.child.state, screen.child.failures = ProgramState.WAITING, failures
    screen.child.why, screen.child.refusal = why, refusal
    assert screen.look({}, screen.child.why) == "sink-x         failed    no template; see x.log"
    screen.child.state = ProgramState.READY
    assert screen.look(metrics(0, 0)) is None
