"""End a process on a signal: ask once, allow `GRACE_SECONDS`, then exit.

A dedicated thread waits for signals, because Python runs handlers between instructions of the main thread, which may be inside
a client library's call for long. Ending a process in the middle of work is safe: all of them are built to survive a crash.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final

import structlog

log = structlog.get_logger(__name__)

# Orchestrators kill after ten seconds, without any message.
GRACE_SECONDS: Final = 9.0
_SIGNALLED: Final = 128  # the shell's exit code for a process ended by signal N is 128 + N


def stop_on_signals(stop: Callable[[], None]) -> None:
    """Call `stop` from a thread on SIGTERM or SIGINT; exit on the next signal, or when the grace period is over.

    Call it from the main thread, once per process.
    """
    reading, writing = socket.socketpair()
    writing.settimeout(0)
    signal.set_wakeup_fd(writing.detach(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave_it_to_the_thread)
    threading.Thread(target=_watch, args=(reading, stop), name="signals", daemon=True).start()


def _leave_it_to_the_thread(number: int, frame: FrameType | None) -> None:
    """Do nothing: a handler must exist for the number to be written to the descriptor."""


def _watch(reading: socket.socket, stop: Callable[[], None]) -> None:
    number = reading.recv(1)[0]
    stop()
    reading.settimeout(GRACE_SECONDS)
    try:
        number = reading.recv(1)[0]
    except TimeoutError:
        log.warning(
            "still busy; exiting as in a crash: uncommitted work will be repeated",
            signal=signal.Signals(number).name,
            waited_seconds=GRACE_SECONDS,
        )
    os._exit(_SIGNALLED + number)
