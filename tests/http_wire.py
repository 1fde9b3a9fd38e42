"""HTTP as it is on the wire, for tests of servers: what a client library would not send, and answers as they come."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any, Self

import h11

from libs.local.ports import LOOPBACK

SECONDS = 20.0


@dataclass(frozen=True)
class WireAnswer:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class WireClient:
    """One connection to a server on this machine."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((LOOPBACK, port), SECONDS)
        self._http = h11.Connection(h11.CLIENT)

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def answer(self) -> WireAnswer | None:
        """Return the next answer; None if the server closes instead. Each expects a request, so h11 is told of one."""
        self._http.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        self._http.send(h11.EndOfMessage())
        head, body = None, b""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                data = self.socket.recv(65_536)
                if not data and head is None:
                    return None
                self._http.receive_data(data)
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
                    self._http.start_next_cycle()
                headers = {name.decode(): value.decode() for name, value in head.headers}
                return WireAnswer(head.status_code, headers, body)

    def is_closed(self) -> bool:
        """Wait for the server to close the connection."""
        return self.socket.recv(1) == b""


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> WireAnswer:
    """Send one request, and return its answer. Underscores in names of headers are hyphens."""
    length = [] if body is None else [f"Content-Length: {len(body)}"]
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *length]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    with WireClient(port) as client:
        client.send("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))
        answer = client.answer()
        assert answer is not None
        return answer
