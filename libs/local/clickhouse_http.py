"""ClickHouse's HTTP interface around its engine. Run as a script; services do not import it.

The arguments are a port, a data directory and, for TLS, files with a certificate and its key; user and password come from the
environment. Supported requests:

- ``GET /ping``.
- ``POST /?query=...``: the body is the data of an INSERT that ends in ``FORMAT name``, or the rest of the query.
- ``POST /``: the body is the query; the data of an INSERT may follow it, after a line break.
- ``database``, ``default_format`` and settings as additional parameters; the login as ``X-ClickHouse-User`` and
  ``X-ClickHouse-Key``, as basic authentication, or as parameters.
- Errors as from the server: status, ``X-ClickHouse-Exception-Code``, and ``Code: N. DB::Exception: ...`` as the body.

Each request has its own connection to the engine and hence its own settings. Compressed bodies are not supported.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
import ssl
import sys
import tempfile
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

USER: Final = "CLICKHOUSE_USER"
PASSWORD: Final = "CLICKHOUSE_PASSWORD"  # noqa: S105
LOOPBACK: Final = "127.0.0.1"
_OF_HTTP: Final = frozenset({"query", "user", "password", "database", "default_format", "query_id", "wait_end_of_query"})
_SETTING: Final = re.compile(r"[a-z][a-z0-9_]*")
_INSERT: Final = re.compile(r"(?is)\s*INSERT\s+INTO\b.*?(?P<format>\bFORMAT\s+\w+)\s*;?\s*\Z")
_CODE: Final = re.compile(r"Code: (\d+)\.")
# As in the server's exceptionCodeToHTTPStatus; all other codes are 500.
_STATUS: Final = {
    516: HTTPStatus.FORBIDDEN,
    497: HTTPStatus.FORBIDDEN,
    60: HTTPStatus.NOT_FOUND,
    81: HTTPStatus.NOT_FOUND,
    16: HTTPStatus.NOT_FOUND,
    47: HTTPStatus.NOT_FOUND,
    115: HTTPStatus.NOT_FOUND,
    6: HTTPStatus.BAD_REQUEST,
    27: HTTPStatus.BAD_REQUEST,
    62: HTTPStatus.BAD_REQUEST,
    117: HTTPStatus.BAD_REQUEST,
    349: HTTPStatus.BAD_REQUEST,
}


class Failed(Exception):
    """The engine's error, as text."""


class Engine:
    """The engine on one directory; a process has only one."""

    def __init__(self, directory: Path) -> None:
        from chdb.state.sqlitelike import Connection

        directory.mkdir(exist_ok=True)
        self._connect = Connection
        self._directory = str(directory)
        self._open = Connection(self._directory)  # keeps the engine alive between requests

    def run(self, sql: str, parameters: dict[str, str], data: bytes) -> bytes:
        """Run one query with its settings and return its result. Raises `Failed`."""
        insert = _INSERT.fullmatch(sql) if data else None
        if data and insert is None:
            sql = f"{sql}\n{data.decode(errors='replace')}"
        with tempfile.NamedTemporaryFile(dir=self._directory, prefix="body-") as body:
            if insert is not None:
                body.write(data)
                body.flush()
                sql = f"{sql[: insert.start('format')]} FROM INFILE '{body.name}' {insert['format']}"
            return self._run(sql, parameters)

    def _run(self, sql: str, parameters: dict[str, str]) -> bytes:
        connection = self._connect(self._directory)
        try:
            for statement in _settings(parameters):
                connection.query(statement)
            result = connection.query(sql, parameters.get("default_format", "TabSeparated"))
            return bytes(result.bytes() or b"")
        except RuntimeError as error:  # the engine reports everything as this
            raise Failed(str(error)) from error
        finally:
            connection.close()


def _settings(parameters: dict[str, str]) -> list[str]:
    """Return the statements that a request's parameters translate to."""
    statements = [f"USE `{parameters['database']}`"] if "database" in parameters else []
    for name, value in parameters.items():
        if name not in _OF_HTTP:
            if not _SETTING.fullmatch(name):
                raise Failed(f"Code: 115. DB::Exception: Unknown setting '{name}'. (UNKNOWN_SETTING)")
            quoted = value.replace("\\", "\\\\").replace("'", "\\'")
            statements.append(f"SET {name} = '{quoted}'")
    return statements


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    engine: Engine
    login: tuple[str, str]

    def do_GET(self) -> None:
        """Answer a ping or a read-only query."""
        if urlsplit(self.path).path == "/ping":
            self._answer(HTTPStatus.OK, b"Ok.\n")
        else:
            self._query({"readonly": "2"})

    def do_POST(self) -> None:
        """Answer a query."""
        self._query({})

    def _query(self, more: dict[str, str]) -> None:
        body = self._body()
        parameters = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True)) | more
        try:
            self._check_login(parameters)
            sql = parameters.get("query") or ""
            sql, data = (sql, body) if sql else _divided(body)
            result = self.engine.run(sql, parameters, data)
        except Failed as error:
            self._fail(str(error))
        else:
            self._answer(HTTPStatus.OK, result)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return b"".join(chunks)

    def _check_login(self, parameters: dict[str, str]) -> None:
        user, password = self.login
        if not user:
            return
        given = _basic(self.headers.get("Authorization", ""))
        name = self.headers.get("X-ClickHouse-User") or parameters.get("user") or given[0] or "default"
        key = self.headers.get("X-ClickHouse-Key") or parameters.get("password") or given[1]
        if name != user or not hmac.compare_digest(key.encode(), password.encode()):
            reason = "Authentication failed: password is incorrect, or there is no user with such name."
            raise Failed(f"Code: 516. DB::Exception: {name}: {reason} (AUTHENTICATION_FAILED)")

    def _fail(self, text: str) -> None:
        code = int(match[1]) if (match := _CODE.search(text)) else 1001
        headers = {"X-ClickHouse-Exception-Code": str(code)}
        self._answer(_STATUS.get(code, HTTPStatus.INTERNAL_SERVER_ERROR), f"{text}\n".encode(), headers)

    def _answer(self, status: HTTPStatus, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Do not log requests."""


def _divided(body: bytes) -> tuple[str, bytes]:
    """Return the query that a body begins with, and the data behind it."""
    first, _, data = body.partition(b"\n")
    sql = first.decode(errors="replace")
    return (sql, data) if _INSERT.fullmatch(sql) else (body.decode(errors="replace"), b"")


def _basic(header: str) -> tuple[str, str]:
    kind, _, value = header.partition(" ")
    if kind != "Basic":
        return "", ""
    user, _, password = base64.b64decode(value).decode().partition(":")
    return user, password


def main(argv: list[str]) -> None:
    """Serve until the process is terminated."""
    port, directory, *files = argv
    Handler.login = os.environ.get(USER, ""), os.environ.get(PASSWORD, "")
    Handler.engine = Engine(Path(directory))
    server = ThreadingHTTPServer((LOOPBACK, int(port)), Handler)
    server.daemon_threads = True
    if files:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
