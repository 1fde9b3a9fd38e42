"""The supervisor over small real processes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from libs.local.ports import free_port
from services.cli.probe import is_ready
from services.cli.supervisor import FIRST_DELAY, Change, Program, State, Supervisor, how_it_ended

SECONDS = 20.0


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        """Start at zero."""
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., Supervisor]]:
    """Make supervisors of Python one-liners; whatever they started is stopped at the end."""
    made: list[Supervisor] = []

    def make(*codes: str, clock: Callable[[], float] = time.monotonic) -> Supervisor:
        programs = [
            Program(f"p{n}", (sys.executable, "-c", code), {"MARK": str(tmp_path)}, tmp_path / f"p{n}.log")
            for n, code in enumerate(codes)
        ]
        made.append(Supervisor(programs, clock))
        return made[-1]

    yield make
    for supervisor in made:
        supervisor.stop()


def changes_until(supervisor: Supervisor, state: State) -> list[Change]:
    """Step until some program comes into `state`."""
    deadline = time.monotonic() + SECONDS
    seen: list[Change] = []
    while time.monotonic() < deadline:
        seen += supervisor.step()
        if any(change.state is state for change in seen):
            return seen
        time.sleep(0.02)
    raise AssertionError(f"never {state}: {seen}")


def test_a_program_that_ends_is_started_again_after_a_delay_that_grows(supervise: Callable[..., Supervisor]) -> None:
    """A child that dies comes back, first after a second, then after two."""
    clock = Clock()
    supervisor = supervise("raise SystemExit(7)", clock=clock)
    supervisor.start()
    first = changes_until(supervisor, State.WAITING)[-1]
    assert "exit code 7" in first.detail
    assert supervisor.step() == [], "it waits for its delay"
    clock.now += FIRST_DELAY
    again = changes_until(supervisor, State.STARTING)[-1]
    assert again.detail == "restart 1"
    changes_until(supervisor, State.WAITING)
    assert supervisor.children[0].start_again_at == clock.now + 2 * FIRST_DELAY


def test_a_configuration_error_is_not_tried_again_and_says_why(supervise: Callable[..., Supervisor]) -> None:
    """A child that exits with the code of a configuration error fails for good, with its last log line."""
    supervisor = supervise("import sys; print('sinks.file: unknown', file=sys.stderr); sys.exit(2)")
    supervisor.start()
    change = changes_until(supervisor, State.FAILED)[-1]
    assert change.detail == "sinks.file: unknown"
    failed = supervisor.failed()
    assert failed is not None
    assert failed.program.name == "p0"


def test_a_killed_program_is_reported_with_its_signal(supervise: Callable[..., Supervisor]) -> None:
    """The detail of a child that a signal ended names the signal."""
    supervisor = supervise("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    supervisor.start()
    assert "killed by SIGKILL" in changes_until(supervisor, State.WAITING)[-1].detail


def test_a_killed_guard_is_reported_in_the_same_way() -> None:
    """Whichever of the two processes a signal ended, and whatever the code, the text says what happened."""
    assert how_it_ended(-9) == how_it_ended(137) == "killed by SIGKILL"
    assert (how_it_ended(7), how_it_ended(255)) == ("exit code 7", "exit code 255")


def test_a_program_that_is_not_ready_for_a_while_is_left_alone(tmp_path: Path) -> None:
    """What waits for its destination or for storage was ready once and still runs: no news, no restart."""
    port = free_port()
    code = (
        "import os, time\n"
        "from libs.common.service import Health, HealthServer\n"
        "from libs.common.settings.services import HttpSettings\n"
        "health = Health()\n"
        "health.ready()\n"
        f"HealthServer(HttpSettings(port={port}), health).start()\n"
        "while not os.path.exists(os.environ['MARK']): time.sleep(0.01)\n"
        "health.not_ready('away')\n"
        "time.sleep(600)\n"
    )
    mark = tmp_path / "away"
    program = Program("p", (sys.executable, "-c", code), {"MARK": str(mark)}, tmp_path / "log", health_port=port)
    supervisor = Supervisor([program])
    supervisor.start()
    try:
        changes_until(supervisor, State.READY)
        mark.touch()
        deadline = time.monotonic() + SECONDS
        while is_ready(port):
            assert time.monotonic() < deadline
        assert supervisor.step() == []
        assert (supervisor.children[0].state, supervisor.children[0].restarts) == (State.READY, 0)
    finally:
        supervisor.stop()


def test_a_proxy_of_the_environment_is_not_asked_for_a_program_on_this_machine() -> None:
    """A ready service is ready also where HTTP_PROXY is set and NO_PROXY is not."""
    code = (
        "from libs.common.service import Health, HealthServer\n"
        "from libs.common.settings.services import HttpSettings\n"
        "from services.cli.probe import ask, is_ready\n"
        "health = Health()\n"
        "health.ready()\n"
        "server = HealthServer(HttpSettings(port=0), health)\n"
        "server.start()\n"
        "print(is_ready(server.port), '# HELP' in ask(server.port, '/metrics'))\n"
    )
    environ = {"PATH": os.environ["PATH"], "http_proxy": "http://127.0.0.1:9"}
    done = subprocess.run((sys.executable, "-c", code), env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "True True\n", done.stderr


def test_stopping_asks_programs_to_end_in_order(supervise: Callable[..., Supervisor], tmp_path: Path) -> None:
    """Every child gets SIGTERM, and the next one only after it has ended."""
    code = (
        "import os, signal, sys, pathlib\n"
        "def end(*_):\n"
        "    with open(os.environ['MARK'] + '/ended', 'a') as f: f.write({name!r})\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "pathlib.Path(os.environ['MARK'] + '/up-' + {name!r}).touch()\n"
        "while True: signal.pause()\n"
    )
    supervisor = supervise(code.format(name="a"), code.format(name="b"))
    supervisor.start()
    deadline = time.monotonic() + SECONDS
    while len(list(tmp_path.glob("up-*"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    supervisor.stop()
    assert (tmp_path / "ended").read_text() == "ab"
    assert [child.state for child in supervisor.children] == [State.STOPPED, State.STOPPED]
