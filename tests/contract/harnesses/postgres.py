"""The postgres sink's destination: a table of its own in a real PostgreSQL, made by the sink's own setup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import psycopg
import pyarrow as pa
import pytest
from psycopg.rows import dict_row

from libs.common.rows.row_type import RowType
from libs.common.rows.types.application import APPLICATION
from libs.common.rows.types.flows import FLOWS
from libs.local.postgres import ADMIN, LocalPostgres
from tests.contract.harness import Benchmark, Case, Content, Harness, Row, killed
from tests.contract.peers import Options, Peer, Takes, some_at_a_time
from tests.flows import Spot
from tests.row_samples import position_of, row

MODES = ("id", "position", "daily")
WITHOUT_TLS = {"hosts": ["db"], "tls": False, "username": "u", "password": "p"}
MARKS = pytest.mark.postgres
_OPTIONS: Mapping[str, dict[str, Any]] = {"id": {}, "position": {"key": "position"}, "daily": {"layout": "daily"}}
_END_OF_TIMES_MS = 2**62
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PostgresHarness(Harness):
    """A table."""

    def __init__(self, case: Case, server: LocalPostgres) -> None:
        super().__init__(case)
        self.server = server
        self.table = f"t{uuid4().hex[:20]}"
        self.sink().setup()

    def options(self) -> dict[str, Any]:
        """Give up soon while the server is away, and cut a batch into several transactions."""
        addresses = {"address_columns": "src_ip"} if self.case.row_type is FLOWS and self.case.mode == "position" else {}
        usual = {"hosts": self.server.host, "username": ADMIN, "table": self.table, "timeout_seconds": 10, "insert_rows": 15}
        return {**usual, **addresses, **_OPTIONS[self.case.mode]}

    def read(self) -> Content:
        """Read all rows."""
        found = [_as_row(self.case.row_type, values) for values in self._ask(f"SELECT * FROM {self.table}")]  # noqa: S608
        content = {position_of(self.case.row_type, values): values for values in found}
        assert len(content) == len(found), "a row stands twice"
        return content

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row, with nulls, and with times in microseconds; text has a symbol for NUL."""
        return {position_of(self.case.row_type, one): _as_stored(self.case.row_type, one) for one in rows}

    def weights(self, found: Content) -> int:
        """Count the rows with a weight, which is a column more than the row type has."""
        del found
        return len(self._ask(f"SELECT 1 FROM {self.table} WHERE sample_weight IS NOT NULL"))  # noqa: S608

    def outage(self) -> AbstractContextManager[None]:
        """Kill the server."""
        return killed(self.server)

    @contextmanager
    def refusal(self) -> Iterator[None]:
        """Make the database read-only, as that of a standby is, also for the session that is open."""
        self._ask("ALTER DATABASE postgres SET default_transaction_read_only = on", *_END_SESSIONS)
        try:
            yield
        finally:
            self._ask(
                "SET default_transaction_read_only = off",
                "ALTER DATABASE postgres RESET default_transaction_read_only",
                *_END_SESSIONS,
            )

    def refused(self) -> Row | None:
        """A time that no table has."""
        if self.case.row_type is APPLICATION:  # every time in nanoseconds fits
            return None
        return row(self.case.row_type, Spot(1, 0, 90), **{self.case.row_type.time: _END_OF_TIMES_MS})

    def _ask(self, *statements: str) -> list[dict[str, Any]]:
        port = self.server.port
        with psycopg.connect(host="127.0.0.1", port=port, user=ADMIN, dbname="postgres", autocommit=True) as connection:
            connection.execute("SET timezone = 'UTC'")
            cursor = connection.cursor(row_factory=dict_row)
            for statement in statements:
                cursor.execute(cast("Any", statement))
            return cursor.fetchall() if cursor.description else []


_END_SESSIONS = ("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'blobtide%'",)


def _as_row(row_type: RowType, values: dict[str, Any]) -> dict[str, Any]:
    found = {name: values[name] for name in row_type.names}
    return {name: str(value) if name == "src_ip" else _microseconds(value) for name, value in found.items()}


def _microseconds(value: Any) -> Any:
    return (value - _EPOCH) // timedelta(microseconds=1) if isinstance(value, datetime) else value


def _as_stored(row_type: RowType, values: Row) -> dict[str, Any]:
    units = {field.name: field.type.unit for field in row_type.schema if pa.types.is_timestamp(field.type)}
    return {name: _stored(values[name], units.get(name)) for name in row_type.names}


def _stored(value: Any, unit: str | None) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\u2400")
    if value is None or unit is None:
        return value
    return value * 1_000 if unit == "ms" else value // {"us": 1, "ns": 1_000}[unit]


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give a new table."""
    return PostgresHarness(case, request.getfixturevalue("postgres"))


def _insert(options: Options, rows: Iterable[dict[str, Any]]) -> int:
    host, _, port = options["hosts"].rpartition(":")
    written = 0
    with psycopg.connect(host=host, port=port, user=ADMIN, dbname="postgres") as connection, connection.cursor() as cursor:
        for some in some_at_a_time(rows, 10_000):
            columns, values = ", ".join(some[0]), ", ".join(f"%({name})s" for name in some[0])
            statement = f"INSERT INTO {options['table']} ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING"  # noqa: S608
            cursor.executemany(cast("Any", statement), some)
            written += cursor.rowcount
            connection.commit()
    return written


def _count(server: LocalPostgres, options: Options) -> int:
    with psycopg.connect(host="127.0.0.1", port=server.port, user=ADMIN, dbname="postgres") as connection:
        found = connection.execute(cast("Any", f"SELECT count(*) FROM {options['table']}")).fetchone()  # noqa: S608
    return int(found[0]) if found else 0


BENCHMARK = Benchmark(
    "transactions committed, offsets committed",
    own="table",
    server=LocalPostgres,
    options=lambda server: {"hosts": server.host, "username": ADMIN},
    needs_setup=True,
    count=_count,
    peers=(Peer("psycopg executemany", _insert, Takes.VALUES, options={"key": "position"}),),
)
