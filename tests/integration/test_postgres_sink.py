"""What the postgres sink does beyond the sink contract, at a real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row
from structlog.testing import capture_logs

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.row_type import RowType
from libs.common.rows.types.flows import FLOWS
from libs.common.settings import Settings
from libs.local.ports import LOOPBACK, free_port
from libs.local.postgres import ADMIN, LocalPostgres, PostgresRules
from services.sinks.frame.contract import Outcome
from services.sinks.kinds.postgres.partitions import AHEAD
from services.sinks.kinds.postgres.settings import PostgresSettings
from services.sinks.kinds.postgres.sink import PostgresSink
from tests.canaries import PASSWORD
from tests.certificates import server_tls
from tests.fixtures.servers import serving
from tests.flows import START_MS, Spot, part, row, rows
from tests.freezing import frozen
from tests.table_rows import EVERYTHING, LATEST, everything, latest
from tests.table_rows import part as part_of

pytestmark = pytest.mark.postgres
_DAY_MS = 86_400_000
_NOW = START_MS / 1_000


class World:
    """A server and a name for a table of one test."""

    def __init__(self, server: LocalPostgres) -> None:
        self.server = server
        self.name = f"t{uuid4().hex[:20]}"
        self.now = _NOW

    def sink(self, row_type: RowType = FLOWS, **options: Any) -> PostgresSink:
        """Build a sink; not opened."""
        given = {"hosts": self.server.host, "username": ADMIN, "table": self.name, "timeout_seconds": 10} | options
        return PostgresSink(PostgresSettings.model_validate(given), row_type, lambda: self.now)

    @contextmanager
    def opened(self, row_type: RowType = FLOWS, **options: Any) -> Iterator[PostgresSink]:
        """Set up and open a sink."""
        sink = self.sink(row_type, **options)
        sink.setup()
        sink.open()
        try:
            yield sink
        finally:
            sink.close()

    def ask(self, *statements: str) -> list[dict[str, Any]]:
        """Run statements in which TABLE_ stands for the table; return the rows of the last."""
        with psycopg.connect(
            host=LOOPBACK, port=self.server.port, user=ADMIN, dbname="postgres", autocommit=True
        ) as connection:
            connection.execute("SET timezone = 'UTC'")
            cursor = connection.cursor(row_factory=dict_row)
            for statement in statements:
                cursor.execute(cast("Any", statement.replace("TABLE_", self.name)))
            return cursor.fetchall() if cursor.description else []

    def partitions(self) -> list[str]:
        """Return the partitions of the table, without its name."""
        found = self.ask("SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'TABLE_'::regclass")
        return sorted(one["name"].removeprefix(f"{self.name}_") for one in found)


@pytest.fixture
def world(postgres: LocalPostgres) -> World:
    """Give a server with a name that nobody has used."""
    return World(postgres)


def test_setup_creates_the_table_once_and_adds_what_is_new(world: World) -> None:
    """The first setup creates and shows how, the second finds nothing to do, and one with more columns adds these."""
    few = world.sink(columns=["time", "src_ip"])
    summary, *plan = few.setup().splitlines()
    assert summary == f"created the table public.{world.name} with 5 columns"
    assert plan[0] == f'CREATE TABLE "public"."{world.name}" ('
    assert few.setup() == f"the table public.{world.name} has all columns"
    with_rule = world.sink(columns=["time", "src_ip", "rule", "dst_ip"])
    with pytest.raises(ConfigError, match="has no column rule, dst_ip: run `blobtide sink-setup`"):
        with_rule.open()
    summary, alter, *_ = with_rule.setup().splitlines()
    assert summary == f"added to the table public.{world.name}: rule, dst_ip"
    assert alter.startswith(f'ALTER TABLE "public"."{world.name}" ADD COLUMN IF NOT EXISTS "rule" text')
    for sink in (with_rule, few):
        sink.open()
        sink.close()
    (comment,) = world.ask("SELECT col_description('TABLE_'::regclass, attnum) AS text FROM pg_attribute"
                           " WHERE attrelid = 'TABLE_'::regclass AND attname = 'rule'")  # fmt: skip
    assert comment["text"].startswith("name of the rule")


def test_setup_creates_the_schema(world: World) -> None:
    """A schema that is missing is created with its table."""
    sink = world.sink(table=f"{world.name}.flows")
    assert sink.setup().startswith(f"created the table {world.name}.flows with 29 columns\nCREATE SCHEMA")
    sink.open()
    assert sink.write([part(0, rows())]) == Outcome(len(rows()))
    sink.close()
    world.ask("DROP SCHEMA TABLE_ CASCADE")


def test_a_start_without_a_table_says_what_to_do(world: World) -> None:
    """Without its table a sink does not start."""
    with pytest.raises(ConfigError, match=r"there is no table public\.t\w+ that this user may see: run `blobtide sink-setup`"):
        world.sink().open()


def test_a_table_of_other_types_is_left_alone(world: World) -> None:
    """A column of another type ends setup and start, and changes nothing."""
    world.sink().setup()
    world.ask("ALTER TABLE TABLE_ ALTER COLUMN dst_port TYPE smallint, DROP COLUMN rule, ALTER COLUMN state SET NOT NULL")
    for start in (world.sink().setup, world.sink().open):
        with pytest.raises(
            ConfigError, match="column dst_port is smallint, but the rows have integer; column state takes no nulls"
        ):
            start()
    assert world.ask("SELECT 1 FROM pg_attribute WHERE attrelid = 'TABLE_'::regclass AND attname = 'rule'") == []


@pytest.mark.parametrize("key", ["id", "position"])
def test_every_type_is_stored_and_read_back(key: str, world: World) -> None:
    """The bounds of every type come back; text has the symbol of NUL."""
    content = everything()
    content[1] |= {"text": "a\0b"}
    with world.opened(EVERYTHING, key=key) as sink:
        assert sink.write([part_of(EVERYTHING, content)]) == Outcome(len(content))
    found = world.ask("SELECT *, extract(epoch FROM nanosecond) AS exact FROM TABLE_ ORDER BY time")
    numbers = [name for name in EVERYTHING.names if name[0] in "iu" and name[1:].isdigit()]
    for stored, row_ in zip(found, content, strict=True):
        assert {name: stored[name] for name in numbers} == {name: row_[name] for name in numbers}
        assert [stored[name] for name in ("flag", "f32", "f64", "word", "content")] == [
            row_[name] for name in ("flag", "f32", "f64", "word", "content")
        ]
    assert [one["text"] for one in found] == ["", "a\u2400b", None, "\\N"]
    assert found[0]["second"] == datetime(1970, 1, 1, tzinfo=UTC)
    assert str(found[0]["exact"]) == "1777636800.123456"


def test_addresses_may_be_of_their_own_type(world: World) -> None:
    """With address_columns subnets can be asked for; what is no address is a dead letter."""
    content = [row(Spot(1, 0, 0)), row(Spot(1, 0, 1), src_ip="nowhere"), row(Spot(1, 0, 2))]
    with world.opened(address_columns=["src_ip"]) as sink:
        outcome = sink.write([part(0, content)])
    assert [(bad.row, bad.code) for bad in outcome.rejected] == [(1, ErrorCode.REFUSED)]
    assert outcome.rejected[0].reason == "postgres refuses the row: InvalidTextRepresentation (22P02)"
    assert world.ask("SELECT count(*) AS n FROM TABLE_ WHERE src_ip << '10.1.0.0/16'") == [{"n": 2}]


def test_rows_that_a_constraint_refuses_are_found(world: World) -> None:
    """A rule of the operator's makes exactly its rows dead letters, by name; others of the transaction are written."""
    world.sink().setup()
    world.ask("ALTER TABLE TABLE_ ADD CONSTRAINT no_ssh CHECK (dst_port <> 22)")
    with world.opened(insert_rows=20) as sink:
        outcome = sink.write([part(0, rows())])
    assert {bad.row for bad in outcome.rejected} == {at for at, one in enumerate(rows()) if one["dst_port"] == 22}
    assert {bad.reason for bad in outcome.rejected} == {"postgres refuses the row: CheckViolation (23514), constraint no_ssh"}
    assert outcome.written == len(rows()) - len(outcome.rejected)


