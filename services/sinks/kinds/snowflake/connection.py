"""A session of Snowflake: signed in, in UTC, limited in time, and told apart by its query tag."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives import serialization
from snowflake.connector import connect
from snowflake.connector.errors import Error, OperationalError

from libs.common.errors import ConfigError
from libs.common.security.transport import guard_credentials, is_plain
from libs.common.settings.text_file import read_text_file
from services.sinks.kinds.snowflake.patience import GaveUp, Patience, begin
from services.sinks.kinds.snowflake.settings import SnowflakeSettings

KIND: Final = "snowflake"
_CLOSE_SECONDS: Final = 5.0
_NO_DETECTION: Final = "SNOWFLAKE_DISABLE_PLATFORM_DETECTION"

Result = TypeVar("Result")


class Connection:
    """An open session. Every statement is a transaction of its own."""

    def __init__(self, settings: SnowflakeSettings, tag: str, patience: Patience, *, is_strict: bool = True) -> None:
        """Sign in.

        Args:
            settings: whom to sign in, and where.
            tag: what the query history shows for our statements.
            patience: waits for calls.
            is_strict: whether database, schema and warehouse must exist.

        Raises:
            Error: if Snowflake cannot be reached or does not accept our sign-in.
            ConfigError: if a file is missing or credentials would be sent unencrypted.
        """
        given = {**parameters(settings), **_session(settings, tag), "validate_default_parameters": is_strict}
        # It would ask the metadata services of three clouds where it runs, to tell Snowflake.
        os.environ.setdefault(_NO_DETECTION, "true")
        self._patience = patience
        self._seconds = settings.timeout_seconds
        self._files = 0
        self.is_open = True
        self._connection: Any = self._call(lambda: connect(**given))

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows; of one that changes rows, their numbers. Raises `Error`."""
        return self._call(lambda: self._execute(sql))

    def upload(self, content: bytes, place: str) -> str:
        """Put a file to a stage (`place`, quoted) and return its name. Raises `Error`."""
        self._files += 1
        name = f"rows-{self._files}.parquet"
        command = f"PUT file://{name} {place} AUTO_COMPRESS = FALSE OVERWRITE = TRUE"
        self._call(lambda: self._execute(command, file_stream=io.BytesIO(content)))
        return name

    def close(self) -> None:
        """End the session, and with it the temporary table; idempotent."""
        if self.is_open:
            with suppress(Error):
                self._call(self._connection.close, _CLOSE_SECONDS)
        else:  # nobody knows how long it takes to leave what does not respond
            begin(self._connection.close)
        self.is_open = False

    def _execute(self, sql: str, **options: Any) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            rows: list[tuple[Any, ...]] = cursor.execute(sql, **options).fetchall()
            return rows

    def _call(self, do: Callable[[], Result], seconds: float | None = None) -> Result:
        try:
            return self._patience.call(do, self._seconds if seconds is None else seconds)
        except GaveUp as error:
            self.is_open = False
            raise OperationalError(str(error)) from error


def parameters(settings: SnowflakeSettings) -> dict[str, Any]:
    """Return where to connect and as whom. Reads the secrets.

    Raises:
        ConfigError: if a file is missing or unusable, or credentials would be sent unencrypted.
    """
    address = settings.address
    guard_credentials(KIND, [address.geturl()] if is_plain(address.geturl(), "https") else [], settings)
    database, schema, _ = settings.table_path("")
    names = {"database": database, "schema": schema, "role": settings.role, "warehouse": settings.warehouse}
    return {
        "account": settings.account,
        "protocol": address.scheme,
        "host": address.hostname,
        "port": address.port,
        **{name: value.upper() for name, value in names.items() if value is not None},
        **({"user": settings.username} if settings.username is not None else {}),
        **_sign_in(settings),
    }


def _sign_in(settings: SnowflakeSettings) -> dict[str, Any]:
    if settings.private_key_file is not None:
        return {"authenticator": "SNOWFLAKE_JWT", "private_key": _private_key(settings)}
    password = settings.read_password()
    return {"authenticator": "OAUTH", "token": settings.read_token()} if password is None else {"password": password}


def _private_key(settings: SnowflakeSettings) -> bytes:
    """Return the private key in the form that the connector takes. Raises `ConfigError`, which shows nothing of the key."""
    assert settings.private_key_file is not None, "the way to sign in"  # noqa: S101
    passphrase = settings.read_passphrase()
    content = read_text_file(settings.private_key_file, "private_key_file").encode()
    try:
        key = serialization.load_pem_private_key(content, None if passphrase is None else passphrase.encode())
    except (ValueError, TypeError) as error:  # the library's texts say that they do not know either
        needs = "its private_key_passphrase is wrong" if passphrase is not None else "it needs a private_key_passphrase"
        raise ConfigError(f"private_key_file {settings.private_key_file} is no private key in PEM form, or {needs}") from error
    form = (serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form)


def _session(settings: SnowflakeSettings, tag: str) -> dict[str, Any]:
    seconds = max(1, round(settings.timeout_seconds))
    return {
        # Retries end with our patience, so that a call that was left does nothing later on.
        "login_timeout": seconds,
        "network_timeout": seconds,
        "log_imported_packages_in_telemetry": False,
        "session_parameters": {
            "QUERY_TAG": tag,
            "TIMEZONE": "UTC",
            "AUTOCOMMIT": True,
            "STATEMENT_TIMEOUT_IN_SECONDS": seconds,
            "LOCK_TIMEOUT": seconds,
            "CLIENT_TELEMETRY_ENABLED": False,
        },
    }
