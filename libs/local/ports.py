"""Free ports on the loopback address that stay free while their server is down."""

from __future__ import annotations

import itertools
import random
import socket
from contextlib import closing

LOOPBACK = "127.0.0.1"
# Below the ports that systems give to outgoing connections: a client that reconnects while its server is down could otherwise
# be given the server's own port, and the server could not come back.
_RANGE = range(20_000, 32_000)
_ATTEMPTS = 200


class Ports:
    """Hands out the ports of a range in random order, none twice before all have been: who got one may not listen yet."""

    def __init__(self, ports: range) -> None:
        self._ports = ports
        # In random order, so that processes that ask at the same time get different ones.
        self._order = itertools.cycle(random.sample(ports, len(ports)))

    def free(self) -> int:
        """Return a port nobody listens on. Raises OSError if none is found."""
        for port in itertools.islice(self._order, _ATTEMPTS):
            if is_free(port):
                return port
        raise OSError(f"no free port on {LOOPBACK} between {self._ports.start} and {self._ports.stop - 1}")


_PORTS = Ports(_RANGE)


def free_port() -> int:
    """Return a port nobody listens on, and that was not given before by this process. Raises OSError if none is found."""
    return _PORTS.free()


def accepts(port: int) -> bool:
    """Return whether somebody accepts connections on a loopback port."""
    with closing(socket.socket()) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


def is_free(port: int) -> bool:
    """Return whether a server of ours could listen on a loopback port."""
    with closing(socket.socket()) as probe:
        # As servers do: connections that are just over do not keep a new server from their port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
