"""A stand-in for version 3 of InfluxDB, of which no package is to be had: it answers as its documentation and its tests do.

It reads every line strictly, keeps one point for each table, set of tags and time, and refuses lines whose field has another
type than before, naming them. Other answers are queued, and each is given to one request.
"""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.line_protocol import Point, parse_line


@dataclass(frozen=True)
class Reply:
    """An answer that is given whatever the request says; nothing is written."""

    status: int
    body: Any = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class LineServer:
    """The server; use it as a context manager."""

    def __init__(self, *, authorization: str | None = None, max_lines: int = 1_000_000) -> None:
        self.points: dict[Any, Point] = {}
        self.databases: set[str] = set()
        self.requests: list[tuple[str, dict[str, str], list[str]]] = []  # path, query, lines
        self.replies: deque[Reply] = deque()
        self.refuses: Callable[[Point], str | None] = lambda _: None  # why it refuses a point
        self.says: Callable[[Reply], Reply] = lambda reply: reply  # how it words an answer
        self.always: Reply | None = None
        self.is_down = False
        self.authorization = authorization
        self.max_lines = max_lines
        self.lock = threading.Lock()
        self._types: dict[tuple[str, str], type] = {}
        self._http = _HttpServer(self)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """The address."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def reply(self, path: str, query: dict[str, str], lines: list[str]) -> Reply:
        """Return the answer to a write."""
        return self.says(self._reply(path, query, lines))

    def _reply(self, path: str, query: dict[str, str], lines: list[str]) -> Reply:
        if self.always is not None:
            return self.always
        if self.replies and lines:
            return self.replies.popleft()
        if len(lines) > self.max_lines:
            return Reply(413)
        if path != "/api/v3/write_lp" or query.get("precision") != "nanosecond":
            return Reply(404, "no such path")
        return self._write(lines) if lines else Reply(400, {"error": "write buffer error: no lines", "data": None})

    def _write(self, lines: list[str]) -> Reply:
        refused = []
        for number, line in enumerate(lines, 1):
            try:
                point = parse_line(line, escaping=True)
            except (ValueError, IndexError) as error:
                refused.append({"original_line": line, "line_number": number, "error_message": str(error)})
                continue
            if (why := self._conflict(point) or self.refuses(point)) is not None:
                refused.append({"original_line": line, "line_number": number, "error_message": why})
                continue
            self.points[point.key] = point
        if refused:
            return Reply(400, {"error": "partial write of line protocol occurred", "data": refused})
        return Reply(204)

    def _conflict(self, point: Point) -> str | None:
        for name, value in point.fields.items():
            known = self._types.setdefault((point.measurement, name), type(value))
            if known is not type(value):
                kind = (
                    f"expected iox::column_type::field::{known.__name__}, got iox::column_type::field::{type(value).__name__}"
                )
                return f"invalid column type for column '{name}', {kind}"
        return None


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, owner: LineServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.owner = owner


class _Handler(BaseHTTPRequestHandler):
    server: _HttpServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        owner = self.server.owner
        body = self.rfile.read(int(self.headers["Content-Length"]))
        address = urlsplit(self.path)
        with owner.lock:
            if owner.is_down:
                # Lingering for no time makes the close a reset.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                return
            if owner.authorization not in {None, self.headers.get("Authorization")}:
                self._answer(Reply(401, {"error": "the request was not authenticated"}))
                return
            if address.path == "/api/v3/configure/database":
                self._answer(self._configured(json.loads(body)["db"]))
                return
            text = gzip.decompress(body).decode() if self.headers.get("Content-Encoding") == "gzip" else body.decode()
            lines = text.split("\n")[:-1]
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            owner.requests.append((address.path, query, lines))
            self._answer(owner.reply(address.path, query, lines))

    def _configured(self, name: str) -> Reply:
        if name in self.server.owner.databases:
            return Reply(409, {"error": "attempted to create a resource that already exists"})
        self.server.owner.databases.add(name)
        return Reply(200)

    def _answer(self, reply: Reply) -> None:
        body = (reply.body if isinstance(reply.body, str) else json.dumps(reply.body)).encode()
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be quiet."""
