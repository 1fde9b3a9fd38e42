"""The sqlite sink: its table, its readers and other writers, and what it does with trouble."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from libs.common.errors import CodecError, ConfigError, Retry
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.row_type import RowType
from libs.common.rows.types.flows import FLOWS
from services.sinks.frame.contract import Outcome
from services.sinks.kinds.sqlite import sink as sink_module
from services.sinks.kinds.sqlite.sink import SqliteSettings, SqliteSink
from tests.contract.harness import full_disk
from tests.flows import START_MS, Spot, part, row, rows
from tests.table_rows import EVERYTHING, LATEST, everything, latest
from tests.table_rows import part as part_of

_DAY = 86_400


class World:
    """A file, and a clock that stands at the time of the rows."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "data" / "rows.db"
        self.now = START_MS / 1_000

    def sink(self, row_type: RowType = FLOWS, **options: Any) -> SqliteSink:
        """Build a sink; not opened."""
        return SqliteSink(SqliteSettings.model_validate({"file": self.file, **options}), row_type, lambda: self.now)

    @contextmanager
    def opened(self, row_type: RowType = FLOWS, **options: Any) -> Iterator[SqliteSink]:
        """Open a sink."""
        sink = self.sink(row_type, **options)
        sink.open()
        with closing(sink):
            yield sink

    def ask(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement as another program would."""
        with closing(sqlite3.connect(self.file, isolation_level=None)) as database:
            return database.execute(sql, values).fetchall()

    def count(self) -> int:
        """Return the number of rows."""
        return int(self.ask("SELECT count(*) FROM flows")[0][0])


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Give a place for a file."""
    return World(tmp_path)


def test_the_table_is_made_at_the_start_and_gets_what_is_new(world: World) -> None:
    """A start creates file and table, and one with more columns adds these; setup says the same."""
    with capture_logs() as logs, world.opened(columns=["time", "src_ip"]) as sink:
        assert sink.write([part(0, rows()[:5])]) == Outcome(5)
    assert [entry["done"] for entry in logs] == [f"created the table flows with 6 columns in {world.file}"]
    assert stat.S_IMODE(world.file.stat().st_mode) == 0o600
    more = world.sink(columns=["time", "src_ip", "rule"])
    assert more.setup() == f"added to the table flows in {world.file}: rule"
    assert more.setup() == f"the table flows in {world.file} has all columns"
    with world.opened(columns=["time", "src_ip", "rule"]) as sink:
        assert sink.write([part(0, rows())]) == Outcome(len(rows()) - 5, 5)
    assert world.ask("SELECT count(*) FROM flows WHERE rule IS NULL") == [(5,)]


def test_every_type_is_stored_and_read_back(world: World) -> None:
    """Values of every type come back; times are text as SQLite's own functions write it."""
    content = everything(largest=2**63 - 1)
    with world.opened(EVERYTHING) as sink:
        assert sink.write([part_of(EVERYTHING, content)]) == Outcome(len(content))
    names = [name for name in EVERYTHING.names if name not in {"time", "second", "nanosecond"}]
    columns = ", ".join(f'"{name}"' for name in names)
    found = world.ask(f"SELECT {columns} FROM everything ORDER BY time")  # noqa: S608
    assert found == [tuple(one[name] for name in names) for one in content]
    assert world.ask("SELECT time, second, nanosecond FROM everything ORDER BY time LIMIT 2") == [
        ("2026-05-01 12:00:00.000000", "1970-01-01 00:00:00", "2026-05-01 12:00:00.123456700"),
        ("2026-05-01 12:00:00.000001", "1969-12-31 23:59:59", "1969-12-31 23:59:59.999999999"),
    ]


def test_times_compare_with_those_of_sqlite(world: World) -> None:
    """A range of time may be asked for by SQLite's functions, and is found by the index."""
    with world.opened() as sink:
        sink.write([part(0, rows())])
    since = "SELECT count(*) FROM flows WHERE time >= datetime('2026-05-01 12:03', '-2 minutes')"
    assert world.ask(since) == [(sum(one["time"] >= START_MS + 60_000 for one in rows()),)]
    assert "flows_time" in world.ask(f"EXPLAIN QUERY PLAN {since}")[0][-1]


def test_values_that_sqlite_has_not_are_dead_letters(world: World) -> None:
    """A number above 63 bits and a time beyond the years of four digits are refused by name."""
    content = everything(largest=2**63 - 1)
    content[1] |= {"u64": 2**63}
    content[2] |= {"time": 2**62}
    with world.opened(EVERYTHING) as sink:
        outcome = sink.write([part_of(EVERYTHING, content)])
    assert [(bad.row, bad.code) for bad in outcome.rejected] == [(1, ErrorCode.REFUSED), (2, ErrorCode.REFUSED)]
    assert ["u64" in bad.reason for bad in outcome.rejected] == [True, False]
    assert outcome.written == 2


def test_only_the_newest_row_of_a_key_stays(world: World) -> None:
    """Of rows with one key the newest wins, whatever the order, also where a part of the key is null."""
    with world.opened(LATEST) as sink:
        sink.write([part_of(LATEST, [latest(1, "a", None, 1, 1), latest(3, "a", None, 3, 3), latest(2, "a", None, 2, 2)])])
        assert sink.write([part_of(LATEST, [latest(2, "a", None, 2, 2), latest(1, "a", "", 1, 1)])]) == Outcome(1, 1)
    assert world.ask("SELECT name, place, value FROM latest ORDER BY value") == [("a", "", 1), ("a", None, 3)]


def test_rows_that_a_rule_refuses_are_found(world: World) -> None:
    """A rule of the operator's makes exactly its rows dead letters; too many of them stop the sink."""
    world.sink().setup()
    world.ask("CREATE TRIGGER own BEFORE INSERT ON flows WHEN NEW.dst_port = 22 BEGIN SELECT RAISE(ABORT, 'no'); END")
    with world.opened() as sink:
        outcome = sink.write([part(0, rows())])
        assert {bad.row for bad in outcome.rejected} == {at for at, one in enumerate(rows()) if one["dst_port"] == 22}
        assert {bad.reason for bad in outcome.rejected} == {"sqlite refuses the row: SQLITE_CONSTRAINT_TRIGGER"}
        assert outcome.written == len(rows()) - len(outcome.rejected)
        many = [row(Spot(1, 1, at), dst_port=22) for at in range(sink_module.MOST_REFUSED + 1)]
        with pytest.raises(ConfigError, match="refuses row after row"):
            sink.write([part(0, many)])


def test_a_reader_sees_what_was_there_and_is_not_waited_for(world: World) -> None:
    """A long query keeps no write waiting, and sees one state of the table until it ends."""
    with world.opened() as sink:
        sink.write([part(0, rows()[:5])])
        with closing(sqlite3.connect(f"file:{world.file}?mode=ro", uri=True, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM flows").fetchone() == (5,)
            assert sink.write([part(0, rows())]) == Outcome(len(rows()) - 5, 5)
            assert reader.execute("SELECT count(*) FROM flows").fetchone() == (5,)
            reader.execute("COMMIT")
            assert reader.execute("SELECT count(*) FROM flows").fetchone() == (len(rows()),)


def test_workers_take_turns(world: World) -> None:
    """Two workers share the file; while one is in a transaction for long the other says so, and then goes on."""
    with world.opened() as first, world.opened(wait_seconds=0.1) as second:
        first.write([part(0, rows()[:10])])
        assert second.write([part(1, rows()[:20])]) == Outcome(10, 10)
        with closing(sqlite3.connect(world.file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Retry, match="is being written by another process") as raised:
                second.write([part(1, rows())])
            other.execute("ROLLBACK")
        assert raised.value.kind == "busy"
        assert second.write([part(1, rows())]) == Outcome(len(rows()) - 20, 20)


def test_a_start_waits_for_nobody(world: World) -> None:
    """A worker that starts while another writes opens the file with its first write."""
    world.sink().setup()
    with closing(sqlite3.connect(world.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with world.opened(wait_seconds=0.1) as sink:
            other.execute("ROLLBACK")
            assert sink.write([part(0, rows())]) == Outcome(len(rows()))


def test_a_full_disk_is_waited_for(world: World) -> None:
    """What does not fit is a retry with the reason, and nothing of it is there; afterwards all of it is."""
    content = [row(Spot(1, at, 0), rule="x" * 2_000) for at in range(200)]
    with world.opened() as sink:
        with full_disk(), pytest.raises(Retry, match=r"cannot write to .*rows.db: ") as raised:
            sink.write([part(0, content)])
        assert raised.value.kind == "disk"
        assert world.count() == 0
        assert sink.write([part(0, content)]) == Outcome(len(content))


def test_old_rows_go_step_by_step_and_their_space_is_given_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows beyond the retention are deleted in steps between polls, and the file shrinks."""
    monkeypatch.setattr(sink_module, "EXPIRE_ROWS", 100)
    old = [row(Spot(50, at, 0), time=START_MS - 3 * _DAY * 1_000, rule="x" * 1_000) for at in range(250)]
    with world.opened(retention_days=2) as sink:
        sink.write([part(0, [*old, *rows()])])
        world.ask("PRAGMA wal_checkpoint(TRUNCATE)")
        before, counts = world.file.stat().st_size, []
        for _ in range(4):
            sink.tick()
            counts.append(world.count() - len(rows()))
        assert counts == [150, 50, 0, 0]
        world.ask("PRAGMA wal_checkpoint(TRUNCATE)")
        assert world.file.stat().st_size < before / 2
        world.now += 3 * _DAY
        sink.tick()
        assert world.count() == 0


def test_without_retention_everything_stays(world: World) -> None:
    """Nothing is deleted unless it is asked for."""
    with world.opened() as sink:
        sink.write([part(0, [row(Spot(1, 0, 0), time=0)])])
        world.now += 4_000 * _DAY
        sink.tick()
    assert world.count() == 1


def test_trouble_with_retention_is_said_and_passes(world: World) -> None:
    """While another process writes, old rows wait; a later hour deletes them."""
    with world.opened(retention_days=1, wait_seconds=0.1) as sink:
        sink.write([part(0, [row(Spot(1, 0, 0), time=0)])])
        with closing(sqlite3.connect(world.file, isolation_level=None)) as other, capture_logs() as logs:
            other.execute("BEGIN IMMEDIATE")
            sink.tick()
        assert [entry["event"] for entry in logs] == ["old rows will be deleted later"]
        world.now += 3_601
        sink.tick()
    assert world.count() == 0


@pytest.mark.parametrize(
    ("made", "text"),
    [
        ("CREATE TABLE flows (time TEXT, src_ip TEXT)", "has no column blob, generation, record_offset, tuple_index"),
        (
            "CREATE TABLE flows (time TEXT, blob TEXT, generation TEXT, record_offset INTEGER, tuple_index INTEGER)",
            "nothing keeps .* unique in the table flows",
        ),
    ],
)
def test_a_table_that_tells_no_rows_apart_is_refused(made: str, text: str, world: World) -> None:
    """A table of somebody else's with the same name is left as it is, but for new columns."""
    world.file.parent.mkdir()
    world.ask(made)
    with pytest.raises(ConfigError, match=text):
        world.sink().open()


def test_a_file_that_is_no_database_is_named(world: World) -> None:
    """Another file is not touched."""
    world.file.parent.mkdir()
    world.file.write_text("a diary, " * 1_000)
    with pytest.raises(CodecError, match="is damaged, or is no SQLite file"):
        world.sink().open()
    assert world.file.read_text().startswith("a diary")


def test_a_place_that_cannot_be_written_is_named(world: World) -> None:
    """A directory cannot be the file."""
    world.file.mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"file: cannot write to .*rows.db"):
        world.sink().open()


def test_names_that_differ_in_case_are_refused(world: World) -> None:
    """SQLite takes them for one."""
    with pytest.raises(ConfigError, match="sqlite takes RULE and rule for one name"):
        world.sink(rename={"state": "RULE", "rule": "rule"})
    with pytest.raises(ValidationError):
        SqliteSettings.model_validate({"file": "x", "table": 'a"b'})


def test_several_sinks_share_a_file(world: World) -> None:
    """Each has a table of its own."""
    with world.opened() as one, world.opened(table="denied") as other:
        assert one.write([part(0, rows())]) == other.write([part(0, rows())]) == Outcome(len(rows()))
    assert world.ask("SELECT (SELECT count(*) FROM flows) = (SELECT count(*) FROM denied)") == [(1,)]
