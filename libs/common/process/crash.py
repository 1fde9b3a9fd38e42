"""Crash points: named places at which a test kills the process, to prove that a kill there neither loses nor duplicates rows.

``BLOBTIDE_CRASH_POINT=sink.committed`` kills the process (SIGKILL) when it reaches that point, ``sink.committed@3`` when it
reaches it for the third time, and ``ingest.reading:NAME`` when it reaches it with the subject NAME. Without the variable, crash
points do nothing.
"""

from __future__ import annotations

import os
import signal
from typing import Final

CRASH_VARIABLE: Final = "BLOBTIDE_CRASH_POINT"


class _Countdown:
    def __init__(self, wanted: str) -> None:
        self._name, _, times = wanted.partition("@")
        self._left = int(times or 1)

    def reached(self, name: str, subject: str) -> bool:
        self._left -= self._name in {name, f"{name}:{subject}"}
        return self._left == 0


_countdown = _Countdown(os.environ[CRASH_VARIABLE]) if os.environ.get(CRASH_VARIABLE) else None


def crash_point(name: str, subject: str = "") -> None:
    """Kill this process if it was told to end at this point, or at this point with this subject."""
    if _countdown is not None and _countdown.reached(name, subject):
        os.kill(os.getpid(), signal.SIGKILL)
