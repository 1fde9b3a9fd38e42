"""Tables of a local Snowflake: statements as another client of it runs them."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from snowflake.connector import connect

from libs.local.ports import LOOPBACK
from libs.local.snowflake import DATABASE, LocalSnowflake


def ask(server: LocalSnowflake, *statements: str) -> list[dict[str, Any]]:
    """Run statements and return the rows of the last, by column in small letters."""
    where = {"account": "test", "host": LOOPBACK, "port": server.port, "protocol": "http"}
    who = {"user": "test", "password": "any", "database": DATABASE, "schema": "PUBLIC"}
    session = {"CLIENT_TELEMETRY_ENABLED": False, "TIMEZONE": "UTC"}
    with closing(connect(**where, **who, network_timeout=30, session_parameters=session)) as connection:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        names = [column.name.lower() for column in cursor.description]
        return [dict(zip(names, map(_plain, row), strict=True)) for row in cursor.fetchall()]


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, bytearray) else value
