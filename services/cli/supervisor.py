"""Keep child processes running: start in order, restart what dies, stop in order.

The supervisor is one thread that is called every fraction of a second (`step`). A child that ends is started again after a
delay that doubles from one second to thirty and returns to one second after a minute of good running; a child that ends with
the exit code of a configuration error is not, since the next start would fail in the same way.
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
from typing import Final

from libs.common.errors import ConfigError
from libs.local import guard
from services.cli.probe import is_ready

FIRST_DELAY: Final = 1.0
LONGEST_DELAY: Final = 30.0
GOOD_RUN_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
SIGNALLED: Final = 128  # the guard exits with 128 + N for a child that signal N ended


class State(StrEnum):
    """What a program is doing."""

    STARTING = "starting"
    READY = "ready"
    WAITING = "restarting"  # ended; starts again when the delay is over
    FAILED = "failed"  # ended for good
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Program:
    """One child process. Its standard error goes to `log`; its standard output too, unless `relay` takes it."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    health_port: int | None = None
    relay: Path | None = None


@dataclass(slots=True)
class Child:
    """A program and its current process."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    state: State = State.STOPPED
    started_at: float = 0.0
    start_again_at: float = 0.0
    delay: float = FIRST_DELAY
    restarts: int = 0
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A program has come into another state."""

    name: str
    state: State
    detail: str = ""


@dataclass(slots=True)
class Supervisor:
    """Run `programs` until `stop`. Not thread-safe."""

    programs: Iterable[Program]
    clock: Callable[[], float] = time.monotonic
    children: list[Child] = field(default_factory=list)

    def start(self) -> None:
        """Start every program, in order."""
        self.children = [Child(program) for program in self.programs]
        for child in self.children:
            self._start(child)

    def step(self) -> list[Change]:
        """Look after every child once; return what changed."""
        return [change for child in self.children for change in self._look_after(child)]

    def failed(self) -> Child | None:
        """Return a child that ended for good, if there is one."""
        return next((child for child in self.children if child.state is State.FAILED), None)

    def stop(self) -> None:
        """Ask each child in order to end; kill what has not ended after ten seconds."""
        for child in self.children:
            stop_process(child.process)
            child.state = State.STOPPED

    def _start(self, child: Child) -> None:
        program = child.program
        program.log.parent.mkdir(parents=True, exist_ok=True)
        with program.log.open("ab") as log, (program.relay or program.log).open("ab") as output:
            child.process = subprocess.Popen(
                (sys.executable, "-I", "-S", guard.__file__, *program.argv),  # a child never outlives us
                env={**os.environ, **program.env},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=log,
                start_new_session=True,  # a Ctrl-C in the terminal reaches only us; we stop the children in order
            )
        child.state = State.STARTING
        child.started_at = self.clock()

    def _look_after(self, child: Child) -> list[Change]:
        if child.state is State.WAITING and self.clock() >= child.start_again_at:
            child.restarts += 1
            self._start(child)
            return [Change(child.program.name, State.STARTING, f"restart {child.restarts}")]
        if child.state not in {State.STARTING, State.READY} or child.process is None:
            return []
        code = child.process.poll()
        if code is not None:
            return [self._ended(child, code)]
        if child.state is State.STARTING and is_ready(child.program.health_port):
            child.state = State.READY
            return [Change(child.program.name, State.READY)]
        return []

    def _ended(self, child: Child, code: int) -> Change:
        if child.process is not None:
            _let_go(child.process)
        child.exit_code = code
        detail = how_it_ended(code)
        if code == ConfigError.exit_code:
            child.state = State.FAILED
            return Change(child.program.name, State.FAILED, last_line(child.program.log) or detail)
        if self.clock() - child.started_at > GOOD_RUN_SECONDS:
            child.delay = FIRST_DELAY
        child.state = State.WAITING
        child.start_again_at = self.clock() + child.delay
        change = Change(child.program.name, State.WAITING, f"{detail}; again in {child.delay:.0f} s; see {child.program.log}")
        child.delay = min(child.delay * 2, LONGEST_DELAY)
        return change


def how_it_ended(code: int) -> str:
    """Say how a guarded process ended: by itself, by a signal to it, or by one to its guard (which is negative)."""
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
    _let_go(process)


def _let_go(process: subprocess.Popen[bytes]) -> None:
    """Close the pipe that keeps the child alive: the guard kills what is left of it."""
    if process.stdin is not None:
        process.stdin.close()
    process.wait()


def last_line(log: Path) -> str:
    """Return the last non-empty line of a log file, to say why a program ended."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
