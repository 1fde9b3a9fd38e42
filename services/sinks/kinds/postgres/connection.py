"""A connection to the server of a cluster that accepts writes, limited in time.

The server limits statements itself. A server that does not answer at all is left by a timer, which shuts the socket down: a
driver that waits for an answer then finds the connection broken.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psycopg

from libs.common.security.transport import Lack, guard_credentials, note
from services.sinks.kinds.postgres.settings import PostgresSettings, is_local

KIND: Final = "postgres"
_GRACE: Final = 1.2  # the server's own limit should end a statement first: its error says more
_MOST_NAME: Final = 63
_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Red Hat
    "/etc/ssl/ca-bundle.pem",  # SUSE
)


class Connection:
    """An open connection with our session settings. Every statement outside `transaction` is one of its own."""

    def __init__(self, settings: PostgresSettings, application: str) -> None:
        """Connect.

        Raises:
            psycopg.Error: if no server of the cluster can be reached, or none accepts writes or our sign-in.
            ConfigError: if a file is missing or credentials would be sent unencrypted.
        """
        self._seconds = settings.timeout_seconds
        self._connection = psycopg.connect(
            **parameters(settings), application_name=application[:_MOST_NAME], autocommit=True, prepare_threshold=None
        )  # Statements are never prepared: the plan that suits the few rows of one transaction is a bad one for many.
        # Another descriptor of the same connection: closing one does not make it another file's.
        self._socket = socket.socket(fileno=os.dup(self._connection.fileno()))
        try:
            self._prepare_session()
        except BaseException:
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        """Whether it can still be used, as far as is known."""
        return not self._connection.broken and not self._connection.closed

    @property
    def version(self) -> int:
        """The server's version, such as 150004."""
        return self._connection.info.server_version

    def ask(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query. Raises `psycopg.Error`."""
        with self._limited():
            return self._connection.execute(sql, values or None).fetchall()

    def run(self, sql: str) -> int:
        """Run a statement and return the number of rows it changed. Raises `psycopg.Error`."""
        with self._limited():
            return self._connection.execute(sql).rowcount

    def copy(self, sql: str, chunks: Iterator[memoryview | bytes]) -> None:
        """Send data to a COPY. Raises `psycopg.Error`."""
        with self._limited(), self._connection.cursor() as cursor, cursor.copy(sql) as copy:
            for chunk in chunks:
                copy.write(chunk)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is done inside, or nothing. After an error of the connection, it may have been committed."""
        with self._limited(), self._connection.transaction():
            yield

    def close(self) -> None:
        """Close; idempotent."""
        with suppress(psycopg.Error):
            self._connection.close()
        self._socket.close()

    @contextmanager
    def _limited(self) -> Iterator[None]:
        timer = threading.Timer(self._seconds * _GRACE, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _prepare_session(self) -> None:
        milliseconds = max(1, int(self._seconds * 1_000))
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            self.run(f"SET {name} = {milliseconds}")
        self.run("SET timezone = 'UTC'")
        # Offsets move after a commit, which must therefore be on a disk.
        self.ask("SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'")


def parameters(settings: PostgresSettings) -> dict[str, Any]:
    """Return the parameters of a connection. Reads the password and checks files.

    Raises:
        ConfigError: if a file is missing or credentials would be sent unencrypted.
    """
    password = settings.read_password()
    settings.check_files()
    far = [f"{host}:{port}" for host, port in settings.addresses if not is_local(host)]
    if password is not None and not settings.uses_tls:
        guard_credentials(KIND, far, settings)
    if settings.uses_tls and not settings.verify:
        note(KIND, Lack.VERIFICATION)
    hosts, ports = zip(*settings.addresses, strict=True)
    given = {
        "host": ",".join(hosts),
        "port": ",".join(ports),
        "dbname": settings.database,
        "user": settings.username,
        "password": password,
        "connect_timeout": max(1, int(settings.timeout_seconds)),
        "target_session_attrs": "read-write",  # with several hosts, the first that accepts writes; a standby is not one
        "tcp_user_timeout": int(settings.timeout_seconds * 1_000),
        "keepalives_idle": 30,
        "gssencmode": "disable",
        "client_encoding": "utf8",
        **_tls(settings),
    }
    return {name: value for name, value in given.items() if value is not None}


def _tls(settings: PostgresSettings) -> dict[str, str | None]:
    if not settings.uses_tls:
        return {"sslmode": "disable"}
    if not settings.verify:
        return {"sslmode": "require", "sslcert": _path(settings.cert_file), "sslkey": _path(settings.key_file)}
    return {
        "sslmode": "verify-full",
        "sslrootcert": _path(settings.ca_file) or system_authorities(),
        "sslcert": _path(settings.cert_file),
        "sslkey": _path(settings.key_file),
    }


def system_authorities() -> str:
    """Return the file with the authorities that this machine trusts. The driver's own OpenSSL does not know where that is."""
    usual = ssl.get_default_verify_paths().cafile
    candidates = (*((usual,) if usual else ()), *_BUNDLES)
    return next((file for file in candidates if Path(file).is_file()), "system")


def _path(file: object) -> str | None:
    return None if file is None else str(file)
