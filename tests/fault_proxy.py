"""An HTTP proxy in front of a storage emulator that fails on request; what is not to fail is passed on as it is."""

from __future__ import annotations

import http.client
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Status:
    """Answer with this status instead."""

    code: int
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Reset:
    """Close the connection without an answer."""


@dataclass(frozen=True, slots=True)
class Short:
    """Close the connection in the middle of the body; with a content length or, like some proxies, without."""

    says_length: bool


_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}
Fault = Status | Reset | Short


@dataclass
class FaultProxy:
    """`faults` are used up one a request; then `otherwise` decides."""

    url: str
    faults: deque[Fault] = field(default_factory=deque)
    otherwise: Callable[[], Fault | None] = lambda: None
    requests: list[str] = field(default_factory=list)


@contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """Run a proxy in front of the emulator's account URL `upstream`."""
    parts = urlsplit(upstream)
    proxy = FaultProxy("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            proxy.requests.append(self.path)
            fault = proxy.faults.popleft() if proxy.faults else proxy.otherwise()
            match fault:
                case Reset():
                    self.close_connection = True
                case Status(code, headers):
                    self._answer(code, [*headers, ("Content-Length", "0")], b"")
                case _:
                    self._forward(fault)

        do_HEAD = do_GET  # noqa: N815 - the name http.server looks for

        def _forward(self, fault: Short | None) -> None:
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
            try:
                connection.request(self.command, self.path, headers=dict(self.headers))
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException):  # the emulator is away
                self.close_connection = True
                return
            finally:
                connection.close()
            headers = [(name, value) for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP]
            length = response.getheader("Content-Length") or str(len(body))
            if fault is None:
                self._answer(response.status, [*headers, ("Content-Length", length)], body)
                return
            self.close_connection = True
            said = [("Content-Length", length)] if fault.says_length else [("Connection", "close")]
            self._answer(response.status, headers + said, body[: len(body) // 2])

        def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Faults are no news."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}{parts.path}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
