"""Stand between a process and the server it starts, so that the server never outlives it. Run as a script, not imported.

The arguments are the server's command line. Standard input is a pipe that nobody writes to: when its other end closes, because
the parent wants that or is gone in whatever way, the server is killed. A SIGTERM to the process group is the server's alone.
Only the standard library is used, and little of it: this starts with every server.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def _kill_when_parent_lets_go(child: subprocess.Popen[bytes]) -> None:
    os.read(0, 1)
    child.kill()
    # Reap it first: when this process is gone, so is the server, with its ports and locks.
    child.wait()
    os.killpg(0, signal.SIGKILL)


def main(argv: list[str]) -> int:
    """Run the server; return its exit code, 128 + N for a signal N."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # a handler, unlike SIG_IGN, is not inherited by the server
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    threading.Thread(target=_kill_when_parent_lets_go, args=(child,), daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    # At once: an ordinary exit would wait a second for the thread that reads.
    os._exit(main(sys.argv[1:]))
