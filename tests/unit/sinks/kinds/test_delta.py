"""The delta sink in a directory: what is committed when, how often, and what readers find."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from click.testing import CliRunner
from deltalake import DeltaTable
from pydantic import ValidationError

from libs.common.errors import CodecError, ConfigError, Retry
from libs.common.messages.dead_letters import ErrorCode
from libs.common.process.crash import CRASH_VARIABLE
from libs.common.rows.row_type import RowType
from libs.common.rows.types.flows import FLOWS
from services.cli.main import blobtide
from services.sinks.frame.contract import Outcome
from services.sinks.kinds.delta.place import options_of
from services.sinks.kinds.delta.settings import DeltaSettings
from services.sinks.kinds.delta.sink import DeltaSink
from tests.contract.writer import WriterPlan
from tests.delta_log import rows_of, state, tables
from tests.flows import START_MS, Spot, part, row, rows
from tests.row_samples import by_position
from tests.table_rows import EVERYTHING, everything
from tests.table_rows import part as part_of

ROOT = Path(__file__).parents[4]
_DAY_MS = 86_400_000


class World:
    """Directories, and a clock that stands at the time of the rows."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "state"
        self.table = directory / "table"
        self.now = START_MS / 1_000

    def sink(self, row_type: RowType = FLOWS, **options: Any) -> DeltaSink:
        """Build a sink; not opened."""
        given = {"directory": self.directory, "table": str(self.table), **options}
        return DeltaSink(DeltaSettings.model_validate(given), row_type, lambda: self.now)

    @contextmanager
    def opened(self, row_type: RowType = FLOWS, **options: Any) -> Iterator[DeltaSink]:
        """Set up and open a sink."""
        sink = self.sink(row_type, **options)
        sink.setup()
        sink.open()
        with closing(sink):
            yield sink

    def count(self) -> int:
        """Return the number of rows that readers see."""
        found = rows_of(self.table)
        return found.num_rows if found is not None else 0


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Give places for a table and its state."""
    return World(tmp_path)


def test_setup_creates_the_table_once_and_adds_what_is_new(world: World) -> None:
    """The first setup creates, the second finds nothing to do, and one with more columns adds these."""
    few = world.sink(columns=["time", "src_ip"])
    assert few.setup() == f"created the table {world.table} with 3 columns"
    assert few.setup() == f"the table {world.table} has all columns"
    more = world.sink(columns=["time", "src_ip", "rule"])
    with pytest.raises(ConfigError, match="has no column rule: run `blobtide sink-setup`"):
        more.open()
    assert more.setup() == f"added to the table {world.table}: rule"
    found = state(world.table)
    assert [(one["name"], one["type"], one["nullable"]) for one in found.columns] == [
        ("time", "timestamp", False),
        ("src_ip", "string", False),
        ("day", "date", True),
        ("rule", "string", True),
    ]
    assert found.columns[0]["metadata"]["comment"] == "when the flow was seen; NSG: whole seconds"
    assert found.partitions == ["day"]


def test_old_rows_have_nulls_in_new_columns(world: World) -> None:
    """What was committed before a column came, and what waited for its commit then, is read with the rest."""
    with world.opened(columns=["time", "src_ip"]) as sink:
        sink.write([part(0, rows()[:5])])
    with world.opened(columns=["time", "src_ip"], flush_on_close=False) as sink:
        sink.write([part(0, rows()[:10])])
    with world.opened(columns=["time", "src_ip", "rule"]) as sink:
        sink.write([part(0, rows())])
    read = DeltaTable(world.table).to_pyarrow_table().column("rule")
    assert (len(read), read.null_count) == (len(rows()), 5)


def test_a_start_without_a_table_says_what_to_do(world: World) -> None:
    """Without its table a sink does not start, and maintenance does nothing."""
    for start in (world.sink().open, world.sink().maintain):
        with pytest.raises(ConfigError, match=r"there is no table at .*: run `blobtide sink-setup`"):
            start()


def test_rows_wait_for_their_commit(world: World) -> None:
    """Rows are durable at once, and in the table when it is time: a commit for many writes, not for each."""
    with world.opened(commit_seconds=60) as sink:
        for at in range(0, len(rows()), 6):
            assert sink.write([part(0, rows()[at : at + 6])]) == Outcome(6)
            sink.tick()
        assert world.count() == 0
        world.now += 60
        sink.tick()
        assert world.count() == len(rows())
        assert state(world.table).commits == 2  # the first one made the table


def test_a_stop_commits_what_waits(world: World) -> None:
    """Closing or releasing a shard commits its rows, unless that is not wanted: then the next start does in time."""
    with world.opened() as sink:
        sink.write([part(0, rows()[:10]), part(1, rows()[10:20])])
        sink.release({1})
        assert world.count() == 10
    assert world.count() == 20
    with world.opened(flush_on_close=False) as sink:
        sink.write([part(0, rows()[:10] + rows()[20:])])
    assert world.count() == 20
    world.now += 61
    with world.opened():
        pass
    assert world.count() == len(rows())


def test_each_day_is_a_partition_of_its_own(world: World) -> None:
    """Rows of several days are one commit with a file each; days that nobody knows have no day."""
    content = [row(Spot(1, 0, at), time=START_MS + at * _DAY_MS) for at in range(3)]
    with world.opened() as sink:
        sink.write([part(0, content)])
    found = state(world.table)
    assert found.commits == 2
    assert sorted(add["partitionValues"]["day"] for add in found.files.values()) == ["2026-05-01", "2026-05-02", "2026-05-03"]
    assert all(path.startswith(f"day={add['partitionValues']['day']}/part-00000-") for path, add in found.files.items())


def test_times_that_no_reader_knows_are_dead_letters(world: World) -> None:
    """Years beyond 9999 are refused by name, before they are counted among the positions."""
    content = [row(Spot(1, 0, 0)), row(Spot(1, 0, 1), time=2**50), row(Spot(1, 0, 2))]
    with world.opened() as sink:
        for written, known in ((2, 0), (0, 2)):
            outcome = sink.write([part(0, content)])
            assert (outcome.written, outcome.already_there) == (written, known)
            assert [(bad.row, bad.code) for bad in outcome.rejected] == [(1, ErrorCode.REFUSED)]


def test_every_type_is_stored_and_read_back(world: World) -> None:
    """Values of every type come back; unsigned ones have the next larger type, nanoseconds are cut off."""
    with world.opened(EVERYTHING) as sink:
        sink.write([part_of(EVERYTHING, everything())])
    read = DeltaTable(world.table).to_pyarrow_table().sort_by("time")
    assert [str(read.schema.field(name).type) for name in ("u8", "u16", "u32", "u64", "nanosecond")] == [
        *("int16", "int32", "int64", "decimal128(20, 0)"),
        "timestamp[us, tz=UTC]",
    ]
    content = everything()
    for name in ("i8", "i64", "u8", "u16", "u32", "u64", "flag", "f32", "f64", "text", "word", "content"):
        assert read.column(name).to_pylist() == [one[name] for one in content], name
    nanoseconds = [one["nanosecond"] for one in content]
    cut = [None if value is None else abs(value) // 1_000 * (1 if value > 0 else -1) for value in nanoseconds]
    assert read.column("nanosecond").cast(pa.int64()).to_pylist() == cut


def test_the_log_describes_what_is_in_a_file(world: World) -> None:
    """Numbers of rows and nulls are exact, and no value lies outside its bounds."""
    long = [row(Spot(1, 0, at), rule="a" * at + "\U0001f40c" * 40) for at in range(5)]
    with world.opened() as sink:
        sink.write([part(0, [*rows(), *long])])
    for found, add in tables(world.table):
        stats = json.loads(add["stats"])
        assert stats["numRecords"] == found.num_rows
        for name, nulls in stats["nullCount"].items():
            assert found.column(name).null_count == nulls
        for name in ("src_port", "record_offset", "src_ip", "rule"):
            values = found.column(name).drop_null().to_pylist()
            assert stats["minValues"][name] <= min(values)
            assert max(values) <= stats["maxValues"][name]
        assert stats["minValues"]["time"] == "2026-05-01T12:00:00.000000Z"
        assert "target_id" not in stats["minValues"]


def test_other_engines_read_the_files(world: World) -> None:
    """DuckDB finds the rows in the files that the log names, with the day of their folder."""
    with world.opened() as sink:
        sink.write([part(0, rows())])
    files = [str(world.table / path) for path in state(world.table).files]
    found = duckdb.execute(
        "SELECT day::VARCHAR, count(*), sum(bytes_sent) FROM read_parquet(?, hive_partitioning = true) GROUP BY day", [files]
    ).fetchall()
    assert found == [("2026-05-01", len(rows()), sum(one["bytes_sent"] or 0 for one in rows()))]


@pytest.mark.parametrize("point", ["sink.part-synced", "sink.part-recorded", "sink.published", "sink.rolled"])
def test_a_kill_at_any_step_of_a_commit_is_once(point: str, world: World) -> None:
    """SIGKILL before and after the commit, then the same rows in other batches: each row is there once, in one commit."""
    world.sink(commit_rows=10).setup()
    options = {"rows": "flows", "directory": str(world.directory), "table": str(world.table), "commit_rows": 10}
    command = WriterPlan("delta", "flows", options).command
    killed = subprocess.run(command, cwd=ROOT, env=os.environ | {CRASH_VARIABLE: f"{point}@2"}, check=False).returncode
    assert killed == -signal.SIGKILL
    with world.opened(commit_rows=10) as sink:
        for shard in (0, 1):
            own = [one for one in rows() if sum(one["blob"].encode()) % 2 == shard]
            sink.write([part(shard, own[:7])])
            sink.write([part(shard, own)])
    found = rows_of(world.table)
    assert found is not None
    assert len(by_position(FLOWS, found.drop_columns(["day"]))) == found.num_rows == len(rows())
    paths = [path for path in world.table.rglob("*.parquet") if "_delta_log" not in path.parts]
    assert sorted(str(path.relative_to(world.table)) for path in paths) == sorted(state(world.table).files)


def test_a_commit_whose_answer_is_lost_is_not_made_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection breaks behind the commit: the sink waits, finds the commit, and goes on."""
    real = DeltaTable.create_write_transaction

    def lost(self: DeltaTable, *args: Any, **options: Any) -> None:
        real(self, *args, **options)
        raise OSError("connection reset")

    with world.opened(commit_rows=10) as sink:
        monkeypatch.setattr(DeltaTable, "create_write_transaction", lost)
        with pytest.raises(Retry, match=r"cannot write to .*: connection reset"):
            sink.write([part(0, rows())])
        monkeypatch.undo()
        assert sink.write([part(0, rows())]) == Outcome(0, len(rows()))
    assert world.count() == len(rows())
    assert state(world.table).commits == 2


