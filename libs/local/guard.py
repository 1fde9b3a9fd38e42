"""Sit between a process and the server that it starts, so that the server never outlives it. Run as a script, not imported.

The arguments are the server's command line. Standard input is a pipe that nobody writes to: when its other end closes, on
purpose or because the parent is gone, the server is killed. A SIGTERM to the process group affects only the server. If this
process itself is killed, Linux kills the server at once; on other systems, the process that started the guard does
(`end_guarded`). File descriptors passed to this process are passed on. It uses only a small part of the standard library, since
it starts with every server.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
_MOST_DESCRIPTORS = 256


def _dies_with(parent: int) -> Callable[[], None] | None:
    """Return a function that a child calls before it becomes the server, so that the system kills it with `parent`.

    None if the system cannot do that.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork

    def ask() -> None:
        prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it ended before we asked
            os._exit(1)

    return ask


def _kill_when_parent_lets_go(child: subprocess.Popen[bytes]) -> None:
    os.read(0, 1)
    child.kill()
    # Reap it first, so that the server with its ports and locks is gone when this process is.
    child.wait()
    os.killpg(0, signal.SIGKILL)


def main(argv: list[str]) -> int:
    """Run the server; return its exit code, or 128 + N for a signal N."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # a handler, unlike SIG_IGN, is not inherited by the server
    dies_with_us = _dies_with(os.getpid())
    child = subprocess.Popen(  # there is only one thread here
        argv,
        stdin=subprocess.DEVNULL,
        close_fds=False,
        preexec_fn=dies_with_us,  # noqa: PLW1509
    )
    os.closerange(3, _MOST_DESCRIPTORS)  # descriptors passed on belong to the server alone
    threading.Thread(target=_kill_when_parent_lets_go, args=(child,), daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    # At once: a normal exit would wait a second for the reading thread.
    os._exit(main(sys.argv[1:]))
