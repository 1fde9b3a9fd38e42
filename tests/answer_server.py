"""An HTTP server on this machine that answers as a test wants: any status, bytes and headers, and as slowly as it says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from libs.local.ports import LOOPBACK


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came; names of headers are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Reply:
    """What is answered. `hold` keeps the end of the body back until it is set. Without a `body`, the connection is cut."""

    body: bytes | None = b"{}"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    hold: threading.Event | None = None


@dataclass(slots=True)
class AnswerServer:
    """By path, what is answered: `reply` to a request. `asked` is what came, in order."""

    url: str
    replies: dict[str, Callable[[Asked], Reply]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def say(self, path: str, *replies: Reply) -> None:
        """Answer requests for a path with one reply after the other, and then always with the last."""
        left = list(replies)
        self.replies[path] = lambda _: left.pop(0) if len(left) > 1 else left[0]

    def times(self, path: str) -> int:
        """Return how often a path was asked for."""
        return sum(one.path == path for one in self.asked)


@contextmanager
def answering() -> Iterator[AnswerServer]:
    """Serve until the end of the block."""
    found = AnswerServer("")
    server = ThreadingHTTPServer((LOOPBACK, 0), partial(_Handler, found))
    server.daemon_threads = True
    found.url = f"http://{LOOPBACK}:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body leave together, without waiting for the client in between

    def __init__(self, server: AnswerServer, *rest: object) -> None:
        self._answers = server
        super().__init__(*rest)  # type: ignore[arg-type]

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, parts.path, parts.query, headers, body)
        self._answers.asked.append(asked)
        reply = self._answers.replies[parts.path](asked)
        if reply.body is None:
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        middle = len(reply.body) // 2 if reply.hold is not None else 0
        self.wfile.write(reply.body[:middle])
        if reply.hold is not None:
            self.wfile.flush()
            reply.hold.wait(30)
        self.wfile.write(reply.body[middle:])

    do_GET = do_POST = _answer  # noqa: N815 - names that the library looks for

    def log_message(self, *_: object) -> None:
        """Say nothing."""
