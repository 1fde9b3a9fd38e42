"""The clickhouse sink's destination: a table of its own in the real engine, made by the sink's own setup."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pyarrow as pa
import pytest
import urllib3

from libs.common.rows.row_type import RowType
from libs.local.clickhouse import LocalClickHouse
from tests.contract.harness import Benchmark, Case, Content, Harness, Row, killed
from tests.contract.peers import Options, Peer, Takes, some_at_a_time
from tests.documents import iso
from tests.flows import Spot
from tests.row_samples import position_of, row, ticks_of

WITHOUT_TLS = {"hosts": ["https://a:8443", "http://b:8123"], "username": "u", "password": "p"}
MARKS = pytest.mark.clickhouse
_DIGITS = {"ms": 3, "us": 6, "ns": 9}
_BEFORE_1900_MS = -2_300_000_000_000


class ClickHouseHarness(Harness):
    """A table."""

    def __init__(self, case: Case, server: LocalClickHouse) -> None:
        super().__init__(case)
        self.server = server
        self.table = f"contract_{uuid4().hex}"
        self.sink().setup()

    def options(self) -> dict[str, Any]:
        """Give up soon while the server is away, and cut a batch into several inserts."""
        return {"hosts": self.server.url, "table": self.table, "timeout_seconds": 10, "insert_rows": 15}

    def read(self) -> Content:
        """Read all rows, each of which stands there once even before a merge."""
        found = self._ask(f"SELECT * FROM {self.table} FORMAT JSONEachRow", date_time_output_format="iso")  # noqa: S608
        rows = [json.loads(line) for line in found.splitlines()]
        content = {position_of(self.case.row_type, values): values for values in rows}
        assert len(content) == len(rows), "a row stands twice"
        return content

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row, with nulls, and with times as text."""
        return {position_of(self.case.row_type, one): _as_json(self.case.row_type, one) for one in rows}

    def outage(self) -> AbstractContextManager[None]:
        """Kill the server."""
        return killed(self.server)

    @contextmanager
    def refusal(self) -> Iterator[None]:
        """Let the server find that the table has too many parts."""
        self._ask(f"ALTER TABLE {self.table} MODIFY SETTING parts_to_delay_insert = 1, parts_to_throw_insert = 1")
        try:
            yield
        finally:
            self._ask(f"ALTER TABLE {self.table} RESET SETTING parts_to_delay_insert, parts_to_throw_insert")

    def refused(self) -> Row:
        """A time that the table's type has not."""
        return row(self.case.row_type, Spot(1, 0, 90), time=ticks_of(self.case.row_type, _BEFORE_1900_MS))

    def _ask(self, sql: str, **settings: str) -> str:
        with urllib3.PoolManager() as http:
            answer = http.request("POST", f"{self.server.url}/?{_parameters(settings)}", body=sql.encode())
        assert answer.status == 200, answer.data
        return answer.data.decode()


def _parameters(settings: dict[str, str]) -> str:
    return "&".join(f"{name}={value}" for name, value in settings.items())


def _as_json(row_type: RowType, values: Row) -> dict[str, Any]:
    times = {field.name: _DIGITS[field.type.unit] for field in row_type.schema if pa.types.is_timestamp(field.type)}
    return {**values, **{name: _time(values[name], digits) for name, digits in times.items()}}


def _time(value: int | None, digits: int) -> str | None:
    return None if value is None else iso(value * 10 ** (9 - digits), digits)


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give a new table."""
    return ClickHouseHarness(case, request.getfixturevalue("clickhouse"))


def _insert(options: Options, rows: Iterable[dict[str, Any]]) -> int:
    import clickhouse_connect

    place = urlsplit(options["hosts"])
    # The local server knows neither compressed bodies nor sessions.
    client = clickhouse_connect.get_client(host=place.hostname, port=place.port, compress=False, autogenerate_session_id=False)
    with closing(client):
        written = 0
        for some in some_at_a_time(rows, 50_000):
            client.insert(options["table"], [list(row.values()) for row in some], column_names=list(some[0]))
            written += len(some)
        return written


def _count(server: LocalClickHouse, options: Options) -> int:
    with urllib3.PoolManager() as http:
        answer = http.request("POST", server.url, body=f"SELECT count() FROM {options['table']}".encode())  # noqa: S608
    return int(answer.data)


BENCHMARK = Benchmark(
    "inserts answered, offsets committed",
    own="table",
    server=LocalClickHouse,
    options=lambda server: {"hosts": server.url},
    needs_setup=True,
    count=_count,
    peers=(Peer("clickhouse-connect insert", _insert, Takes.VALUES),),
)
