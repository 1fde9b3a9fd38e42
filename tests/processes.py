"""Other processes as they are seen from outside: each may end, or be another's remains, between two looks."""

from __future__ import annotations

import contextlib

import psutil


def below(pid: int) -> list[psutil.Process]:
    """Return the processes under a process, none if it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def command_of(process: psutil.Process) -> list[str]:
    """Return a process's command line, empty if it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):  # a zombie as well
        return process.cmdline()
    return []


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process is there and more than a zombie."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
