"""Connections that give a response one time for all of it: status, headers and body, however slowly they come.

The time limit of a socket is one for each silence, so a server that sends a byte now and then, or headers without end, holds
whoever asks forever. Here the time left shrinks with each read. What is too late raises what a silence raises.
"""

from __future__ import annotations

import io
import socket
import time
from http.client import HTTPResponse
from typing import Any, Final

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection


class _TimedSocket(io.RawIOBase):
    """What a socket receives until a moment on the monotonic clock."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._socket = sock
        self._file = sock.makefile("rb", buffering=0)  # keeps the socket open until this is closed
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what is there. Raises TimeoutError."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left)
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _TimedResponse(HTTPResponse):
    """A response that must end within the time limit that its socket has at the beginning."""

    def __init__(self, sock: socket.socket, *rest: Any, **named: Any) -> None:
        super().__init__(sock, *rest, **named)
        if (seconds := sock.gettimeout()) is not None:
            self.fp.close()
            self.fp = io.BufferedReader(_TimedSocket(sock, time.monotonic() + seconds))


class _TimedConnection(HTTPConnection):
    response_class = _TimedResponse


class _TimedTlsConnection(HTTPSConnection):
    response_class = _TimedResponse


class _TimedPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _TimedConnection


class _TimedTlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TimedTlsConnection


TIMED_POOLS: Final[dict[str, type[urllib3.HTTPConnectionPool]]] = {"http": _TimedPool, "https": _TimedTlsPool}
"""By scheme: for `urllib3.PoolManager.pool_classes_by_scheme`."""
