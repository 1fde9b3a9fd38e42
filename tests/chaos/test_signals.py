"""Signals to a service process: the first asks for the end, the second is the end."""

from __future__ import annotations

import signal
import subprocess
import sys

SECONDS = 60
STUBBORN = """
import time
from libs.common.service import run_service
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


def test_a_second_signal_ends_a_process_that_does_not_end() -> None:
    """A service that does not come to its end after SIGTERM ends at a second one, with the signal's exit code."""
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            for line in ("runs\n", "was asked\n"):
                assert process.stdout.readline() == line
                process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 128 + signal.SIGTERM
        finally:
            process.kill()
