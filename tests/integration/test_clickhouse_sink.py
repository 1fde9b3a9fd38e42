"""What the clickhouse sink does beyond the sink contract, at the real engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
import urllib3
from structlog.testing import capture_logs

from libs.common.errors import ConfigError, ServerUnreachable
from libs.common.rows.row_type import RowType
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOWS
from libs.local.clickhouse import LocalClickHouse
from libs.local.ports import LOOPBACK, free_port
from services.sinks.frame.contract import Outcome, Part
from services.sinks.kinds.clickhouse.sink import ClickHouseSettings, ClickHouseSink
from tests.flows import part, rows

pytestmark = pytest.mark.clickhouse


class World:
    """A server and a name for a table, or a database, of one test."""

    def __init__(self, server: LocalClickHouse) -> None:
        self.server = server
        self.name = f"t{uuid4().hex}"

    def sink(self, row_type: RowType = FLOWS, **options: Any) -> ClickHouseSink:
        """Build a sink; not opened."""
        given = {"hosts": self.server.url, "table": self.name, "timeout_seconds": 10} | options
        return ClickHouseSink(ClickHouseSettings.model_validate(given), row_type)

    @contextmanager
    def opened(self, row_type: RowType = FLOWS, **options: Any) -> Iterator[ClickHouseSink]:
        """Set up and open a sink."""
        sink = self.sink(row_type, **options)
        sink.setup()
        sink.open()
        yield sink
        sink.close()

    def ask(self, sql: str) -> list[dict[str, Any]]:
        """Run a query in which TABLE stands for the table."""
        with urllib3.PoolManager() as http:
            body = sql.replace("TABLE_", self.name).encode()
            answer = http.request(
                "POST", f"{self.server.url}/?default_format=JSONEachRow&date_time_output_format=iso", body=body
            )
        assert answer.status == 200, answer.data
        return [json.loads(line) for line in answer.data.splitlines()]


@pytest.fixture
def world(clickhouse: LocalClickHouse) -> World:
    """Give a server with a name that nobody has used."""
    return World(clickhouse)


def test_setup_creates_the_table_once_and_adds_what_is_new(world: World) -> None:
    """The first setup creates, a second finds nothing to do, and one with more columns adds these."""
    few = world.sink(columns=["time", "src_ip"])
    assert few.setup() == f"created the table default.{world.name} with 6 columns"  # with those of the position
    assert few.setup() == f"the table default.{world.name} has all columns"
    with_rule = world.sink(columns=["time", "src_ip", "rule", "dst_ip"])
    with pytest.raises(ConfigError, match="has no column rule, dst_ip: run `blobtide sink-setup`"):
        with_rule.open()
    assert with_rule.setup() == f"added to the table default.{world.name}: rule, dst_ip"
    with_rule.open()
    with_rule.close()
    few.open()
    few.close()


def test_setup_creates_the_database(world: World) -> None:
    """A database that is missing is created with its table."""
    sink = world.sink(database=world.name, table=None)
    assert sink.setup() == f"created the table {world.name}.flows with 28 columns"
    sink.open()
    assert sink.write([part(0, rows())]) == Outcome(len(rows()))
    sink.close()
    assert world.ask("SELECT count() AS n FROM TABLE_.flows") == [{"n": len(rows())}]
    world.ask("DROP DATABASE TABLE_")


def test_a_start_without_a_table_says_what_to_do(world: World) -> None:
    """Without its table a sink does not start."""
    with pytest.raises(ConfigError, match=r"there is no table default\.t\w+ that this user may see: run `blobtide sink-setup`"):
        world.sink().open()


def test_a_table_of_other_types_is_left_alone(world: World) -> None:
    """A column of another type ends setup and start, and changes nothing."""
    with world.opened():
        pass
    world.ask("ALTER TABLE TABLE_ MODIFY COLUMN src_port String, DROP COLUMN rule")
    for start in (world.sink().setup, world.sink().open):
        with pytest.raises(ConfigError, match="does not match: column src_port is String, but the rows have UInt16"):
            start()
    assert world.ask("SELECT name FROM system.columns WHERE table = 'TABLE_' AND name = 'rule'") == []


def test_dead_letters_are_rows_like_any_other(world: World) -> None:
    """Dead letters go into a table of their own columns, each once."""
    letters = pa.concat_tables([DEAD_LETTERS.example_table] * 2).combine_chunks()
    at = letters.schema.get_field_index("letter_offset")
    letters = letters.set_column(at, letters.schema.field(at), pa.array([88, 89], pa.int64()))
    with world.opened(DEAD_LETTERS) as sink:
        assert sink.write([Part(3, DEAD_LETTERS, letters, (1, 2))]) == Outcome(2)
        assert sink.write([Part(3, DEAD_LETTERS, letters.slice(1), (1,))]) == Outcome(0, 1)
    found = world.ask("SELECT time, stage, code, bytes_text, `offset`, letter_offset FROM TABLE_ ORDER BY letter_offset")
    assert [one["letter_offset"] for one in found] == [88, 89]
    example = DEAD_LETTERS.example
    expected = {name: example[name] for name in ("stage", "code", "bytes_text", "offset")}
    assert all(expected.items() <= one.items() for one in found)
    assert found[0]["time"] == "2026-05-01T12:00:07.250Z"


def test_columns_are_chosen_and_renamed_but_the_position_stays(world: World) -> None:
    """A table has the chosen columns under their new names, and behind them what rows are told apart by."""
    options: dict[str, Any] = {"columns": ["src_ip", "time", "blob"], "rename": {"src_ip": "source.ip", "time": "@timestamp"}}
    with world.opened(FLOWS, **options) as sink:
        assert sink.write([part(0, rows())]) == Outcome(len(rows()))
        assert sink.write([part(0, rows()[5:])]) == Outcome(0, len(rows()) - 5)
    found = world.ask("SELECT * FROM TABLE_ ORDER BY blob, record_offset, tuple_index LIMIT 1")
    assert list(found[0]) == ["source.ip", "@timestamp", "blob", "generation", "record_offset", "tuple_index"]
    assert (found[0]["source.ip"], found[0]["@timestamp"]) == ("10.0.0.4", "2026-05-01T12:00:00.000Z")


def test_a_name_that_the_position_needs_is_refused(world: World) -> None:
    """No column may be renamed to one of the position that was not chosen."""
    with pytest.raises(ConfigError, match="rename: clickhouse needs the column generation to tell rows apart"):
        world.sink(columns=["time", "rule"], rename={"rule": "generation"})


def test_a_sample_carries_its_weight(world: World) -> None:
    """The table of a sampling sink has the weight of each row."""
    one = part(0, rows())
    weighted = one.rows.append_column(pa.field("sample_weight", pa.float64(), nullable=False), pa.array([4.0] * len(rows())))
    with world.opened(sample=0.25) as sink:
        sink.write([Part(0, FLOWS, weighted, one.ends)])
    assert world.ask("SELECT sum(sample_weight) AS n FROM TABLE_") == [{"n": 4 * len(rows())}]


@pytest.mark.parametrize(
    ("engine", "warned"),
    [
        ("ReplacingMergeTree", ["does not recognise repeated inserts"]),
        ("MergeTree", ["keeps duplicate rows", "does not recognise repeated inserts"]),
        ("Null", []),
    ],
)
def test_a_table_without_nets_is_warned_of(engine: str, warned: list[str], world: World) -> None:
    """A table of the operator's will do, but the start says what it does not prevent."""
    world.sink().setup()
    order = "" if engine == "Null" else "ORDER BY time"
    world.ask(f"CREATE TABLE TABLE_own AS TABLE_ ENGINE = {engine} {order}")
    own = world.sink(table=f"{world.name}own")
    with capture_logs() as logs:
        own.open()
    own.close()
    said = [entry["event"] for entry in logs]
    assert len(said) == len(warned)
    assert all(text in entry for text, entry in zip(warned, said, strict=True))