def test_an_old_copy_of_the_state_is_recognised(world: World) -> None:
    """A directory that was put back from a backup does not commit under numbers that the table has seen."""
    with world.opened(commit_rows=10) as sink:
        sink.write([part(0, rows()[:12])])
    (database,) = world.directory.glob(".blobtide/p000/state.db")
    old = database.read_bytes()
    with world.opened(commit_rows=10) as sink:
        sink.write([part(0, rows()[:24])])
        sink.write([part(0, rows())])
    database.write_bytes(old)
    with world.opened(commit_rows=10) as sink, pytest.raises(CodecError, match="the directory is an old copy"):
        sink.write([part(0, rows())])


def test_several_writers_commit_to_one_table(world: World, tmp_path: Path) -> None:
    """Two sinks with directories of their own, and maintenance in between, lose and repeat nothing."""
    other = World(tmp_path / "other")
    other.table = world.table
    with world.opened(commit_rows=2) as first, other.opened(commit_rows=2) as second:
        for at in range(0, len(rows()), 4):
            first.write([part(0, rows()[at : at + 2])])
            second.write([part(0, rows()[at + 2 : at + 4])])
            if at == 16:
                world.sink().maintain()
    found = rows_of(world.table)
    assert found is not None
    assert len(by_position(FLOWS, found.drop_columns(["day"]))) == found.num_rows == len(rows())
    assert len(state(world.table).transactions) == 2


