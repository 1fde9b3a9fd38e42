"""The ClickHouse client, its tables and its nets against double rows, at the real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest

from libs.common.errors import ConfigError, Retry
from libs.common.http.authorization import authorization
from libs.common.http.client import Cluster, HttpClient, Tls
from libs.common.rows.types.flows import FLOWS
from libs.local.clickhouse import LocalClickHouse
from services.sinks.frame.table import Names, TableOutcome
from services.sinks.kinds.clickhouse import client as client_module
from services.sinks.kinds.clickhouse import faults, writer
from services.sinks.kinds.clickhouse.client import ClickHouse, InsertRefused
from services.sinks.kinds.clickhouse.places import RowPlaces
from services.sinks.kinds.clickhouse.presence import Presence
from services.sinks.kinds.clickhouse.table import Layout, TableName, layout
from services.sinks.kinds.clickhouse.writer import TableBatch, TableWriter
from tests.certificates import server_tls
from tests.fixtures.servers import serving
from tests.flows import Spot, row, rows, table

pytestmark = pytest.mark.clickhouse
NAMES = Names.of(FLOWS, {})


class World:
    """A table of flows in a real engine, and ways to write to it."""

    def __init__(self, url: str) -> None:
        self.http = HttpClient(Cluster((url,), {}, Tls(), 60.0, 1))
        self.client = ClickHouse(self.http)
        self.layout: Layout = layout(TableName("default", f"flows_{uuid4().hex}"), FLOWS.schema, NAMES, {})
        self.client.execute(self.layout.create)
        self.table = self.layout.name.sql

    def writer(self, insert_rows: int = 8) -> TableWriter:
        """Return a writer as a new process would."""
        return TableWriter(self.client, self.table, Presence(self.client, self.layout.name, NAMES), insert_rows)

    def count(self, what: str = "count()", after: str = "") -> int:
        """Return a number from the table."""
        (row,) = self.client.query(f"SELECT {what} AS n FROM {self.table} {after}")  # noqa: S608
        return int(row["n"])

    def types(self) -> dict[str, str]:
        """Return the columns that the table has."""
        where = f"database = 'default' AND table = '{self.layout.name.table}'"
        return {row["name"]: row["type"] for row in self.client.query(f"SELECT name, type FROM system.columns WHERE {where}")}  # noqa: S608


@pytest.fixture
def world(clickhouse: LocalClickHouse) -> Iterator[World]:
    """Give a fresh table."""
    made = World(clickhouse.url)
    yield made
    made.client.execute(f"DROP TABLE {made.table}")
    made.client.close()


def batch(content: pa.Table, size: int = 4) -> TableBatch:
    """Return rows as a batch of messages of `size` rows."""
    ends = [*range(size, content.num_rows, size), content.num_rows]
    return TableBatch(0, RowPlaces.of(content, FLOWS.position), content.column("time"), content, ends)


def test_codes_are_those_of_the_engine(clickhouse: LocalClickHouse) -> None:
    """Every exception code that is told apart has the name that the engine gives it."""
    with_names = [faults._OF_ROWS, faults._SIGN_IN, faults._RIGHTS, faults._TABLE, faults._SERVER]
    expected = {code: name for names in with_names for code, name in names.items()}
    http = HttpClient(Cluster((clickhouse.url,), {}, Tls(), 60.0, 1))
    numbers = ", ".join(map(str, expected))
    query = f"SELECT number, errorCodeToName(toInt32(number)) AS name FROM numbers(1000) WHERE number IN ({numbers})"  # noqa: S608
    assert {row["number"]: row["name"] for row in ClickHouse(http).query(query)} == expected
    assert len(set.union(*(set(names) for names in with_names), set(faults._PASSING))) == len(expected) + len(faults._PASSING)


def test_a_new_table_is_what_the_row_type_wants(world: World) -> None:
    """The engine makes the table as it is described; a table that lacks columns gets them, with the old rows."""
    assert world.layout.missing(world.types()) == ()
    world.writer().write(batch(table(rows())))
    world.client.execute(f"ALTER TABLE {world.table} DROP COLUMN rule, DROP COLUMN bytes_sent")
    missing = world.layout.missing(world.types())
    assert [column.name for column in missing] == ["bytes_sent", "rule"]
    world.client.execute(world.layout.add(missing))
    assert world.layout.missing(world.types()) == ()
    assert world.count("countIf(rule IS NULL)") == len(rows())


def test_values_are_what_they_were(world: World) -> None:
    """Every value comes back as it was written: times to the nanosecond, null as null."""
    content = table(rows())
    assert world.writer().write(batch(content)) == TableOutcome(len(rows()), 0, [])
    order = ", ".join(NAMES.position)
    word = FLOWS.schema.field("rule").type
    plain = pa.schema([one.with_type(pa.string()) if one.type == word else one for one in content.schema])
    found = world.client.columns(f"SELECT * FROM {world.table} ORDER BY {order}").cast(plain)  # noqa: S608
    by_position = [(name, "ascending") for name in NAMES.position]
    assert found.to_pylist() == content.cast(plain).sort_by(by_position).to_pylist()


def test_a_repeated_insert_changes_nothing(world: World) -> None:
    """The first net is the server's: an insert whose token it knows is dropped, though nobody has asked what is there."""
    content = table(rows())
    for _ in range(2):
        world.client.insert(world.table, content, "a")
    assert world.count() == len(rows())
    world.client.insert(world.table, content, "b")
    assert world.count() == 2 * len(rows())


