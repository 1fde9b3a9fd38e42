"""Crash points: named places where a test ends the process the hard way, to prove that a kill there loses or doubles nothing.

``BLOBTIDE_CRASH_POINT=sink.committed`` kills the process (SIGKILL) when it comes to that place, ``sink.committed@3`` when it
comes there the third time. ``ingest.reading:NAME`` kills it when it comes there with the subject NAME. Without the variable a
crash point does nothing.
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
    """Kill this process if it was asked to end here, or here with this subject."""
    if _countdown is not None and _countdown.reached(name, subject):
        os.kill(os.getpid(), signal.SIGKILL)
