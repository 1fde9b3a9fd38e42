"""The queries of docs/how-to/rollups.md, on what the sinks have written to real stores."""

from __future__ import annotations

import json
import random
import re
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
import urllib3
from psycopg.rows import dict_row

from libs.common.rows.types.flows import FLOWS
from libs.common.rows.types.rollups import ROLLUPS
from libs.local.clickhouse import LocalClickHouse
from libs.local.postgres import ADMIN, LocalPostgres
from services.aggregator.flow_rows import FlowRows
from services.aggregator.kernel import roll_up
from services.sinks.frame.contract import Part
from services.sinks.frame.registry import configured_sink
from tests.flows import Spot, row, table
from tests.unit.aggregator.test_kernel import aggregation

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "rollups.md"
QUERIES = re.findall(r"^```sql\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
TOTALS, CLICKHOUSE, POSTGRES = QUERIES
(OWN,) = re.findall(r"`(uniqCombinedArray.*?)`", PAGE.read_text())
MANY = 3_000
WITHIN = 4 * MANY / 1_022**0.5  # four standard errors


def flows() -> pa.Table:
    """Return flows of the current minute: one interface with many peers, and some with few, each in several records."""
    now, dice = int(time.time() * 1_000), random.Random(7)
    common = {"time": now, "direction": "inbound", "state": "begin", "action": "allow", "dst_port": 443, "protocol": 6}
    of_many = [
        row(Spot(0, at // 500, at % 500), **common, src_ip=f"10.9.{at // 250}.{at % 250}", dst_ip="10.0.0.1", bytes_sent=at)
        for at in (dice.randrange(MANY) for _ in range(5 * MANY))
    ]
    of_few = [
        row(Spot(1, at, 0), **common, src_ip=f"10.8.0.{at % 3}", dst_ip=f"10.0.1.{at % 2}", bytes_sent=1_000_000 + at)
        for at in range(12)
    ]
    return table(sorted(of_many, key=lambda flow: flow["record_offset"]) + of_few)


def expected(content: pa.Table) -> dict[str, tuple[int, int, int]]:
    """Return the bytes, flows and peers of each interface."""
    found: dict[str, list[Any]] = defaultdict(lambda: [0, 0, set()])
    for flow in content.to_pylist():
        own = found[flow["dst_ip"]]
        own[0], own[1] = own[0] + flow["bytes_sent"], own[1] + 1
        own[2].add(flow["src_ip"])
    return {address: (size, begun, len(peers)) for address, (size, begun, peers) in found.items()}


def written(kind: str, options: Mapping[str, Any], content: pa.Table) -> None:
    """Write the rollups of flows with a sink, to its usual table."""
    found = roll_up(aggregation(name="network", preset="network"), FlowRows.of([content], FLOWS.names))
    sink = configured_sink({kind: {"rows": "rollups", **options}}, kind).sink
    sink.setup()
    sink.open()
    try:
        rows = pa.Table.from_batches([found.rows])
        assert sink.write([Part(0, ROLLUPS, rows, (rows.num_rows,))]).written == rows.num_rows
    finally:
        sink.close()


def check(totals: list[dict[str, Any]], peers: list[dict[str, Any]], content: pa.Table) -> None:
    """Compare the answers with the flows: sums and few peers exactly, many peers within the error."""
    wanted = expected(content)
    assert {one["local_ip"]: (int(one["bytes"]), int(one["flows"])) for one in totals} == {
        address: (size, begun) for address, (size, begun, _) in wanted.items()
    }
    counts = {one["local_ip"]: float(one["peer_count"]) for one in peers}
    assert abs(counts.pop("10.0.0.1") - wanted.pop("10.0.0.1")[2]) <= WITHIN
    assert counts == {address: count for address, (_, _, count) in wanted.items()}


@pytest.mark.clickhouse
def test_clickhouse_adds_up_rollups_and_merges_their_peers(clickhouse: LocalClickHouse) -> None:
    """Totals are those of the flows, and distinct peers of several rows are counted once."""
    content = flows()
    written("clickhouse", {"hosts": clickhouse.url}, content)

    def ask(query: str) -> list[dict[str, Any]]:
        answer = urllib3.request("POST", clickhouse.url, body=f"{query} FORMAT JSONEachRow".encode())
        assert answer.status == 200, answer.data
        return [json.loads(line) for line in answer.data.splitlines()]

    try:
        check(ask(TOTALS), ask(CLICKHOUSE), content)
        check(ask(TOTALS), ask(f"SELECT local_ip, {OWN} AS peer_count FROM rollups GROUP BY local_ip"), content)  # noqa: S608
    finally:
        urllib3.request("POST", clickhouse.url, body=b"DROP TABLE rollups")


@pytest.mark.postgres
def test_postgres_adds_up_rollups_and_merges_their_peers(postgres: LocalPostgres) -> None:
    """The same holds there."""
    content = flows()
    written("postgres", {"hosts": postgres.host, "username": ADMIN, "tls": False}, content)
    place = {"host": "127.0.0.1", "port": postgres.port, "user": ADMIN, "dbname": "postgres"}
    with psycopg.connect(**place, autocommit=True, row_factory=dict_row) as connection:  # type: ignore[arg-type]
        try:
            check(connection.execute(TOTALS).fetchall(), connection.execute(POSTGRES).fetchall(), content)
        finally:
            connection.execute("DROP TABLE rollups")