def test_rows_that_slip_through_are_one_after_a_merge(world: World) -> None:
    """The last net: double rows are one after a merge, and queries that do without FINAL see each once before."""
    content = table(rows())
    world.client.execute(f"SYSTEM STOP MERGES {world.table}")
    for token in ("a", "b"):
        world.client.insert(world.table, content, token)
    assert world.count() == 2 * len(rows())
    position = ", ".join(NAMES.position)
    assert world.count(f"uniqExact(({position}))") == len(rows())
    assert len(world.client.query(f"SELECT src_ip FROM {world.table} LIMIT 1 BY {position}")) == len(rows())  # noqa: S608
    once = f"(SELECT any(bytes_sent) AS bytes FROM {world.table} GROUP BY {position})"  # noqa: S608
    (row,) = world.client.query(f"SELECT sum(bytes) AS bytes FROM {once}")  # noqa: S608
    assert row["bytes"] == sum(one["bytes_sent"] or 0 for one in rows())
    world.client.execute(f"SYSTEM START MERGES {world.table}")
    world.client.execute(f"OPTIMIZE TABLE {world.table} FINAL")
    assert world.count() == len(rows())


def test_a_writer_that_goes_on_asks_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only sources that are new, and rows that came before, cost a query."""
    asked: list[str] = []
    send = world.client._send

    def noted(parameters: dict[str, str], body: bytes) -> bytes:
        asked.append("insert" if "query" in parameters else body.decode()[:6])
        return send(parameters, body)

    monkeypatch.setattr(world.client, "_send", noted)
    going = world.writer(insert_rows=100)
    content = table(rows())
    for start in (0, 12, 24):
        going.write(batch(content.slice(start, 12)))
    assert asked == ["SELECT", "insert", "insert", "insert"]
    asked.clear()
    assert going.write(batch(content)) == TableOutcome(0, len(rows()), [])
    assert asked == ["SELECT"]


def test_what_is_there_is_found_in_other_batches_and_processes(world: World) -> None:
    """A new process that gets other batches of the same rows writes only those that are not there."""
    content = table(rows())
    world.writer().write(batch(content.slice(0, 21)))
    assert world.writer().write(batch(content.slice(3), 5)) == TableOutcome(len(rows()) - 21, 18, [])
    twice = pa.concat_tables([content.slice(0, 10), content.slice(0, 10)]).combine_chunks()
    assert world.writer().write(batch(twice)) == TableOutcome(0, 20, [])
    assert world.count() == len(rows())


@pytest.mark.parametrize("time", [-(2**63) + 1, -(10**15), 10**15, 2**63 - 1])
def test_a_time_that_cannot_be_does_not_hide_what_is_there(world: World, time: int) -> None:
    """A row that is refused for its time changes nothing about its neighbours, which are found in the table."""
    content = rows()
    world.writer().write(batch(table(content)))
    strange = row(Spot(1, 0, 90), time=time)
    for again in ([*content[:5], strange, *content[5:]], [strange], [strange, *content[9:20]]):
        outcome = world.writer(5).write(batch(table(again), 3))
        assert (outcome.written, outcome.already_there) == (0, len(again) - 1)
        assert [again[bad.row] for bad in outcome.refused] == [strange]
    assert world.count() == len(content)


def test_a_repaired_gap_is_filled(world: World) -> None:
    """Rows behind which the table has others, and which it lacks, are written: the table is asked for each."""
    content = table(rows())
    world.writer().write(batch(content))
    world.client.execute(f"ALTER TABLE {world.table} DELETE WHERE record_offset < 1000 SETTINGS mutations_sync = 1")
    gap = len(rows()) - world.count()
    assert gap == 12
    assert world.writer(insert_rows=100).write(batch(content)) == TableOutcome(gap, len(rows()) - gap, [])
    assert world.count() == len(rows())


def test_rows_that_the_table_refuses_are_found(world: World) -> None:
    """A constraint of the operator's costs the rows that break it, and no others."""
    world.client.execute(f"ALTER TABLE {world.table} ADD CONSTRAINT no_ssh CHECK dst_port != 22")
    content = table(rows())
    bad = [number for number, row in enumerate(rows()) if row["dst_port"] == 22]
    written = world.writer(insert_rows=100).write(batch(content))
    assert [one.row for one in written.refused] == bad
    assert written.written == len(rows()) - len(bad) == world.count()
    assert {one.reason for one in written.refused} == {
        "clickhouse refuses the row: VIOLATED_CONSTRAINT (code 469), constraint no_ssh"
    }


