"""A server as a child process: start it and wait until it is ready, stop it, kill it. It dies with the process that started it.

Ports and data directory stay the same across restarts. Output goes to ``<name>.log`` in the data directory.
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

from libs.common.security.private_files import private, private_directory
from libs.local import guard
from libs.local.environment import without_secrets
from libs.local.errors import ServerFailed
from libs.local.ports import free_port

STOP_SECONDS: Final = 10.0
_LOG_LINES_SHOWN = 15
# Java writes dozens of them after each cause.
_STACK_FRAMES = ("at ", "... ")
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a server and how to tell when it is ready."""

    argv: tuple[str, ...]
    ready: Callable[[], bool]
    environ: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 180.0  # a loaded machine starts a Java server slowly


class LocalServer(ABC):
    """One server. Subclasses define how it is launched; nothing happens before `start`."""

    name: str

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        self.data_dir = data_dir
        self._asked_port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._launched: Launch | None = None
        self._ready_until = 0.0

    @cached_property
    def port(self) -> int:
        """The port for clients: the requested one, or a free one."""
        return self._asked_port or free_port()

    @classmethod
    @abstractmethod
    def install(cls) -> None:
        """Fetch what the server needs, unless it is present. Raises `ServerMissing`."""

    @abstractmethod
    def _launch(self) -> Launch:
        """Prepare the data directory and return how to start. Raises `ServerMissing`."""

    @property
    def log_path(self) -> Path:
        """Where the server's output goes."""
        return self.data_dir / f"{self.name}.log"

    @property
    def running(self) -> bool:
        """Whether the process is running."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start or restart, and return when the server responds; does nothing if it is running.

        Raises:
            ServerMissing: if something must be installed first.
            ServerFailed: if it ended or did not respond in time.
        """
        if self.running:
            return
        self.begin()
        try:
            while not self.is_up():
                time.sleep(_POLL_SECONDS)
        except BaseException:  # Ctrl-C too: nobody else knows about this process
            self.kill()
            raise

    def begin(self) -> None:
        """Start or restart without waiting; `is_up` tells when the server responds.

        Raises:
            ServerMissing: if something must be installed first.
        """
        self.kill()  # whatever is left of the previous process
        private_directory(self.data_dir)
        self._launched = launch = self._launch()
        self._ready_until = time.monotonic() + launch.seconds
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with open(self.log_path, "ab", opener=private) as log:
            self._process = subprocess.Popen(
                (sys.executable, "-I", "-S", guard.__file__, *launch.argv),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**without_secrets(os.environ), **launch.environ},
                start_new_session=True,
            )

    def is_up(self) -> bool:
        """Return whether the server started by `begin` responds.

        Raises:
            ServerFailed: if it ended or did not respond in time.
        """
        assert self._process is not None, "begin first"  # noqa: S101
        assert self._launched is not None, "begin first"  # noqa: S101
        if self._process.poll() is not None:
            raise self._failed(f"ended with exit code {self._process.returncode}")
        if self._launched.ready():
            return True
        if time.monotonic() > self._ready_until:
            raise self._failed(f"was not ready after {self._launched.seconds:.0f} s")
        return False

    def ask_to_end(self) -> None:
        """Ask the server to end, without waiting."""
        if self._process is not None and self.running:
            os.killpg(self._process.pid, signal.SIGTERM)

    def stop(self) -> None:
        """Ask the server to end and wait for it; kill it after ten seconds. Idempotent."""
        if self._process is None:
            return
        self.ask_to_end()
        try:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        finally:
            self.kill()

    def kill(self) -> None:
        """End the server as a power cut would (SIGKILL); return when its ports are free. Idempotent."""
        if self._process is None:
            return
        end_guarded(self._process)
        self._process = None

    def output(self) -> str:
        """Return the server's output since it was started."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def _failed(self, what: str) -> ServerFailed:
        lines = [line for line in self.output().splitlines() if not line.lstrip().startswith(_STACK_FRAMES)]
        last = lines[-_LOG_LINES_SHOWN:]
        return ServerFailed("\n  ".join([f"{self.name} {what}; the end of {self.log_path}:", *last]))


def end_guarded(process: subprocess.Popen[bytes]) -> None:
    """End a guard and the process it guards with SIGKILL; return when both are gone. Idempotent."""
    if process.stdin is not None:
        process.stdin.close()  # the guard kills and reaps its child, then itself
    process.wait()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # a killed guard leaves its child behind
