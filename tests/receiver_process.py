"""A web service that keeps what it is sent, and goes wrong where its rules say so. Run as a script, by `tests.receiver`.

The arguments are a port, a directory and, for TLS, files with a certificate, its key and the authority of clients.
What comes under ``/kept/NAME/...`` is written to the file NAME before it is answered, so nothing that was acknowledged is lost
when the process is killed; anything else is acknowledged and forgotten. Under a path that ends in ``/v1/logs`` it is a receiver
of OTLP/HTTP, which decodes with OpenTelemetry's own classes. ``PUT /rules/NAME`` sets the rules for a name, as JSON:

- ``answers``: statuses, headers and texts of the next requests, used up one by one, before anything else is looked at.
- ``always``: a status for all requests.
- ``login``: the value that the header `login_header` must have.
- ``most_bytes``: of a body, uncompressed; larger ones get 413.
- ``bad_text``, ``bad_status``: a body with this text gets this status.
- ``partial_text``: log records with this text are rejected in a partial success.
- ``keys``: whether a body with a known ``Idempotency-Key`` is acknowledged, with ``repeat_status``, and not kept again.
- ``cut``: how many of the next bodies are kept, but not acknowledged: the connection is closed.
- ``hold``: requests with at least so many bytes wait until the rules are set anew; ``GET /rules/NAME`` tells how many do.
- ``moved``: requests under this path are redirected to the one in `moved_to`, with `moved_status`.
"""

from __future__ import annotations

import base64
import gzip
import json
import ssl
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

LOOPBACK = "127.0.0.1"
_KEPT = "/kept/"
_RULES = "/rules/"


class Names:
    """What is known of each name: rules, keys, and a file."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        for file in directory.iterdir():  # a process that was killed may have left half a line, which was not acknowledged
            content = file.read_bytes()
            file.write_bytes(content[: content.rfind(b"\n") + 1])
        self.rules: dict[str, dict[str, Any]] = {}
        self.waiting: Counter[str] = Counter()
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)

    def hold(self, name: str, size: int) -> None:
        """Wait until the rules allow an answer to a request of this size."""
        with self.changed:
            self.waiting[name] += 1
            while size >= self.rules.get(name, {}).get("hold", size + 1):
                self.changed.wait()
            self.waiting[name] -= 1

    def keep(self, name: str, request: dict[str, Any]) -> None:
        """Write a request down."""
        with self.lock, (self._directory / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(request) + "\n")

    def knows(self, name: str, key: str) -> bool:
        """Return whether a request with this key was kept."""
        file = self._directory / name
        if not file.exists():
            return False
        requests = map(json.loads, file.read_text(encoding="utf-8").splitlines())
        return any(request["headers"].get("idempotency-key") == key for request in requests)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    names: Names

    def do_HEAD(self) -> None:
        """Check the login only."""
        self._answer(*(self._wrong() or (404, b"")))

    def do_GET(self) -> None:
        """Tell how many requests wait."""
        self._answer(200, str(self.names.waiting[self.path.removeprefix(_RULES)]).encode())

    def do_PUT(self) -> None:
        """Set rules, or keep a body."""
        if self.path.startswith(_RULES):
            with self.names.changed:
                self.names.rules[self.path.removeprefix(_RULES)] = json.loads(self._body())
                self.names.changed.notify_all()
            self._answer(200, b"")
        else:
            self.do_POST()

    def do_POST(self) -> None:
        """Keep a body."""
        raw = self._body()
        content = gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw
        self.names.hold(self._name, len(raw))
        with self.names.lock:
            answer = self._wrong() or self._too_bad(content) or self._taken(content)
            rules = self._rules()
            if answer[0] < 300 and rules.get("cut", 0) > 0:
                rules["cut"] -= 1
                self.close_connection = True
                return
        self._answer(*answer)

    do_PATCH = do_POST  # noqa: N815 - the name http.server looks for

    @property
    def _name(self) -> str:
        return self.path.removeprefix(_KEPT).split("/")[0].split("?")[0] if self.path.startswith(_KEPT) else ""

    def _rules(self) -> dict[str, Any]:
        return self.names.rules.get(self._name, {})

    def _wrong(self) -> tuple[int, bytes] | tuple[int, bytes, dict[str, str]] | None:
        """Answer for a reason that has nothing to do with the body."""
        rules = self._rules()
        if rules.get("answers") and self.command != "HEAD":
            said = rules["answers"].pop(0)
            return said["status"], said.get("text", "").encode(), said.get("headers", {})
        if "always" in rules and self.command != "HEAD":
            return rules["always"], b"always"
        if "login" in rules and self.headers.get(rules.get("login_header", "Authorization")) != rules["login"]:
            return 401, b"who are you?"
        if "moved" in rules and self.path.startswith(rules["moved"]):
            return rules["moved_status"], b"", {"Location": rules["moved_to"]}
        return None

    def _too_bad(self, content: bytes) -> tuple[int, bytes] | None:
        rules = self._rules()
        if len(content) > rules.get("most_bytes", len(content)):
            return 413, b"too large"
        if "bad_text" in rules and rules["bad_text"].encode() in content:
            return rules.get("bad_status", 422), b"bad content"
        return None

    def _taken(self, content: bytes) -> tuple[int, bytes]:
        rules, key = self._rules(), self.headers.get("Idempotency-Key", "")
        if rules.get("keys") and self.names.knows(self._name, key):
            return rules.get("repeat_status", 200), b""
        if not self.path.endswith("/v1/logs"):
            self._keep(content)
            return 200, b'{"ok": true}' if self._name else b""
        request = ExportLogsServiceRequest.FromString(content)
        response = ExportLogsServiceResponse()
        if "partial_text" in rules:
            rejected = _without(request, rules["partial_text"].encode())
            response.partial_success.rejected_log_records = rejected
            response.partial_success.error_message = "a bad text" if rejected else ""
        self._keep(request.SerializeToString())
        return 200, response.SerializeToString()

    def _keep(self, content: bytes) -> None:
        if self._name and content:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = base64.b64encode(content).decode()
            self.names.keep(self._name, {"method": self.command, "path": self.path, "headers": headers, "body": body})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Do not log requests."""


def _without(request: ExportLogsServiceRequest, text: bytes) -> int:
    """Remove the records that contain a text; return their number."""
    rejected = 0
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            kept = [record for record in scope.log_records if text not in record.SerializeToString()]
            rejected += len(scope.log_records) - len(kept)
            del scope.log_records[:]
            scope.log_records.extend(kept)
    return rejected


def main(argv: list[str]) -> None:
    """Serve until the process is terminated."""
    port, directory, *files = argv
    Handler.names = Names(Path(directory))
    server = ThreadingHTTPServer((LOOPBACK, int(port)), Handler)
    server.daemon_threads = True
    if files:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files[:2])
        if len(files) > 2:
            context.load_verify_locations(files[2])
            context.verify_mode = ssl.CERT_REQUIRED
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
