"""Free ports on the loopback address that stay free while their server is down."""

from __future__ import annotations

import random
import socket
from contextlib import closing

LOOPBACK = "127.0.0.1"
# Below the ports that systems give to outgoing connections: a client that reconnects while its server is down could otherwise
# be given the server's own port, and the server could not come back.
_RANGE = range(20_000, 32_000)
_ATTEMPTS = 200


def free_port() -> int:
    """Return a port nobody listens on. Raises OSError if none is found."""
    for _ in range(_ATTEMPTS):
        port = random.choice(_RANGE)  # noqa: S311 - spreads processes that ask at the same time
        if _is_free(port):
            return port
    raise OSError(f"no free port on {LOOPBACK} between {_RANGE.start} and {_RANGE.stop - 1}")


def accepts(port: int) -> bool:
    """Tell whether somebody accepts connections on a loopback port."""
    with closing(socket.socket()) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
