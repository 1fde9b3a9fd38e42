"""Keep child processes running: start them in order, restart those that end, stop them in order.

The supervisor has no thread of its own: `step` is called several times a second. A child that ends is restarted after a delay
that doubles from one second to thirty and is reset after a minute of running. A child that cannot run holds up no other: it is
retried for as long as the others run, even if its settings are at fault, because what they refer to (an index template, a
file) may be fixed in the meantime.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from libs.common.errors import ConfigError
from libs.common.security.private_files import private, private_directory
from libs.common.settings.variables import CONFIG_VARIABLE
from libs.local import guard
from libs.local.environment import without_secrets
from libs.local.ports import is_free
from libs.local.process import end_guarded
from services.cli.probe import is_ready
from services.cli.up.handover import handed_over

FIRST_DELAY: Final = 1.0
LONGEST_DELAY: Final = 30.0
GOOD_RUN_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
SIGNALLED: Final = 128  # the guard exits with 128 + N if signal N ended its child
PORT_SECONDS: Final = 1.0
_MOST_SHOWN: Final = 300  # characters
CRASH_LOOP: Final = 3  # consecutive early ends after which a program counts as unable to run


class ProgramState(StrEnum):
    """State of a program."""

    STARTING = "starting"
    READY = "ready"
    WAITING = "restarting"  # ended; restarts after the delay
    FAILED = "failed"  # its settings are at fault; retried as well
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Program:
    """One child process. Its standard error goes to `log`; so does its standard output, unless `relay` is set.

    Its environment is ours without secrets, overridden by `env`. Its settings are `settings`; None: those it finds itself.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    health_port: int | None = None
    relay: Path | None = None
    settings: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Child:
    """A program and its current process."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    state: ProgramState = ProgramState.STOPPED
    started_at: float = 0.0
    start_again_at: float = 0.0
    delay: float = FIRST_DELAY
    restarts: int = 0
    failures: int = 0  # consecutive ends, none after a good run
    why: str = ""  # why it is not running
    refusal: str = ""  # what it said of its settings; an end for another reason does not make them right, being ready does

    @property
    def cannot_run(self) -> bool:
        """Whether it is not ready and either ends repeatedly or refuses its settings."""
        return self.state is not ProgramState.READY and (self.failures >= CRASH_LOOP or bool(self.refusal))


@dataclass(frozen=True, slots=True)
class StateChange:
    """A program's change of state."""

    name: str
    state: ProgramState
    detail: str = ""


@dataclass(slots=True)
class Supervisor:
    """Runs `programs` until `stop`. Not thread-safe."""

    programs: Iterable[Program]
    clock: Callable[[], float] = time.monotonic
    children: list[Child] = field(default_factory=list)

    def start(self) -> None:
        """Start every program, in order."""
        self.children = [Child(program) for program in self.programs]
        for child in self.children:
            self._start(child)

    def step(self) -> list[StateChange]:
        """Check on every child once; return what changed."""
        return [change for child in self.children for change in self._look_after(child)]

    def failed(self) -> list[Child]:
        """Return the children that cannot run."""
        return [child for child in self.children if child.cannot_run]

    def stop(self) -> None:
        """Ask each child in order to end; kill any that has not ended after ten seconds."""
        for child in self.children:
            stop_process(child.process)
            child.state = ProgramState.STOPPED

    def _start(self, child: Child) -> None:
        program = child.program
        if program.settings is None:
            child.process = _spawned(program, program.env, ())
        else:
            with handed_over(program.settings) as descriptor:
                env = {**program.env, CONFIG_VARIABLE: f"/dev/fd/{descriptor}"}
                child.process = _spawned(program, env, (descriptor,))
        child.state = ProgramState.STARTING
        child.started_at = self.clock()

    def _look_after(self, child: Child) -> list[StateChange]:
        if child.state in {ProgramState.WAITING, ProgramState.FAILED} and self.clock() >= child.start_again_at:
            return self._start_again(child)
        if child.state not in {ProgramState.STARTING, ProgramState.READY} or child.process is None:
            return []
        code = child.process.poll()
        if code is not None:
            return [self._ended(child, code)]
        if self.clock() - child.started_at > GOOD_RUN_SECONDS:
            child.delay, child.failures = FIRST_DELAY, 0
        if child.state is ProgramState.STARTING and is_ready(child.program.health_port):
            child.state, child.refusal = ProgramState.READY, ""
            return [StateChange(child.program.name, ProgramState.READY)]
        return []

    def _start_again(self, child: Child) -> list[StateChange]:
        """Restart a child that has ended, unless its port is still taken: starting it then would only fail again."""
        port = child.program.health_port
        if port is not None and not is_free(port):
            child.start_again_at = self.clock() + PORT_SECONDS
            before, child.why = child.why, f"waiting for its health port {port}, which another process is using"
            return [StateChange(child.program.name, ProgramState.WAITING, child.why)] if child.why != before else []
        child.restarts += 1
        try:
            self._start(child)
        except OSError as error:
            return [self._put_off(child, ProgramState.WAITING, f"cannot start: {error.strerror}")]
        return [StateChange(child.program.name, ProgramState.STARTING, f"restart {child.restarts}")]

    def _ended(self, child: Child, code: int) -> StateChange:
        if child.process is not None:
            end_guarded(child.process)
        if self.clock() - child.started_at > GOOD_RUN_SECONDS:
            child.delay, child.failures = FIRST_DELAY, 0
        said = last_line(child.program.log) if 0 < code < SIGNALLED else ""  # a program ended by a signal has logged no reason
        why = f"{said} ({how_it_ended(code)})" if said else how_it_ended(code)
        if code != ConfigError.exit_code:
            return self._put_off(child, ProgramState.WAITING, why)
        child.refusal = why
        return self._put_off(child, ProgramState.FAILED, why)

    def _put_off(self, child: Child, state: ProgramState, why: str) -> StateChange:
        """Schedule a restart of the child after its delay."""
        child.failures += 1
        child.state = state
        child.start_again_at = self.clock() + child.delay
        child.why = why
        change = StateChange(child.program.name, state, f"{why}; retrying in {child.delay:.0f} s; see {child.program.log}")
        child.delay = min(child.delay * 2, LONGEST_DELAY)
        return change


def _spawned(program: Program, env: Mapping[str, str], descriptors: tuple[int, ...]) -> subprocess.Popen[bytes]:
    private_directory(program.log.parent)
    with open(program.log, "ab", opener=private) as log, open(program.relay or program.log, "ab", opener=private) as output:
        return subprocess.Popen(
            (sys.executable, "-I", "-S", guard.__file__, *program.argv),  # a child never outlives us
            env={**without_secrets(os.environ), **env},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=log,
            pass_fds=descriptors,
            start_new_session=True,  # a Ctrl-C in the terminal reaches only us; we stop the children in order
        )


def how_it_ended(code: int) -> str:
    """Describe how a guarded process ended: by itself, by a signal to it, or by one to its guard (a negative code)."""
    number = -code if code < 0 else code - SIGNALLED
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"exit code {code}"


def stop_process(process: subprocess.Popen[bytes] | None) -> None:
    """End a guarded process: SIGTERM, ten seconds, SIGKILL."""
    if process is None:
        return
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    end_guarded(process)


def last_line(log: Path) -> str:
    """Return the last non-empty line of a log file, which usually says why a program ended."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip()[:_MOST_SHOWN] for line in reversed(lines) if line.strip()), "")