def test_maintenance_joins_files_and_drops_old_days(world: World) -> None:
    """Many small files become one for each day, days beyond the retention go, and every row that remains is as it was."""
    content = [row(Spot(1, 0, at), time=START_MS - (at % 3) * _DAY_MS) for at in range(30)]
    with world.opened(commit_rows=3) as sink:
        for at in range(0, 30, 3):
            sink.write([part(0, content[at : at + 3])])
        assert len(state(world.table).files) == 30
        said = world.sink(retention_days=1).maintain()
        assert said is not None
        assert "deleted 10 files of days before 2026-04-30, joined 20 files to 2" in said
        sink.write([part(0, [row(Spot(2, 0, 0))])])
        sink.write([part(0, content)])
    assert world.count() == 21
    read = DeltaTable(world.table).to_pyarrow_table()
    assert set(read.column("day").cast(pa.string()).to_pylist()) == {"2026-04-30", "2026-05-01"}


def test_maintenance_is_a_command(world: World, tmp_path: Path) -> None:
    """`blobtide sink-maintain NAME` does it and says what it has done."""
    with world.opened(commit_rows=3) as sink:
        sink.write([part(0, rows())])
        sink.write([part(1, [row(Spot(7, 0, 0))])])
    config = tmp_path / "config.yaml"
    config.write_text(
        json.dumps({"sinks": {"lake": {"kind": "delta", "directory": str(world.directory), "table": str(world.table)}}})
    )
    done = CliRunner().invoke(blobtide, ["sink-maintain", "lake", "--config", str(config)])
    assert done.output == f"the table {world.table}: joined 2 files to 1, removed 0 unused files\n"