def test_a_table_that_refuses_row_after_row_ends_the_sink(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where too many rows are refused it is not the rows that are wrong."""
    monkeypatch.setattr(writer, "MOST_REFUSED", 5)
    world.client.execute(f"ALTER TABLE {world.table} ADD CONSTRAINT nothing CHECK dst_port = 1")
    with pytest.raises(ConfigError, match=r"refuses row after row: .*constraint nothing"):
        world.writer().write(batch(table(rows())))


def test_what_a_view_refuses_is_not_written_twice(world: World) -> None:
    """A view that fails behind the table does not make rows double."""
    target = f"{world.layout.name.table}_view"
    failing = f"SELECT throwIf(dst_port = 22) AS n FROM {world.table}"  # noqa: S608
    world.client.execute(f"CREATE MATERIALIZED VIEW {target} ENGINE = MergeTree ORDER BY n AS {failing}")
    try:
        written = world.writer(insert_rows=100).write(batch(table(rows())))
    finally:
        world.client.execute(f"DROP TABLE {target}")
    position = ", ".join(NAMES.position)
    assert world.count() == world.count(f"uniqExact(({position}))") == written.written
    assert written.written + len(written.refused) == len(rows())


def test_null_is_never_made_a_value(world: World) -> None:
    """A null in a column that has none is refused with the column's name, not written as an empty text."""
    content = table(rows())
    at = content.schema.get_field_index("src_ip")
    nulls = content.set_column(at, "src_ip", pa.nulls(content.num_rows, pa.string()))
    with pytest.raises(InsertRefused, match=r"CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN \(code 349\), column src_ip$"):
        world.client.insert(world.table, nulls, "a")
    assert world.count() == 0


def test_a_batch_of_many_days_is_one_insert(world: World) -> None:
    """A replay of old rows may have more days than a server takes at once by default."""
    days = [row | {"time": day * 86_400_000, "record_offset": day} for day in range(120) for row in rows()[:1]]
    assert world.writer(insert_rows=1_000).write(batch(table(days), 120)) == TableOutcome(120, 0, [])
    assert world.count("uniqExact(toDate(time))") == 120


def test_a_server_without_memory_is_asked_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What passes is a Retry with its kind, and costs no row; afterwards the table is asked what became of the insert."""
    starved = world.writer()
    with monkeypatch.context() as patch:
        for setting in ("max_memory_usage", "max_untracked_memory"):
            patch.setitem(client_module._INSERT, setting, "1")
        with pytest.raises(Retry, match=r"clickhouse: code 241: .*memory limit") as raised:
            starved.write(batch(table(rows())))
    assert raised.value.kind == "memory"
    assert starved.write(batch(table(rows()))).written == len(rows())


def test_an_insert_whose_answer_is_lost_is_not_repeated(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """When an insert succeeded but its answer did not come, the rows come again, cut elsewhere, and each is there once."""
    going, insert = world.writer(), world.client.insert

    def lost(table: str, rows: pa.Table, token: str) -> None:
        insert(table, rows, token)
        raise Retry("it does not answer in time")

    content = table(rows())
    going.write(batch(content.slice(0, 4)))
    with monkeypatch.context() as patch:
        patch.setattr(world.client, "insert", lost)
        with pytest.raises(Retry):
            going.write(batch(content.slice(4), 8))
    assert going.write(batch(content.slice(4), 5)) == TableOutcome(len(rows()) - 12, 8, [])
    assert world.count() == len(rows())


def test_a_table_that_is_not_there_is_named(world: World) -> None:
    """A missing table is the operator's business, and `sink-setup` makes it."""
    with pytest.raises(ConfigError, match="has another table than this sink writes to: run `blobtide sink-setup`"):
        world.client.insert("default.nowhere", table(rows()), "a")


@pytest.mark.parametrize("password", ["se'cret", "wrong"])
def test_the_login_goes_over_tls(password: str, tmp_path: Path) -> None:
    """With a certificate and a password the right one gets in, and the wrong one is named without being quoted."""
    server = LocalClickHouse(tmp_path / "server", login=("writer", "se'cret"), tls=server_tls(tmp_path))
    headers = authorization(basic=("writer", password))
    with serving(server):
        client = ClickHouse(HttpClient(Cluster((server.url,), headers, Tls(ca_file=tmp_path / "ca.pem"), 10.0, 1)))
        if password == "wrong":  # noqa: S105
            with pytest.raises(ConfigError, match=r"does not accept our sign-in: check username and password \(code 516"):
                client.query("SELECT 1 AS n")
        else:
            assert client.query("SELECT 1 AS n") == [{"n": 1}]


def test_rows_are_taken_in_order(world: World) -> None:
    """Rows that do not stand together are written from where they stand."""
    content = table(rows())
    world.client.insert(world.table, content.take(pa.array([1, 3, 5])), "a")
    assert world.writer(100).write(batch(content)) == TableOutcome(len(rows()) - 3, 3, [])
    assert world.count("uniqExact(src_port)", "") == len(np.unique([row["src_port"] for row in rows()]))
