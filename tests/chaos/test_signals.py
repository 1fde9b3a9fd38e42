"""Signals to a service process: the first asks for the end, which comes also when the service does not come to it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator

SECONDS = 60
STUBBORN = """
import time
from libs.common.process.service import run_service
from libs.common.settings import Settings

class Stubborn:
    def run(self, stop, health):
        print("runs", flush=True)
        while not stop.is_set():
            time.sleep(0.01)
        print("was asked", flush=True)
        time.sleep(600)

run_service("stubborn", Settings(http={"port": 0}), lambda settings: Stubborn())
"""


@contextlib.contextmanager
def stubborn_service() -> Iterator[subprocess.Popen[str]]:
    """Run a service that has been asked to end and does not."""
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "runs\n"
            process.send_signal(signal.SIGTERM)
            assert process.stdout.readline() == "was asked\n"
            yield process
        finally:
            process.kill()


def test_a_second_signal_ends_a_process_that_does_not_end() -> None:
    """A service that does not come to its end after SIGTERM ends at a second signal, with that signal's exit code."""
    with stubborn_service() as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 128 + signal.SIGINT


def test_a_process_that_does_not_end_is_ended_and_says_so() -> None:
    """A service that hangs after SIGTERM is ended by itself, before an orchestrator would kill it, and its log says it."""
    with stubborn_service() as process:
        _, log = process.communicate(timeout=SECONDS)
        assert process.returncode == 128 + signal.SIGTERM
        assert "still busy; exiting as in a crash" in log