def test_a_table_of_other_types_is_left_alone(world: World) -> None:
    """A column of another type, or another partition, ends setup and start."""
    schema = pa.schema([("time", pa.timestamp("us", "UTC")), ("src_port", pa.string()), ("day", pa.date32())])
    DeltaTable.create(world.table, schema, partition_by=["day"])
    for start in (world.sink().setup, world.sink().open):
        with pytest.raises(ConfigError, match="does not fit: column src_port is string, but the rows have integer"):
            start()
    world.table = world.table.parent / "flat"
    DeltaTable.create(world.table, pa.schema([("time", pa.timestamp("us", "UTC")), ("day", pa.date32())]))
    with pytest.raises(ConfigError, match="is not partitioned by day"):
        world.sink(columns=["time"]).open()


def test_the_partition_keeps_its_name(world: World) -> None:
    """No column may have the name of the partition, in whatever case."""
    with pytest.raises(ConfigError, match="take"):
        world.sink(rename={"rule": "Day"})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"table": "s3://bucket/x"}, "give a directory, abfss://"),
        ({"table": "abfss://c@account.dfs.core.windows.net/x?sig=1"}, "without a query"),
        ({"table": "az://c/x"}, "needs storage"),
        ({"table": "/data", "storage": {"account_name": "abc"}}, "storage is for a table at"),
        ({"vacuum_hours": 5}, "vacuum_hours"),
    ],
)
def test_places_that_do_not_fit_are_refused(options: dict[str, Any], text: str) -> None:
    """A place is a directory or one of Azure storage, with an account that is known."""
    with pytest.raises(ValidationError, match=text):
        DeltaSettings.model_validate({"directory": "/state", **options})


def test_credentials_are_those_of_the_settings() -> None:
    """The account of the URL or of the settings, its key or signature; a key goes only over TLS."""
    key = "a2V5"
    place = {"directory": "/state", "table": "abfss://c@lake.dfs.core.windows.net/x"}
    made = options_of(DeltaSettings.model_validate(place | {"storage": {"account_name": "lake", "account_key": key}}))
    assert made["azure_storage_account_name"] == "lake"
    assert made["azure_storage_account_key"] == key
    assert (made["azure_endpoint"], made["allow_http"]) == ("https://lake.blob.core.windows.net", "false")
    signed = options_of(
        DeltaSettings.model_validate(place | {"storage": {"account_name": "lake", "sas_token": "sv=1&sig=a%2Bb"}})
    )
    assert signed["azure_storage_sas_key"] == "sv=1&sig=a%2Bb"
    plain = {"account_url": "http://lake.example", "account_key": key}
    with pytest.raises(
        ConfigError, match=r"storage of the delta table: credentials would go to http://lake\.example unencrypted"
    ):
        options_of(DeltaSettings.model_validate(place | {"storage": plain}))
    alone = DeltaSettings.model_validate(place)
    assert alone.account is not None
    assert alone.account.account_name == "lake"
