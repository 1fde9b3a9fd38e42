"""The import of saved objects as Kibana and OpenSearch Dashboards document it. Run as a script, by `tests.dashboards`.

The arguments are a port and the ``Authorization`` that requests must have (empty: none). What is imported is kept, by type and
id; ``GET /kept`` returns it. A request without the header against foreign pages, without a file whose name ends in ``.ndjson``,
or with a line that is no saved object, gets 400; an object with a reference to one that is missing is refused, and named.
"""

from __future__ import annotations

import email.parser
import email.policy
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

LOOPBACK = "127.0.0.1"
PREFIX = "/s/team"  # a space of Kibana
NEWEST = {"index-pattern": "7.6.0", "visualization": "7.10.0", "dashboard": "7.9.3"}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    authorization = ""
    kept: dict[str, dict[str, Any]] = {}  # noqa: RUF012 - of the process

    def do_GET(self) -> None:
        """Return what was imported."""
        self._answer(200, self.kept)

    def do_POST(self) -> None:
        """Import a file."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        place = urlsplit(self.path)
        if place.path.removeprefix(PREFIX) != "/api/saved_objects/_import":
            self._answer(404, {"statusCode": 404, "error": "Not Found", "message": "Not Found"})
        elif self.authorization and self.headers.get("Authorization") != self.authorization:
            self._answer(401, {"statusCode": 401, "error": "Unauthorized", "message": "Unauthorized"})
        elif not (self.headers.get("kbn-xsrf") and self.headers.get("osd-xsrf")):
            self._fail("Request must contain a kbn-xsrf header.")
        else:
            self._import(body, overwrite=parse_qs(place.query).get("overwrite") == ["true"])

    def _import(self, body: bytes, *, overwrite: bool) -> None:
        try:
            objects = [json.loads(line) for line in self._file(body).splitlines()]
            for one in objects:
                assert set(one) <= {"type", "id", "attributes", "references", "migrationVersion"}, "unknown member"
                assert one["migrationVersion"] == {one["type"]: NEWEST[one["type"]]}, "belongs to a more recent version"
        except (AssertionError, LookupError, ValueError) as error:
            self._fail(str(error))
            return
        keys = {f"{one['type']}:{one['id']}" for one in objects} | self.kept.keys()
        found = [_error(one, keys, self.kept, overwrite=overwrite) for one in objects]
        errors = [one for one in found if one is not None]
        if not errors:
            self.kept.update({f"{one['type']}:{one['id']}": one for one in objects})
        count = len(objects) - len(errors)
        self._answer(200, {"success": not errors, "successCount": count, **({"errors": errors} if errors else {})})

    def _file(self, body: bytes) -> str:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        (part,) = [one for one in form.iter_parts() if one.get_param("name", header="content-disposition") == "file"]
        assert (part.get_filename() or "").endswith(".ndjson"), "Invalid file extension"
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        return content.decode()

    def _fail(self, message: str) -> None:
        self._answer(400, {"statusCode": 400, "error": "Bad Request", "message": message})

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Do not log requests."""


def _error(one: Any, keys: set[str], kept: dict[str, Any], *, overwrite: bool) -> dict[str, Any] | None:
    about = {"id": one["id"], "type": one["type"]}
    missing = [other for other in one["references"] if f"{other['type']}:{other['id']}" not in keys]
    if missing:
        return {**about, "error": {"type": "missing_references", "references": missing}}
    if f"{one['type']}:{one['id']}" in kept and not overwrite:
        return {**about, "error": {"type": "conflict"}}
    return None


def main(argv: list[str]) -> None:
    """Serve until the process is terminated."""
    port, Handler.authorization = argv
    ThreadingHTTPServer((LOOPBACK, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
