"""The snowflake sink's destination: a table of its own in a Snowflake on DuckDB, made by the sink's own setup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pyarrow as pa
import pytest
from snowflake.connector import connect

from libs.common.rows.row_type import RowType
from libs.common.rows.types.application import APPLICATION
from libs.local.snowflake import LocalSnowflake
from tests.contract.harness import Benchmark, Case, Content, Harness, Row, killed
from tests.contract.peers import Options, Peer, Takes, some_at_a_time
from tests.flows import Spot
from tests.row_samples import position_of, row
from tests.snowflake_tables import ask

WITHOUT_TLS = {"account": "a", "url": "http://snow.example", "database": "d", "username": "u", "password": "p"}
MARKS = pytest.mark.snowflake
_END_OF_TIMES_MS = 2**62
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NANOSECONDS = {"ms": 1_000_000, "us": 1_000, "ns": 1}


class SnowflakeHarness(Harness):
    """A table."""

    def __init__(self, case: Case, server: LocalSnowflake) -> None:
        super().__init__(case)
        self.server = server
        self.table = f"T{uuid4().hex[:20]}"
        self.sink().setup()

    def options(self) -> dict[str, Any]:
        """Give up soon while the server is away."""
        return {**self.server.login, "table": self.table, "timeout_seconds": 10}

    def read(self) -> Content:
        """Read all rows."""
        found = [_as_row(self.case.row_type, values) for values in ask(self.server, f"SELECT * FROM {self.table}")]  # noqa: S608
        content = {position_of(self.case.row_type, values): values for values in found}
        assert len(content) == len(found), "a row stands twice"
        return content

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row, with nulls, and with times in microseconds, which is all that DuckDB has."""
        return {position_of(self.case.row_type, one): _as_stored(self.case.row_type, one) for one in rows}

    def weights(self, found: Content) -> int:
        """Count the rows with a weight, which is a column more than the row type has."""
        del found
        return len(ask(self.server, f"SELECT 1 FROM {self.table} WHERE SAMPLE_WEIGHT IS NOT NULL"))  # noqa: S608

    def outage(self) -> AbstractContextManager[None]:
        """Kill the server."""
        return killed(self.server)

    @contextmanager
    def refusal(self) -> Iterator[None]:
        """Give the table another name."""
        ask(self.server, f"ALTER TABLE {self.table} RENAME TO {self.table}_AWAY")
        try:
            yield
        finally:
            ask(self.server, f"ALTER TABLE {self.table}_AWAY RENAME TO {self.table}")

    def refused(self) -> Row | None:
        """A time that no table has."""
        if self.case.row_type is APPLICATION:  # every time in nanoseconds fits
            return None
        return row(self.case.row_type, Spot(1, 0, 90), **{self.case.row_type.time: _END_OF_TIMES_MS})


def _as_row(row_type: RowType, values: dict[str, Any]) -> dict[str, Any]:
    return {name: _microseconds(values[name]) for name in row_type.names}


def _microseconds(value: Any) -> Any:
    return (value - _EPOCH) // timedelta(microseconds=1) if isinstance(value, datetime) else value


def _as_stored(row_type: RowType, values: Row) -> dict[str, Any]:
    units = {field.name: field.type.unit for field in row_type.schema if pa.types.is_timestamp(field.type)}
    known = {name: values[name] * _NANOSECONDS[unit] // 1_000 for name, unit in units.items() if values[name] is not None}
    return {**{name: values[name] for name in row_type.names}, **known}


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give a new table."""
    return SnowflakeHarness(case, request.getfixturevalue("snowflake"))


def _insert(options: Options, rows: Iterable[dict[str, Any]]) -> int:
    place = urlsplit(options["url"])
    where = {"account": options["account"], "host": place.hostname, "port": place.port, "protocol": "http"}
    who = {"user": options["username"], "password": "any", "database": options["database"], "schema": "PUBLIC"}
    session = {"CLIENT_TELEMETRY_ENABLED": False, "TIMEZONE": "UTC"}
    written = 0
    with closing(connect(**where, **who, session_parameters=session)) as connection:
        for some in some_at_a_time(rows, 1_000):
            columns, values = ", ".join(some[0]), ", ".join(f"%({name})s" for name in some[0])
            connection.cursor().executemany(f"INSERT INTO {options['table']} ({columns}) VALUES ({values})", some)  # noqa: S608
            written += len(some)
    return written


def _count(server: LocalSnowflake, options: Options) -> int:
    (found,) = ask(server, f"SELECT count(*) AS n FROM {options['table']}")  # noqa: S608
    return int(found["n"])


BENCHMARK = Benchmark(
    "loads committed, offsets committed",
    own="table",
    server=LocalSnowflake,
    options=lambda server: {**server.login, "batch": {"seconds": 1}},
    needs_setup=True,
    count=_count,
    peers=(Peer("connector executemany", _insert, Takes.VALUES, rows=5_000),),
)
