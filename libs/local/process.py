"""A server as a child process: start and wait until ready, stop, kill. It dies with the process that started it.

Ports and data directory stay the same over stop and start. Output goes to ``<name>.log`` in the data directory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from libs.local import guard
from libs.local.errors import ServerFailed
from libs.local.ports import free_port

STOP_SECONDS: Final = 10.0
_LOG_LINES_SHOWN = 15
# Java writes dozens of them behind each cause.
_STACK_FRAMES = ("at ", "... ")
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a server and how to tell that it is ready."""

    argv: tuple[str, ...]
    ready: Callable[[], bool]
    environ: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 180.0  # a loaded machine starts a Java server slowly


class LocalServer(ABC):
    """One server. Subclasses say how it is launched; nothing happens before `start`."""

    name: str

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        self.data_dir = data_dir
        self._asked_port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @cached_property
    def port(self) -> int:
        """The port for clients: the one that was asked for, or a free one."""
        return self._asked_port or free_port()

    @classmethod
    @abstractmethod
    def install(cls) -> None:
        """Fetch what the server needs, unless it is there. Raises `ServerMissing`."""

    @abstractmethod
    def _launch(self) -> Launch:
        """Prepare the data directory and say how to start. Raises `ServerMissing`."""

    @property
    def log_path(self) -> Path:
        """Where the server's output goes."""
        return self.data_dir / f"{self.name}.log"

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start, or start again, and return when the server answers; does nothing while it runs.

        Raises:
            ServerMissing: something must be installed first.
            ServerFailed: it ended or did not answer in time.
        """
        if self.running:
            return
        self.data_dir.mkdir(parents=True, exist_ok=True)
        launch = self._launch()
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                (sys.executable, "-I", "-S", guard.__file__, *launch.argv),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **launch.environ},
                start_new_session=True,
            )
        try:
            self._wait_until_ready(self._process, launch)
        except BaseException:  # Ctrl-C too: nobody else knows of this process
            self.kill()
            raise

    def stop(self) -> None:
        """Ask the server to end and wait for it; kill it after ten seconds. Idempotent."""
        if self._process is None:
            return
        if self.running:
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        finally:
            self.kill()

    def kill(self) -> None:
        """End the server as a power cut would (SIGKILL); return when its ports are free. Idempotent."""
        if self._process is None:
            return
        assert self._process.stdin is not None  # noqa: S101 - we gave it a pipe
        self._process.stdin.close()
        self._process.wait()
        self._process = None

    def output(self) -> str:
        """Return what the server has written since it was started."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def _wait_until_ready(self, process: subprocess.Popen[bytes], launch: Launch) -> None:
        deadline = time.monotonic() + launch.seconds
        while not launch.ready():
            if process.poll() is not None:
                raise self._failed(f"ended with exit code {process.returncode}")
            if time.monotonic() > deadline:
                raise self._failed(f"was not ready after {launch.seconds:.0f} s")
            time.sleep(_POLL_SECONDS)

    def _failed(self, what: str) -> ServerFailed:
        lines = [line for line in self.output().splitlines() if not line.lstrip().startswith(_STACK_FRAMES)]
        last = lines[-_LOG_LINES_SHOWN:]
        return ServerFailed("\n  ".join([f"{self.name} {what}; the end of {self.log_path}:", *last]))