def test_a_table_that_setup_made_is_not_warned_of(world: World) -> None:
    """What setup creates has both nets."""
    with capture_logs() as logs, world.opened():
        pass
    assert logs == []


def test_a_server_that_is_not_there_is_named() -> None:
    """Setup and start say which address does not answer."""
    address = f"http://{LOOPBACK}:{free_port()}"
    sink = ClickHouseSink(ClickHouseSettings(hosts=(address,)), FLOWS)
    for start in (sink.open, sink.setup):
        with pytest.raises(ServerUnreachable, match=f"{address} does not respond: .*; is ClickHouse running"):
            start()


def test_a_release_makes_the_sink_ask_again(world: World) -> None:
    """What another process wrote in between is found when the shard comes back."""
    with world.opened() as first, world.opened() as second:
        first.write([part(0, rows()[:10])])
        first.release({0})
        second.write([part(0, rows()[10:20])])
        assert first.write([part(0, rows())]) == Outcome(len(rows()) - 20, 20)


def test_a_release_during_a_write_is_a_release(world: World) -> None:
    """A shard that is lost while its rows are written is asked about again when it comes back."""
    with world.opened() as first, world.opened() as second:
        first.while_waiting(lambda: first.release({0}))
        first.write([part(0, rows()[:10])])
        first.while_waiting(lambda: None)
        second.write([part(0, rows()[:20])])
        assert first.write([part(0, rows())]) == Outcome(len(rows()) - 20, 20)


def test_the_process_is_seen_to_be_alive_during_a_write(world: World) -> None:
    """`beat` is called at every request."""
    beats: list[int] = []
    with world.opened(insert_rows=10) as sink:
        sink.while_waiting(lambda: beats.append(1))
        sink.write([Part(0, FLOWS, part(0, rows()).rows, tuple(range(4, 37, 4)))])
    assert len(beats) == 6  # the question, and five inserts of two messages each, the last one of one
