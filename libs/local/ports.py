"""Free ports on the loopback address that stay free while their server is down."""

from __future__ import annotations

import itertools
import random
import socket
from contextlib import closing

LOOPBACK = "127.0.0.1"
# Below the ports that systems assign to outgoing connections: otherwise, a client that reconnects while its server is down
# could be assigned the server's own port, and the server could not come back.
_RANGE = range(20_000, 32_000)
_ATTEMPTS = 200


class Ports:
    """Hands out the ports of a range in random order, each only once per round: the recipient may not be listening yet."""

    def __init__(self, ports: range) -> None:
        self._ports = ports
        # In random order, so that processes asking at the same time get different ports.
        self._order = itertools.cycle(random.sample(ports, len(ports)))

    def free(self) -> int:
        """Return a port that nobody listens on. Raises OSError if none is found."""
        for port in itertools.islice(self._order, _ATTEMPTS):
            if is_free(port):
                return port
        raise OSError(f"no free port on {LOOPBACK} between {self._ports.start} and {self._ports.stop - 1}")


_PORTS = Ports(_RANGE)


def free_port() -> int:
    """Return a port that nobody listens on and that this process has not handed out yet. Raises OSError if none is found."""
    return _PORTS.free()


def accepts(port: int) -> bool:
    """Return whether a loopback port accepts connections."""
    with closing(socket.socket()) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


def is_free(port: int) -> bool:
    """Return whether one of our servers could listen on a loopback port."""
    with closing(socket.socket()) as probe:
        # As servers do: recently closed connections do not keep a new server from using their port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
