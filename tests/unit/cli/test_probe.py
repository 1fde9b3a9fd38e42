"""What is understood of the answers on a health port, whoever gives them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from libs.common.process.health import Health, HealthServer
from libs.common.settings.process import HttpSettings
from libs.local.ports import free_port
from services.cli.probe import metrics_of, why_not_ready


@contextmanager
def answering(status: int, body: bytes) -> Iterator[int]:
    """Serve one answer to everything; give the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def test_the_reason_of_a_service_is_read() -> None:
    """A service that is not ready gives its reason, one that is gives none, and one that is gone does not answer."""
    health = Health()
    server = HealthServer(HttpSettings(port=0), health)
    server.start()
    try:
        health.not_ready("a batch is waiting for its destination: 404")
        assert why_not_ready(server.port) == "a batch is waiting for its destination: 404"
        health.ready()
        assert why_not_ready(server.port) is None
    finally:
        server.stop()
    port = free_port()
    assert why_not_ready(port) == f"no response on its health port {port}"
    assert metrics_of(port) == {}


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[1]", b"\xff\xfe", b'{"reason": '])
def test_an_answer_that_is_not_ours_is_no_failure(body: bytes) -> None:
    """Another program that has the port says nothing that could end `up`."""
    with answering(503, body) as port:
        assert why_not_ready(port) == "it is not ready (status 503)"
    with answering(200, body) as port:
        metrics_of(port)
