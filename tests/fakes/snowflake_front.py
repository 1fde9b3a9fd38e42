"""A proxy in front of a local Snowflake that fails as Snowflake does; what is not to fail is passed on as it is."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from libs.local.ports import LOOPBACK
from libs.local.snowflake import LocalSnowflake


@dataclass(frozen=True, slots=True)
class Failure:
    """A statement fails, with Snowflake's code, SQLSTATE and text."""

    code: int
    state: str
    text: str


@dataclass(frozen=True, slots=True)
class LostAnswer:
    """A statement is run, and its answer gets lost."""


@dataclass
class Front:
    """The proxy: `faults` are pairs of a pattern of statements and what becomes of the first that matches."""

    url: str = ""
    faults: list[tuple[str, Failure | LostAnswer]] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)

    def fault_of(self, statement: str) -> Failure | LostAnswer | None:
        """Note a statement, and return its fault, which is then used up."""
        self.statements.append(statement)
        for at, (pattern, fault) in enumerate(self.faults):
            if re.match(pattern, statement):
                del self.faults[at]
                return fault
        return None


@contextmanager
def front_of(server: LocalSnowflake) -> Iterator[Front]:
    """Run a proxy in front of a server."""
    front = Front()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            match front.fault_of(_statement(body)) if self.path.startswith("/queries/v1/query-request") else None:
                case Failure() as failure:
                    self._answer(200, json.dumps(_shown(failure)).encode())
                case LostAnswer():
                    self._forward(body)
                    self.close_connection = True
                case None:
                    self._answer(*self._forward(body))

        do_PUT = do_POST  # noqa: N815 - the name http.server looks for

        def _forward(self, body: bytes) -> tuple[int, bytes]:
            connection = http.client.HTTPConnection(LOOPBACK, server.port)
            try:
                connection.request(self.command, self.path, body, dict(self.headers))
                response = connection.getresponse()
                return response.status, response.read()
            finally:
                connection.close()

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    proxy = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    proxy.daemon_threads = True
    front.url = f"http://{LOOPBACK}:{proxy.server_address[1]}"
    thread = threading.Thread(target=proxy.serve_forever)
    thread.start()
    try:
        yield front
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()


def _statement(body: bytes) -> str:
    text: str = json.loads(gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body)["sqlText"]
    return text


def _shown(failure: Failure) -> dict[str, Any]:
    code = f"{failure.code:06d}"
    return {
        "data": {"errorCode": code, "sqlState": failure.state},
        "code": code,
        "message": f"{code} ({failure.state}): {failure.text}",
        "success": False,
    }