def test_too_many_refused_rows_stop_the_sink(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that refuses row after row is its operator's matter."""
    monkeypatch.setattr("services.sinks.frame.halving.MOST_REFUSED", 5)
    world.sink().setup()
    world.ask("ALTER TABLE TABLE_ ADD CHECK (dst_port < 0)")
    with world.opened() as sink, pytest.raises(ConfigError, match="refuses row after row"):
        sink.write([part(0, rows())])


def test_only_the_newest_row_of_a_key_stays(world: World) -> None:
    """Of rows with one key the newest wins, whatever the order, also where a part of the key is null."""
    with world.opened(LATEST) as sink:
        assert sink.write([part_of(LATEST, [latest(1, "a", None, 1, 1), latest(3, "a", None, 3, 3)])]) == Outcome(1, 1)
        assert sink.write([part_of(LATEST, [latest(2, "a", None, 2, 2), latest(1, "b", "x", 1, 1)])]) == Outcome(1, 1)
        assert sink.write([part_of(LATEST, [latest(4, "b", "x", 4, 4)])]) == Outcome(1)
        assert sink.write([part_of(LATEST, [latest(4, "b", "x", 4, 4)])]) == Outcome(0, 1)
    found = world.ask("SELECT name, place, value FROM TABLE_ ORDER BY name")
    assert [tuple(one.values()) for one in found] == [("a", None, 3), ("b", "x", 4)]


def test_days_have_partitions_ahead_and_on_demand(world: World) -> None:
    """Setup makes those of today and the next days, a row makes that of its day; far days share one."""
    far = row(Spot(9, 0, 0), time=START_MS + 400 * _DAY_MS)
    with world.opened(layout="daily") as sink:
        ahead = world.partitions()
        assert sink.write([part(0, [row(Spot(1, 0, 0), time=START_MS - 5 * _DAY_MS), far])]) == Outcome(2)
        assert sink.write([part(0, [far])]) == Outcome(0, 1)
    assert ahead == ["other", "p20260501", "p20260502", "p20260503", "p20260504"]
    assert len(ahead) == AHEAD + 2
    assert world.partitions() == sorted([*ahead, "p20260426"])
    assert world.ask("SELECT count(*) AS n FROM TABLE__other") == [{"n": 1}]


def test_old_partitions_are_dropped_and_new_ones_made_while_it_runs(world: World) -> None:
    """Every hour days beyond the retention go, with old rows of the shared partition, and the days to come are made."""
    far = row(Spot(9, 0, 0), time=START_MS - 8_000 * _DAY_MS)
    with world.opened(layout="daily", retention_days=2) as sink:
        sink.write([part(0, [row(Spot(1, 0, 0)), row(Spot(2, 0, 0), time=START_MS - _DAY_MS), far])])
        world.now += 2 * _DAY_MS / 1_000
        sink.tick()
        assert world.partitions() == ["other", *(f"p202605{day:02}" for day in range(1, 7))]
        assert world.ask("SELECT count(*) AS n FROM TABLE_") == [{"n": 1}]
        assert sink.write([part(0, [row(Spot(1, 0, 1))])]) == Outcome(1)


def test_a_day_that_others_cover_is_left_to_them(world: World) -> None:
    """A partition of the operator's for several days takes their rows; so does the shared one that has some already."""
    world.sink(layout="daily").setup()
    world.ask("CREATE TABLE TABLE__april PARTITION OF TABLE_ FOR VALUES FROM ('2026-04-01') TO ('2026-05-01')")
    early, shared = row(Spot(1, 0, 0), time=START_MS - 5 * _DAY_MS), row(Spot(2, 0, 0), time=START_MS + 40 * _DAY_MS)
    with world.opened(layout="daily") as sink:
        assert sink.write([part(0, [early, shared])]) == Outcome(2)
        world.now += 20 * _DAY_MS / 1_000
        sink.tick()
        assert sink.write([part(0, [early, shared, row(Spot(2, 0, 1), time=START_MS + 40 * _DAY_MS)])]) == Outcome(1, 2)
    assert world.ask("SELECT count(*) AS n FROM TABLE__other") == [{"n": 2}]


def test_workers_make_a_partition_once(world: World) -> None:
    """Two workers that get rows of one new day at the same time both write them."""
    failed: list[BaseException] = []

    def write(sink: PostgresSink, blob: int) -> None:
        try:
            for day in range(10, 20):
                sink.write([part(0, [row(Spot(blob, 0, 0), record_offset=day, time=START_MS - day * _DAY_MS)])])
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failed.append(error)

    with world.opened(layout="daily") as first, world.opened(layout="daily") as second:
        threads = [threading.Thread(target=write, args=(sink, at)) for at, sink in enumerate((first, second))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []
    assert world.ask("SELECT count(*) AS n FROM TABLE_") == [{"n": 20}]


def test_a_hypertable_needs_timescale(world: World) -> None:
    """Without the extension setup says what to do and creates nothing."""
    with pytest.raises(ConfigError, match="layout hypertable needs Timescale: run CREATE EXTENSION timescaledb"):
        world.sink(layout="hypertable").setup()
    with pytest.raises(ConfigError, match="there is no table"):
        world.sink(layout="hypertable").open()


def test_a_hypertable_is_asked_for_as_timescale_wants(world: World) -> None:
    """With the extension (here, functions of its names) the table becomes a hypertable with a chunk a day and a retention."""
    made = "CREATE FUNCTION {} RETURNS void LANGUAGE sql AS $$ INSERT INTO TABLE__asked SELECT $1, $2 $$"
    hypertable, policy = (
        "create_hypertable(regclass, name, chunk_time_interval interval)",
        "add_retention_policy(regclass, interval)",
    )
    drop = ("DROP FUNCTION IF EXISTS create_hypertable", "DROP FUNCTION IF EXISTS add_retention_policy")
    world.ask("CREATE TABLE TABLE__asked (what text, how text)", made.format(hypertable), made.format(policy))
    try:
        with world.opened(layout="hypertable", retention_days=30) as sink:
            assert sink.write([part(0, rows())]) == Outcome(len(rows()))
            assert sink.write([part(0, rows())]) == Outcome(0, len(rows()))
    finally:
        world.ask(*drop)
    assert [tuple(one.values()) for one in world.ask("SELECT * FROM TABLE__asked")] == [
        (world.name, "time"),
        (world.name, "30 days"),
    ]


def test_a_server_that_is_not_there_is_named() -> None:
    """Setup and start say which address does not answer."""
    port = free_port()
    sink = PostgresSink(PostgresSettings(hosts=(f"{LOOPBACK}:{port}",), username="u"), FLOWS)
    for start in (sink.open, sink.setup):
        with pytest.raises(ServerUnreachable, match=rf"port {port}.*; is it running"):
            start()


def test_a_standby_is_passed_over(world: World) -> None:
    """Of several servers the one that accepts writes is used."""
    world.sink().setup()
    hosts = (f"{LOOPBACK}:{free_port()}", world.server.host)
    with world.opened(hosts=hosts) as sink:
        assert sink.write([part(0, rows())]) == Outcome(len(rows()))


def test_a_user_without_rights_is_told_which(world: World) -> None:
    """At the start a missing right ends the process; one that is taken away later is waited for, and said."""
    world.sink().setup()
    user = f"u_{world.name}"
    world.ask(f"CREATE ROLE {user} LOGIN PASSWORD '{world.name}'", f"GRANT INSERT, SELECT ON TABLE_ TO {user}")
    login: dict[str, Any] = {"username": user, "password": world.name}
    sink = world.sink(**login)
    sink.open()
    with closing(sink):
        assert sink.write([part(0, rows()[:5])]) == Outcome(5)
        world.ask(f"REVOKE INSERT ON TABLE_ FROM {user}")
        with pytest.raises(Retry, match="postgres does not allow it: the user needs INSERT and SELECT") as raised:
            sink.write([part(0, rows())])
        assert raised.value.kind == "operator"
        world.ask(f"GRANT INSERT ON TABLE_ TO {user}")
        assert sink.write([part(0, rows())]) == Outcome(len(rows()) - 5, 5)
    with pytest.raises(ConfigError, match="does not allow it"):
        world.sink(**login, table=f"{world.name}x").setup()
    with pytest.raises(ConfigError, match="does not accept our sign-in"):
        world.sink(**login | {"password": PASSWORD}).open()
    with pytest.raises(ConfigError, match="has no such database"):
        world.sink(database="nowhere").open()


def test_a_table_that_is_dropped_is_waited_for(world: World) -> None:
    """Somebody replaces the table: the sink waits until it is there again."""
    with world.opened() as sink:
        sink.write([part(0, rows()[:5])])
        world.ask("DROP TABLE TABLE_")
        for _ in range(2):
            with pytest.raises(Retry, match="sink-setup") as raised:
                sink.write([part(0, rows())])
            assert raised.value.kind == "operator"
        world.sink().setup()
        assert sink.write([part(0, rows())]) == Outcome(len(rows()))


def test_a_lock_or_a_slow_statement_is_a_retry(world: World) -> None:
    """What the server gives up after a while is tried again."""
    with world.opened(timeout_seconds=1) as sink:
        with psycopg.connect(host=LOOPBACK, port=world.server.port, user=ADMIN, dbname="postgres") as other:
            other.execute(cast("Any", f"LOCK TABLE {world.name}"))
            with pytest.raises(Retry) as raised:
                sink.write([part(0, rows())])
        assert raised.value.kind in {"timeout", "busy"}
        assert sink.write([part(0, rows())]) == Outcome(len(rows()))


def test_a_server_that_hangs_is_left(world: World) -> None:
    """A server that accepts everything and answers nothing is a retry after the timeout."""
    with world.opened(timeout_seconds=1) as sink:
        sink.write([part(0, rows()[:5])])
        with frozen(world.server), pytest.raises(Retry, match="postgres does not respond"):
            sink.write([part(0, rows())])
        assert sink.write([part(0, rows())]) == Outcome(len(rows()) - 5, 5)


def test_a_server_that_is_killed_while_it_writes_loses_nothing(world: World) -> None:
    """The server dies during a large transaction; afterwards the same rows are there once."""
    content = [row(Spot(blob, record, index)) for blob in range(4) for record in range(50) for index in range(20)]
    with world.opened(insert_rows=500) as sink:
        beats = iter(range(10))
        sink.while_waiting(lambda: world.server.kill() if next(beats) == 3 else None)
        with pytest.raises(Retry):
            sink.write([part(0, content)])
        sink.while_waiting(lambda: None)
        world.server.start()
        outcome = sink.write([part(0, content)])
    assert (outcome.written + outcome.already_there, outcome.already_there >= 2_000) == (len(content), True)
    assert world.ask("SELECT count(*) AS n FROM TABLE_") == [{"n": len(content)}]


def test_offsets_rely_on_commits_that_are_on_the_disk(world: World) -> None:
    """A database that answers before its disk does is asked to wait for us; the server sees who we are."""
    world.ask("ALTER DATABASE postgres SET synchronous_commit = off")
    sink = world.sink()
    sink.setup()
    sink.join("hot", Settings())
    sink.open()
    try:
        assert sink._connection is not None
        assert sink._connection.ask("SHOW synchronous_commit") == [("on",)]
        assert sink._connection.ask("SHOW application_name") == [("blobtide sink hot",)]
    finally:
        sink.close()
        world.ask("ALTER DATABASE postgres RESET synchronous_commit")


def test_trouble_with_partitions_is_said_and_passes(world: World) -> None:
    """What cannot be looked after now is a line in the log."""
    with (
        world.opened(layout="daily") as sink,
        psycopg.connect(host=LOOPBACK, port=world.server.port, user=ADMIN, dbname="postgres") as other,
    ):
        sink._connection.run("SET lock_timeout = 100")  # type: ignore[union-attr]
        other.execute(cast("Any", f"LOCK TABLE {world.name}"))
        world.now += _DAY_MS / 1_000
        with capture_logs() as logs:
            sink.tick()
        assert [entry["event"] for entry in logs] == ["partitions will be looked after later"]


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[LocalPostgres]:
    """A server that wants TLS and a password."""
    server = LocalPostgres(tmp_path / "postgres", rules=PostgresRules(PASSWORD, server_tls(tmp_path)))
    with serving(server):
        yield server


def test_tls_and_sign_in(secured: LocalPostgres, tmp_path: Path) -> None:
    """With the authority and the password the sink works; without one of them it says what is wrong, and no secret."""
    (tmp_path / "secret").write_text(PASSWORD)
    good = {
        "hosts": secured.host,
        "username": ADMIN,
        "password_file": tmp_path / "secret",
        "ca_file": tmp_path / "ca.pem",
        "timeout_seconds": 10,
    }

    def made(**options: Any) -> PostgresSink:
        return PostgresSink(PostgresSettings.model_validate(good | options), FLOWS)

    sink = made()
    sink.setup()
    sink.open()
    assert sink.write([part(0, rows())]) == Outcome(len(rows()))
    assert sink._connection is not None
    assert sink._connection.ask("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [(True,)]
    sink.close()
    (tmp_path / "other").mkdir()
    server_tls(tmp_path / "other")
    for options, text in (
        ({"password_file": None, "password": "wrong"}, "does not accept our sign-in"),
        ({"ca_file": None, "tls": False}, "does not accept our sign-in: .*pg_hba.conf"),
        ({"ca_file": tmp_path / "other" / "ca.pem"}, "shows a certificate that is not accepted"),
    ):
        with pytest.raises(ConfigError, match=text) as raised:
            made(**options).open()
        assert PASSWORD not in str(raised.value)
    unverified = made(ca_file=None, verify=False, tls=True)
    unverified.open()
    unverified.close()
