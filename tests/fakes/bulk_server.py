"""A strict stand-in for a cluster's ``_bulk``: it shows what a real one cannot be made to show.

It checks every request as a picky server would and keeps the documents. Faults are queued and each befalls one request.
"""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

MAX_ID_BYTES = 512
HOLD_SECONDS = 20.0
ItemError = tuple[int, str, str]  # status, type, reason


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request."""

    status: int = 200  # of the whole answer; nothing is applied unless it is 200
    headers: Mapping[str, str] = field(default_factory=dict)
    items: Mapping[str, ItemError] = field(default_factory=dict)  # by the end of the document's id; these are not applied
    reset: bool = False  # apply, then drop the connection without an answer
    keep_bytes: int | None = None  # apply, then send only so much of the announced answer
    forget_items: int = 0  # apply, then answer for so many documents too few
    body: Any = None  # of the whole answer, JSON or text, unless its status is 200
    hold: threading.Event | None = None  # apply, then answer when it is set, or after some seconds


class BulkServer:
    """The server; use it as a context manager."""

    def __init__(self, *, max_body: int = 100_000_000, authorization: str | None = None) -> None:
        self.documents: dict[tuple[str, str], dict[str, Any]] = {}
        self.requests: list[list[str]] = []  # the ids of each request that was read
        self.templates: dict[str, Any] = {}
        self.complaints: list[str] = []
        self.faults: deque[Fault] = deque()
        self.max_body = max_body
        self.authorization = authorization
        self.lock = threading.Lock()
        self._http = _HttpServer(self)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        assert self.complaints == []

    @property
    def url(self) -> str:
        """The address."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def bulk(self, body: bytes, fault: Fault) -> dict[str, Any]:
        """Apply operations and answer as ``filter_path`` asks."""
        items = [self._create(*operation, fault) for operation in self._operations(body)]
        kept = items[: len(items) - fault.forget_items]
        return {"errors": any(item["status"] >= 300 for item in items), "items": [{"create": item} for item in kept]}

    def expect(self, condition: bool, complaint: str) -> None:  # noqa: FBT001
        """Remember what was wrong with a request; the test fails at the end."""
        if not condition:
            self.complaints.append(complaint)

    def _operations(self, body: bytes) -> list[tuple[str, str, dict[str, Any]]]:
        self.expect(body.endswith(b"\n"), "the body must end with a newline")
        lines = body.decode().split("\n")[:-1]
        self.expect(len(lines) % 2 == 0 and all(lines), "every action needs a document")
        operations = []
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            create = json.loads(action)["create"]
            self.expect(set(create) == {"_index", "_id"}, f"unexpected action {action}")
            self.expect(0 < len(create["_id"].encode()) <= MAX_ID_BYTES, "an id has 1 to 512 bytes")
            operations.append((create["_index"], create["_id"], json.loads(document)))
        self.requests.append([identity for _, identity, _ in operations])
        return operations

    def _create(self, index: str, identity: str, document: dict[str, Any], fault: Fault) -> dict[str, Any]:
        for ending, (status, kind, reason) in fault.items.items():
            if identity.endswith(ending):
                return {"status": status, "error": {"type": kind, "reason": reason}}
        if (index, identity) in self.documents:
            return {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "document already exists"}}
        self.documents[index, identity] = document
        return {"status": 201}


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, owner: BulkServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.owner = owner


class _Handler(BaseHTTPRequestHandler):
    server: _HttpServer

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        owner, body = self.server.owner, self._body()
        with owner.lock:
            fault = owner.faults.popleft() if owner.faults else Fault()
            if len(body) > owner.max_body:
                fault = Fault(status=413)
            elif not self._allowed():
                fault = Fault(status=401)
            if fault.status == 200:
                self._check()
            content = owner.bulk(gzip.decompress(body), fault) if fault.status == 200 else fault.body or {"error": "no"}
            self._answer(fault.status, content, fault)

    def do_PUT(self) -> None:
        self.server.owner.templates[self.path] = json.loads(self._body())
        self._answer(200 if self._allowed() else 401, {"acknowledged": True}, Fault())

    def do_GET(self) -> None:
        known = urlsplit(self.path).path in self.server.owner.templates
        self._answer((200 if known else 404) if self._allowed() else 401, {}, Fault())

    def _allowed(self) -> bool:
        return self.server.owner.authorization in {None, self.headers.get("Authorization")}

    def _check(self) -> None:
        address = urlsplit(self.path)
        self.server.owner.expect(address.path == "/_bulk", f"unexpected path {address.path}")
        self.server.owner.expect("items.*.status" in parse_qs(address.query)["filter_path"][0], "the answer is not filtered")
        self.server.owner.expect(self.headers["Content-Type"] == "application/x-ndjson", "not NDJSON")
        self.server.owner.expect(self.headers["Content-Encoding"] == "gzip", "not compressed")

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _answer(self, status: int, content: Any, fault: Fault) -> None:
        if fault.hold is not None:
            fault.hold.wait(HOLD_SECONDS)
        if fault.reset:
            # Lingering for no time makes the close a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        for name, value in {**fault.headers, "Content-Type": "application/json", "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: fault.keep_bytes])
        self.close_connection = fault.keep_bytes is not None

    def log_message(self, *_: object) -> None:
        """Be quiet."""
