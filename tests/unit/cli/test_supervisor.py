"""The supervisor over small real processes."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from libs.local.ports import LOOPBACK, free_port
from libs.local.process import end_guarded
from services.cli.probe import is_ready
from services.cli.up.supervisor import (
    CRASH_LOOP,
    FIRST_DELAY,
    GOOD_RUN_SECONDS,
    Program,
    ProgramState,
    StateChange,
    Supervisor,
    how_it_ended,
)
from tests.clock import Clock
from tests.processes import is_alive

SECONDS = 20.0


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


def wait_for(done: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def changes_until(supervisor: Supervisor, state: ProgramState) -> list[StateChange]:
    """Step until some program comes into `state`."""
    deadline = time.monotonic() + SECONDS
    seen: list[StateChange] = []
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
    first = changes_until(supervisor, ProgramState.WAITING)[-1]
    assert "exit code 7" in first.detail
    assert supervisor.step() == [], "it waits for its delay"
    clock.now += FIRST_DELAY
    again = changes_until(supervisor, ProgramState.STARTING)[-1]
    assert again.detail == "restart 1"
    changes_until(supervisor, ProgramState.WAITING)
    assert supervisor.children[0].start_again_at == clock.now + 2 * FIRST_DELAY


def test_a_program_that_refuses_its_settings_says_why_and_is_tried_again(supervise: Callable[..., Supervisor]) -> None:
    """The exit code of wrong settings shows the last log line; what is wrong may be put right, so it is started again."""
    clock = Clock()
    supervisor = supervise("import sys; print('sinks.file: unknown', file=sys.stderr); sys.exit(2)", clock=clock)
    supervisor.start()
    change = changes_until(supervisor, ProgramState.FAILED)[-1]
    assert change.detail.startswith("sinks.file: unknown (exit code 2); retrying in 1 s; see ")
    assert [child.program.name for child in supervisor.failed()] == ["p0"]
    clock.now += FIRST_DELAY
    changes_until(supervisor, ProgramState.STARTING)
    assert [child.program.name for child in supervisor.failed()] == ["p0"], "it has not run since"


def test_a_program_that_refuses_its_settings_does_so_until_it_is_ready(tmp_path: Path) -> None:
    """A later end for another reason, as of a Kafka that is away, does not take the place of what is to be put right."""
    ends_with = tmp_path / "code"
    ends_with.write_text("2")
    code = f"print('bad setting'); raise SystemExit(int(open({str(ends_with)!r}).read()))"
    clock = Clock()
    program = Program("p", (sys.executable, "-c", code), {}, tmp_path / "log", health_port=free_port())
    supervisor = Supervisor([program], clock)
    supervisor.start()
    changes_until(supervisor, ProgramState.FAILED)
    ends_with.write_text("3")
    clock.now += FIRST_DELAY
    changes_until(supervisor, ProgramState.WAITING)
    child = supervisor.children[0]
    assert supervisor.failed() == [child]
    assert (child.refusal, child.why) == ("bad setting (exit code 2)", "bad setting (exit code 3)")


def test_one_program_that_cannot_run_leaves_the_others_alone(supervise: Callable[..., Supervisor]) -> None:
    """A program that ends again and again counts as one that cannot run; its neighbour goes on in its first process."""
    clock = Clock()
    supervisor = supervise("raise SystemExit(1)", "import time; time.sleep(600)", clock=clock)
    supervisor.start()
    bad, good = supervisor.children
    for _ in range(CRASH_LOOP):
        assert supervisor.failed() == []
        changes_until(supervisor, ProgramState.WAITING)
        clock.now = bad.start_again_at
        supervisor.step()
    assert supervisor.failed() == [bad]
    assert (good.state, good.restarts) == (ProgramState.READY, 0)


def test_a_program_that_runs_well_for_a_minute_has_a_clean_slate(supervise: Callable[..., Supervisor], tmp_path: Path) -> None:
    """After a good run neither earlier ends nor the grown delay count."""
    clock = Clock()
    code = f"import os, time; time.sleep(600 if os.path.exists({str(tmp_path / 'good')!r}) else 0); raise SystemExit(1)"
    supervisor = supervise(code, clock=clock)
    supervisor.start()
    child = supervisor.children[0]
    for _ in range(CRASH_LOOP):
        changes_until(supervisor, ProgramState.WAITING)
        if child.failures == CRASH_LOOP:
            (tmp_path / "good").touch()
        clock.now = child.start_again_at
        supervisor.step()
    assert child.state is ProgramState.STARTING
    clock.now += GOOD_RUN_SECONDS + 1
    supervisor.step()
    assert (child.failures, child.delay) == (0, FIRST_DELAY)
    assert supervisor.failed() == []


def test_a_killed_guard_takes_its_program_with_it(supervise: Callable[..., Supervisor], tmp_path: Path) -> None:
    """Nothing of a program is left when its guard is killed, so its successor finds ports and locks free."""
    supervisor = supervise(f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    supervisor.start()
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
    program = psutil.Process(int((tmp_path / "pid").read_text()))
    guard = supervisor.children[0].process
    assert guard is not None
    guard.kill()
    if sys.platform.startswith("linux"):
        wait_for(lambda: not is_alive(program))  # before anybody looks
    assert "killed by SIGKILL" in changes_until(supervisor, ProgramState.WAITING)[-1].detail
    wait_for(lambda: not is_alive(program))


def test_what_a_killed_guard_leaves_is_killed_with_its_group(tmp_path: Path) -> None:
    """Also where the system does not end a process with its parent, nothing of a guarded process is left."""
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen((sys.executable, '-c', 'import time; time.sleep(600)'))\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    guard = subprocess.Popen((sys.executable, "-c", code), stdin=subprocess.PIPE, start_new_session=True)
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
    left = psutil.Process(int((tmp_path / "pid").read_text()))
    guard.kill()
    guard.wait()
    assert is_alive(left)
    end_guarded(guard)
    wait_for(lambda: not is_alive(left))


def test_a_program_that_cannot_be_started_now_is_put_off(supervise: Callable[..., Supervisor], tmp_path: Path) -> None:
    """What the system refuses at the time, such as a log, is said and tried again; it ends nothing else."""
    clock = Clock()
    supervisor = supervise("raise SystemExit(1)", clock=clock)
    supervisor.start()
    changes_until(supervisor, ProgramState.WAITING)
    (tmp_path / "p0.log").unlink()
    (tmp_path / "p0.log").mkdir()
    clock.now += FIRST_DELAY
    assert supervisor.step()[0].detail.startswith("cannot start: Is a directory; retrying in 2 s")
    (tmp_path / "p0.log").rmdir()
    clock.now += 2 * FIRST_DELAY
    assert supervisor.step()[0].state is ProgramState.STARTING


def test_a_successor_waits_for_the_health_port(tmp_path: Path) -> None:
    """While another process has its port, a program is not started again, which is said once; then it is."""
    clock = Clock()
    port = free_port()
    program = Program("p", (sys.executable, "-c", "raise SystemExit(1)"), {}, tmp_path / "log", health_port=port)
    supervisor = Supervisor([program], clock)
    supervisor.start()
    try:
        changes_until(supervisor, ProgramState.WAITING)
        with socket.create_server((LOOPBACK, port)):
            clock.now += FIRST_DELAY
            assert [change.detail for change in supervisor.step()] == [
                f"waiting for its health port {port}, which another process is using"
            ]
            clock.now += FIRST_DELAY
            assert supervisor.step() == []
        clock.now += FIRST_DELAY
        assert changes_until(supervisor, ProgramState.STARTING)[-1].detail == "restart 1"
    finally:
        supervisor.stop()


def test_a_killed_program_is_reported_with_its_signal(supervise: Callable[..., Supervisor]) -> None:
    """The detail of a child that a signal ended names the signal."""
    supervisor = supervise("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    supervisor.start()
    assert "killed by SIGKILL" in changes_until(supervisor, ProgramState.WAITING)[-1].detail


def test_a_killed_guard_is_reported_in_the_same_way() -> None:
    """Whichever of the two processes a signal ended, and whatever the code, the text says what happened."""
    assert how_it_ended(-9) == how_it_ended(137) == "killed by SIGKILL"
    assert (how_it_ended(7), how_it_ended(255)) == ("exit code 7", "exit code 255")


def test_a_program_that_is_not_ready_for_a_while_is_left_alone(tmp_path: Path) -> None:
    """What waits for its destination or for storage was ready once and still runs: no news, no restart."""
    port = free_port()
    code = (
        "import os, time\n"
        "from libs.common.process.health import Health, HealthServer\n"
        "from libs.common.settings.process import HttpSettings\n"
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
        changes_until(supervisor, ProgramState.READY)
        mark.touch()
        deadline = time.monotonic() + SECONDS
        while is_ready(port):
            assert time.monotonic() < deadline
        assert supervisor.step() == []
        assert (supervisor.children[0].state, supervisor.children[0].restarts) == (ProgramState.READY, 0)
    finally:
        supervisor.stop()


def test_a_proxy_of_the_environment_is_not_asked_for_a_program_on_this_machine() -> None:
    """A ready service is ready also where HTTP_PROXY is set and NO_PROXY is not."""
    code = (
        "from libs.common.process.health import Health, HealthServer\n"
        "from libs.common.settings.process import HttpSettings\n"
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
    assert [child.state for child in supervisor.children] == [ProgramState.STOPPED, ProgramState.STOPPED]
