"""The influxdb sink's destinations: a database in a real InfluxDB 1, VictoriaMetrics, and a stand-in for version 3.

VictoriaMetrics keeps numbers only, with milliseconds, and keeps a repeated point twice: there the numbers of each series are
compared, and how often each is there is not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pyarrow as pa
import pytest
import urllib3

from libs.common.rows.types.application import APPLICATION
from libs.local.influxdb import LocalInfluxDB
from libs.local.victoria_metrics import LocalVictoriaMetrics
from tests.contract.harness import Benchmark, Case, Content, Harness, Row, killed
from tests.contract.peers import Options, Peer, some_at_a_time
from tests.fakes.line_server import LineServer, Reply
from tests.flows import Spot
from tests.line_protocol import as_point
from tests.row_samples import position_of, row, ticks_of

MODES = ("v1", "v2", "v3")
WITHOUT_TLS = {"hosts": ["https://a:8086", "http://b:8086"], "token": "t"}
MARKS = (pytest.mark.influxdb, pytest.mark.victoria_metrics)
_NANOSECONDS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_AFTER_2262_MS = 10**14


class InfluxHarness(Harness):
    """What the versions have in common."""

    def __init__(self, case: Case, url: str) -> None:
        super().__init__(case)
        self.url = url
        self.name = f"contract_{uuid4().hex}"
        self.sink().setup()

    @property
    def overwrites(self) -> bool:
        """A point that is written again replaces itself."""
        return True

    def options(self) -> dict[str, Any]:
        """Give up soon while the server is away, and make several requests of a write."""
        return {"hosts": self.url, "api": self.case.mode, "database": self.name, "timeout_seconds": 5, "lines": 10}

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row, with its time in milliseconds."""
        row_type = self.case.row_type
        a_millisecond = ticks_of(row_type, 1)
        return {position_of(row_type, one): (one[row_type.time] // a_millisecond, *self.point(one)) for one in rows}

    def refused(self) -> Row | None:
        """A time that no point has."""
        if self.case.row_type is APPLICATION:  # every time in nanoseconds fits
            return None
        return row(self.case.row_type, Spot(1, 0, 90), time=_AFTER_2262_MS)

    def point(self, values: Row) -> tuple[dict[str, str], dict[str, Any]]:
        """Return the tags and fields of a row."""
        schema = self.case.row_type.schema
        times = {one.name: _NANOSECONDS[one.type.unit] for one in schema if pa.types.is_timestamp(one.type)}
        time = self.case.row_type.time
        others = {name: value for name, value in values.items() if name != time}
        if times[time] == 1:
            others["time_ns"] = values[time]  # of which the time of the point has only the milliseconds
        return as_point(others, self.tags, times)

    @property
    def tags(self) -> set[str]:
        """The default tags."""
        position = set(self.case.row_type.position.names) | {"blob", "generation"}
        return {one.name for one in self.case.row_type.schema if pa.types.is_dictionary(one.type)} - position


class FirstVersion(InfluxHarness):
    """A database of InfluxDB 1."""

    def __init__(self, case: Case, server: LocalInfluxDB) -> None:
        self.server = server
        super().__init__(case, server.url)

    def read(self) -> Content:
        """Read all points."""
        (result,) = self._ask(f'SELECT * FROM "{self.case.row_type.name}"')["results"]  # noqa: S608
        (series,) = result.get("series", [{"columns": [], "values": []}])
        content: Content = {}
        for values in series["values"]:
            point = {name: value for name, value in zip(series["columns"], values, strict=True) if value is not None}
            time = point.pop("time") // 1_000_000
            tags = {name: point.pop(name) for name in self.tags & set(point)}
            position = position_of(self.case.row_type, point)
            assert position not in content, "a row is there twice"
            content[position] = (time, tags, point)
        return content

    def outage(self) -> AbstractContextManager[None]:
        """Kill the server."""
        return killed(self.server)

    @contextmanager
    def refusal(self) -> Iterator[None]:
        """Drop the database."""
        self._ask(f'DROP DATABASE "{self.name}"')
        try:
            yield
        finally:
            self.sink().setup()

    def _ask(self, query: str) -> Any:
        with urllib3.PoolManager() as http:
            fields = {"db": self.name, "epoch": "ns", "q": query}
            answer = http.request_encode_url("POST", f"{self.url}/query", fields=fields)
        assert answer.status == 200, answer.data
        return answer.json()


class Victoria(InfluxHarness):
    """Series of VictoriaMetrics, told apart by their measurement."""

    def __init__(self, case: Case, server: LocalVictoriaMetrics) -> None:
        self.server = server
        super().__init__(case, server.url)

    def options(self) -> dict[str, Any]:
        """Say that it replaces nothing."""
        return {**super().options(), "overwrites": False, "measurement": self.name}

    def read(self) -> Content:
        """Read the numbers of all series."""
        content: Content = {}
        for name, series in self._series():
            if name in self._numbers:
                labels = tuple(sorted(series["metric"].items()))
                content |= {
                    (name, labels, at, value): 1 for at, value in zip(series["timestamps"], series["values"], strict=True)
                }
        return content

    def weights(self, found: Content) -> int:
        """Count the numbers of the series of weights."""
        del found
        return sum(len(series["values"]) for name, series in self._series() if name == "sample_weight")

    def _series(self) -> Iterator[tuple[str, Any]]:
        with urllib3.PoolManager() as http:
            http.request("GET", f"{self.url}/internal/force_flush")
            fields = {"match[]": f'{{__name__=~"{self.name}_.*"}}'}
            answer = http.request_encode_url("GET", f"{self.url}/api/v1/export", fields=fields)
        for series in map(json.loads, answer.data.splitlines()):
            series["metric"].pop("db", None)
            yield series["metric"].pop("__name__").removeprefix(f"{self.name}_"), series

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every number of every row."""
        content: Content = {}
        for one in rows:
            tags, fields = self.point(one)
            labels, at = tuple(sorted(tags.items())), one[self.case.row_type.time]
            content |= {(name, labels, at, fields[name]): 1 for name in self._numbers & set(fields)}
        return content

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Stop the server: killed, it would lose what it acknowledged in the last seconds."""
        self.server.stop()
        try:
            yield
        finally:
            self.server.start()

    @property
    def _numbers(self) -> set[str]:
        return {one.name for one in self.case.row_type.schema if pa.types.is_integer(one.type)}


class ThirdVersion(InfluxHarness):
    """A stand-in for InfluxDB 3."""

    def __init__(self, case: Case, server: LineServer) -> None:
        self.server = server
        super().__init__(case, server.url)

    def read(self) -> Content:
        """Return all points."""
        return {
            position_of(self.case.row_type, point.fields): (point.time // 1_000_000, dict(point.tags), dict(point.fields))
            for point in self.server.points.values()
        }

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Break every connection."""
        self.server.is_down = True
        try:
            yield
        finally:
            self.server.is_down = False

    @contextmanager
    def refusal(self) -> Iterator[None]:
        """Say that the database is missing."""
        self.server.always = Reply(404, {"error": "database not found"})
        try:
            yield
        finally:
            self.server.always = None


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give a database or a measurement of its own."""
    if case.mode == "v1":
        return FirstVersion(case, request.getfixturevalue("influxdb"))
    if case.mode == "v2":
        return Victoria(case, request.getfixturevalue("victoria_metrics"))
    stack = ExitStack()
    request.addfinalizer(stack.close)
    return ThirdVersion(case, stack.enter_context(LineServer()))


def _write_points(options: Options, rows: Iterable[dict[str, Any]]) -> int:
    from influxdb import InfluxDBClient

    place = urlsplit(options["hosts"])
    with closing(InfluxDBClient(place.hostname, place.port, database=options["database"], gzip=True)) as client:
        return sum(
            len(some)
            for some in some_at_a_time(rows, 5_000)
            if client.write_points([_peer_point(row, number) for number, row in enumerate(some)])
        )


def _peer_point(row: dict[str, Any], number: int) -> dict[str, Any]:
    """Return a row as the library takes it, with a time of its own: another point of its time and tags would replace it."""
    at = int(datetime.fromisoformat(row["time"]).timestamp() * 1_000) * 1_000_000 + number
    tags = {name: row[name] for name in _PEER_TAGS if name in row}
    fields = {name: value for name, value in row.items() if name not in _PEER_TAGS and name != "time"}
    return {"measurement": "flows", "tags": tags, "time": at, "fields": fields}


_PEER_TAGS = ("direction", "action", "state", "encryption", "rule", "acl_id", "mac", "category", "flow_log_id", "target_id")


def _count(server: LocalInfluxDB, options: Options) -> int:
    with urllib3.PoolManager() as http:
        fields = {"db": options["database"], "q": "SELECT count(tuple_index) FROM flows"}
        (result,) = http.request_encode_url("POST", f"{server.url}/query", fields=fields).json()["results"]
    return int(result["series"][0]["values"][0][1]) if "series" in result else 0


BENCHMARK = Benchmark(
    "writes answered, offsets committed",
    own="database",
    server=LocalInfluxDB,
    options=lambda server: {"hosts": server.url, "api": "v1"},
    needs_setup=True,
    count=_count,
    peers=(Peer("write_points", _write_points),),
)
