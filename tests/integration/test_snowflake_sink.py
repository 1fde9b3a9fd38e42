"""What the snowflake sink does beyond the sink contract, at a Snowflake on DuckDB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.row_type import RowType
from libs.common.rows.select import Selection
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.types.results import RESULTS
from libs.common.settings import Settings
from libs.local.ports import free_port
from libs.local.snowflake import DATABASE, LocalSnowflake, SnowflakeRules
from services.sinks.frame.contract import Outcome, Part
from services.sinks.kinds.snowflake.settings import SnowflakeSettings
from services.sinks.kinds.snowflake.sink import SnowflakeSink
from tests.canaries import PASSWORD, TOKEN
from tests.certificates import server_tls
from tests.fakes.snowflake_front import Failure, LostAnswer, front_of
from tests.fixtures.servers import serving
from tests.flows import START_MS, Spot, part, row, rows
from tests.freezing import frozen
from tests.snowflake_tables import ask
from tests.table_rows import EVERYTHING, LATEST, everything, latest
from tests.table_rows import part as part_of

pytestmark = pytest.mark.snowflake
_DAY_MS = 86_400_000
_NOW = START_MS / 1_000


class World:
    """A server and a name for a table of one test."""

    def __init__(self, server: LocalSnowflake) -> None:
        self.server = server
        self.name = f"T{uuid4().hex[:20]}".upper()
        self.now = _NOW

    def sink(self, row_type: RowType = FLOWS, **options: Any) -> SnowflakeSink:
        """Build a sink; not opened."""
        given = {**self.server.login, "table": self.name, "timeout_seconds": 10} | options
        return SnowflakeSink(SnowflakeSettings.model_validate(given), row_type, lambda: self.now)

    @contextmanager
    def opened(self, row_type: RowType = FLOWS, **options: Any) -> Iterator[SnowflakeSink]:
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
        return ask(self.server, *(statement.replace("TABLE_", self.name) for statement in statements))


@pytest.fixture
def world(snowflake: LocalSnowflake) -> World:
    """Give a server with a name that nobody has used."""
    return World(snowflake)


def test_setup_creates_the_table_once_and_adds_what_is_new(world: World) -> None:
    """The first setup creates and shows how, the second finds nothing to do, and one with more columns adds these."""
    few = world.sink(columns=["time", "src_ip"])
    summary, *plan = few.setup().splitlines()
    assert summary == f"created the table {DATABASE}.PUBLIC.{world.name} with 6 columns"
    assert plan[:2] == [
        f'CREATE TABLE IF NOT EXISTS "{DATABASE}"."PUBLIC"."{world.name}" (',
        """    "TIME" TIMESTAMP_LTZ(3) NOT NULL COMMENT 'when the flow was seen; NSG: whole seconds',""",
    ]
    assert few.setup() == f"the table {DATABASE}.PUBLIC.{world.name} has all columns"
    with_rule = world.sink(columns=["time", "src_ip", "rule", "dst_ip"])
    with pytest.raises(ConfigError, match="has no column RULE, DST_IP: run `blobtide sink-setup`"):
        with_rule.open()
    summary, alter = with_rule.setup().splitlines()
    assert summary == f"added to the table {DATABASE}.PUBLIC.{world.name}: RULE, DST_IP"
    assert alter.startswith(
        f'ALTER TABLE "{DATABASE}"."PUBLIC"."{world.name}" ADD COLUMN IF NOT EXISTS "RULE" VARCHAR COMMENT \'name of the rule'
    )
    for sink in (with_rule, few):
        sink.open()
        sink.write([part(0, rows())])
        sink.close()
    assert world.ask("SELECT COUNT(*) AS N, COUNT(DST_IP) AS M FROM TABLE_") == [{"n": len(rows()), "m": len(rows())}]


COLLECTOR: dict[str, Any] = {
    "where": "kind = 'answer' or status <> 'success'",
    "columns": ["message_id", "correlation_id", "status", "data", "errors", "time", "request_index"],
    "rename": {"time": "timestamp"},
}
"""The options in docs/how-to/destinations/snowflake.md with which results have the columns of the Azure Cloud Collector."""
AS_BEFORE = """CREATE TABLE TABLE_ (message_id VARCHAR, correlation_id VARCHAR, status VARCHAR, data VARCHAR, errors VARCHAR,
    timestamp TIMESTAMP_NTZ, request_index INTEGER, PRIMARY KEY (message_id, request_index))"""
POSITION = "source VARCHAR, generation VARCHAR, answer_number NUMBER(19, 0), part NUMBER(10, 0)"


@pytest.mark.parametrize("is_there", [False, True])
def test_answers_of_azure_get_into_the_table_of_the_azure_cloud_collector(world: World, *, is_there: bool) -> None:
    """Made by setup, or made before and given the columns that tell rows apart; once, also those that come again."""
    if is_there:
        world.ask(AS_BEFORE, "INSERT INTO TABLE_ (message_id, status, request_index) VALUES ('old', 'success', 0)")
        with pytest.raises(ConfigError, match="column SOURCE is missing, by which rows are told apart"):
            world.sink(RESULTS, **COLLECTOR).setup()
        world.ask(f"ALTER TABLE TABLE_ ADD COLUMN {POSITION}")
    answer = dict(RESULTS.example) | {"errors": None}
    refused = answer | {"kind": "end", "status": "error", "data": None, "errors": '[{"code":"Forbidden"}]', "request_index": 1}
    rows = pa.Table.from_pylist(
        [answer, refused | {"source": "m/1"}, answer | {"kind": "end", "part": 1}], schema=RESULTS.schema
    )
    with world.opened(RESULTS, **COLLECTOR) as sink:
        chosen = Selection.of(RESULTS, COLLECTOR["where"]).select(rows).rows
        assert sink.write([Part(0, RESULTS, chosen, (2,))]) == Outcome(2)
        assert sink.write([Part(0, RESULTS, chosen, (2,))]) == Outcome(0, 2)
    found = world.ask("SELECT * FROM TABLE_ WHERE message_id <> 'old' ORDER BY request_index")
    names = ["message_id", "correlation_id", "status", "data", "errors", "timestamp", "request_index"]
    assert list(found[0]) == [*names, "source", "generation", "answer_number", "part"]
    assert [(one["status"], one["data"], one["errors"], one["request_index"]) for one in found] == [
        ("success", answer["data"], None, 0),
        ("error", None, '[{"code":"Forbidden"}]', 1),
    ]
    assert found[0]["timestamp"].replace(tzinfo=None) == datetime(2026, 5, 1, 12, 0, 1, 250_000)  # noqa: DTZ001 - the table has no zone
    assert world.ask("SELECT COUNT(*) AS N FROM TABLE_") == [{"n": 2 + is_there}]


def test_setup_creates_the_schema(world: World) -> None:
    """A schema that is missing is created with its table."""
    sink = world.sink(table=f"{world.name}.flows")
    assert sink.setup().startswith(f'created the table {DATABASE}.{world.name}.FLOWS with 28 columns\nCREATE SCHEMA "')
    sink.open()
    assert sink.write([part(0, rows())]) == Outcome(len(rows()))
    sink.close()


def test_a_start_without_a_table_says_what_to_do(world: World) -> None:
    """Without its table a sink does not start."""
    with pytest.raises(ConfigError, match=r"there is no table BLOBTIDE\.PUBLIC\.T\w+ that this role may see: run `blobtide"):
        world.sink().open()


def test_a_table_of_other_types_is_left_alone(world: World) -> None:
    """Columns that do not take our rows end setup and start, and nothing is changed."""
    columns = "TIME TIMESTAMP_NTZ(9), SRC_IP VARCHAR(45), DST_PORT NUMBER(3,0), RULE VARCHAR NOT NULL, OWN INT NOT NULL"
    world.ask(f"CREATE TABLE TABLE_ ({columns})")
    for start in (world.sink().setup, world.sink().open):
        with pytest.raises(ConfigError, match=r"column DST_PORT is NUMBER\(3,0\), but the rows have NUMBER\(5,0\); ") as raised:
            start()
        assert "column RULE takes no nulls, but the rows have some; " in str(raised.value)
        assert "column OWN takes no nulls, and no row has it; " in str(raised.value)
        assert "column BLOB is missing, by which rows are told apart; " in str(raised.value)
    assert len(world.ask("DESCRIBE TABLE TABLE_")) == 5


def test_every_type_is_stored_and_read_back(world: World) -> None:
    """The bounds of every type come back."""
    content = everything()
    with world.opened(EVERYTHING) as sink:
        assert sink.write([part_of(EVERYTHING, content)]) == Outcome(len(content))
    found = world.ask('SELECT * FROM TABLE_ ORDER BY "TIME"')
    plain = [name for name in EVERYTHING.names if name not in {"time", "second", "nanosecond"}]
    assert [{name: one[name] for name in plain} for one in found] == [{name: one[name] for name in plain} for one in content]
    assert [one["second"] for one in found] == [_second(one["second"]) for one in content]
    assert found[0]["nanosecond"] == datetime(2026, 5, 1, 12, 0, 0, 123_456, tzinfo=UTC)


def _second(value: int | None) -> datetime | None:
    return None if value is None else datetime.fromtimestamp(value, UTC)


def test_a_column_in_capitals_or_not_is_one(world: World) -> None:
    """Names that differ in nothing but capitals are refused before anything is written."""
    with pytest.raises(ConfigError, match="rename: snowflake takes Src_Ip and another column for the same"):
        world.sink(rename={"dst_ip": "Src_Ip"})


def test_rows_that_a_column_refuses_are_found(world: World) -> None:
    """A column that suddenly takes no nulls makes exactly its rows dead letters; others of the load are written."""
    content = [row(Spot(1, 0, at), rule="r" if at % 7 else None) for at in range(20)]
    with world.opened() as sink:
        sink.write([part(0, content[1:2])])
        world.ask("ALTER TABLE TABLE_ ALTER COLUMN RULE SET NOT NULL")
        outcome = sink.write([part(0, content[:10]), part(0, content[10:])])
    assert [(bad.part, bad.row) for bad in outcome.rejected] == [(0, 0), (0, 7), (1, 4)]
    assert {bad.reason for bad in outcome.rejected} == {
        "snowflake refuses the row: a null in a column that takes none (error 100072)"
    }
    assert {bad.code for bad in outcome.rejected} == {ErrorCode.REFUSED}
    assert (outcome.written, outcome.already_there) == (16, 1)


def test_too_many_refused_rows_stop_the_sink(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that refuses row after row is its operator's matter."""
    monkeypatch.setattr("services.sinks.frame.halving.MOST_REFUSED", 2)
    with world.opened() as sink:
        sink.write([part(0, [row(Spot(1, 0, 0), rule="r")])])
        world.ask("ALTER TABLE TABLE_ ALTER COLUMN RULE SET NOT NULL")
        with pytest.raises(ConfigError, match=r"refuses row after row: .*The last one: snowflake refuses the row: a null"):
            sink.write([part(0, [row(Spot(1, 1, at), rule=None) for at in range(4)])])


def test_only_the_newest_row_of_a_key_stays(world: World) -> None:
    """Of rows with one key the newest wins, whatever the order, also where a part of the key is null."""
    with world.opened(LATEST) as sink:
        assert sink.write([part_of(LATEST, [latest(1, "a", None, 1, 1), latest(3, "a", None, 3, 3)])]) == Outcome(1, 1)
        assert sink.write([part_of(LATEST, [latest(2, "a", None, 2, 2), latest(1, "b", "x", 1, 1)])]) == Outcome(1, 1)
        assert sink.write([part_of(LATEST, [latest(4, "b", "x", 4, 4)])]) == Outcome(1)
        assert sink.write([part_of(LATEST, [latest(4, "b", "x", 5, 5)])]) == Outcome(1)
        assert sink.write([part_of(LATEST, [latest(4, "b", "x", 4, 4)])]) == Outcome(0, 1)
    found = world.ask("SELECT NAME, PLACE, VALUE FROM TABLE_ ORDER BY NAME")
    assert [tuple(one.values()) for one in found] == [("a", None, 3), ("b", "x", 5)]


def test_old_days_are_deleted_on_demand(world: World) -> None:
    """sink-maintain deletes whole days beyond the retention, and nothing without one."""
    days = [row(Spot(day, 0, 0), time=START_MS - day * _DAY_MS) for day in range(5)]
    with world.opened(retention_days=2) as sink:
        sink.write([part(0, days)])
        assert sink.maintain() == f"deleted 2 rows before 2026-04-29 from the table {DATABASE}.PUBLIC.{world.name}"
    assert world.ask("SELECT COUNT(*) AS N FROM TABLE_") == [{"n": 3}]
    assert world.sink().maintain().startswith("nothing to do")


def test_large_batches_become_several_loads(world: World) -> None:
    """A load has at most `insert_rows` rows; a repetition finds them whatever its loads are."""
    content = rows()
    with world.opened(insert_rows=25) as sink:
        assert sink.write([part(0, content)]) == Outcome(len(content))
    with world.opened(insert_rows=7) as sink:
        assert sink.write([part(0, content[:10]), part(1, content[10:])]) == Outcome(0, len(content))


def test_a_shard_that_is_taken_over_begins_a_new_session(world: World) -> None:
    """A session surely sees what others committed before it began: it is as old as the youngest of its shards."""
    with world.opened() as sink:
        sessions = []
        for shards in ((0,), (0,), (0, 1), (1,), (0, 1)):
            sink.write([part(shard, rows()[:1]) for shard in shards])
            sessions.append(sink._session)
        sink.release({1})
        for shard in (0, 1, 0):
            sink.write([part(shard, rows()[:1])])
            sessions.append(sink._session)
    numbers = [sessions.index(one) for one in sessions]
    assert numbers == [0, 0, 2, 2, 2, 2, 6, 6]


def test_names_that_do_not_exist_are_told_at_the_start(world: World) -> None:
    """A database, schema or warehouse that is not there ends the start."""
    world.sink().setup()
    for what in ("database", "warehouse"):
        options: dict[str, Any] = {what: "nowhere"}
        with pytest.raises(ConfigError, match=f"no such database, schema or warehouse, .* The requested {what} does not exist"):
            world.sink(**options).open()


def test_a_service_that_is_not_there_is_named() -> None:
    """Setup and start say that nothing answers, and how to find out why."""
    sink = World(LocalSnowflake(Path("unused"), free_port())).sink(timeout_seconds=1)
    for start in (sink.open, sink.setup):
        with pytest.raises(ServerUnreachable, match=r"does not respond: .*; can it be reached, and is the account"):
            start()


def test_a_service_that_hangs_is_left(world: World) -> None:
    """A service that accepts everything and answers nothing is a retry after the timeout, while the process beats."""
    beats: list[None] = []
    with world.opened(timeout_seconds=3) as sink:
        sink.write([part(0, rows()[:5])])
        sink.while_waiting(lambda: beats.append(None))
        with frozen(world.server), pytest.raises(Retry, match="snowflake does not respond: no response in 3 s"):
            sink.write([part(0, rows())])
        assert len(beats) >= 3
        sink.close()
    with world.opened() as sink:
        assert sink.write([part(0, rows())]) == Outcome(len(rows()) - 5, 5)


def test_a_service_that_is_killed_while_it_writes_loses_nothing(world: World) -> None:
    """The server dies between two loads of a batch; afterwards the same rows are there once."""
    content = [row(Spot(blob, record, index)) for blob in range(4) for record in range(10) for index in range(20)]
    with world.opened(insert_rows=200) as sink:
        sink.write([part(0, content[:1])])
        loads = iter(range(1_000))
        load = sink._session.writer._load  # type: ignore[union-attr]

        def counted(values: Any) -> int:
            if next(loads) == 2:
                world.server.kill()
            return load(values)

        sink._session.writer._load = counted  # type: ignore[union-attr, method-assign]
        with pytest.raises(Retry):
            sink.write([part(0, content)])
        world.server.start()
        assert sink.write([part(0, content)]) == Outcome(len(content) - 400, 400)
    assert world.ask("SELECT COUNT(*) AS N FROM TABLE_") == [{"n": len(content)}]


def test_an_answer_that_is_lost_is_no_lost_or_double_row(world: World) -> None:
    """When the last statement was run and its answer is lost, the repetition finds the rows there."""
    with front_of(world.server) as front, world.opened(url=front.url) as sink:
        front.faults.append(("MERGE", LostAnswer()))
        outcome = sink.write([part(0, rows())])
        assert outcome.written + outcome.already_there == len(rows())
        assert sum(statement.startswith("MERGE") for statement in front.statements) == 2
        assert sink.write([part(0, rows())]) == Outcome(0, len(rows()))
    assert world.ask("SELECT COUNT(*) AS N FROM TABLE_") == [{"n": len(rows())}]


@pytest.mark.parametrize(
    ("failure", "kind", "text"),
    [
        (Failure(625, "57014", "Statement 'x' has locked table 'T'"), "busy", "has locked table"),
        (Failure(630, "57014", "Statement reached its statement or warehouse timeout"), "timeout", "timeout"),
        (Failure(90073, "22000", "Warehouse 'W' cannot be resumed because ..."), "quota", "cannot be resumed"),
        (Failure(603, "XX000", "SQL execution internal error"), "server", "internal error"),
        (Failure(606, "57P03", "No active warehouse selected in the current session."), "operator", "set warehouse"),
        (Failure(3001, "42501", "Insufficient privileges to operate on table 'T'"), "operator", "the role needs USAGE"),
        (Failure(390114, "08001", "Authentication token has expired."), "session", "token has expired"),
    ],
)
def test_what_is_no_fault_of_rows_is_waited_for(world: World, failure: Failure, kind: str, text: str) -> None:
    """Locks, limits, rights and sessions that end make the sink wait; the rows are written when that is over."""
    with front_of(world.server) as front, world.opened(url=front.url) as sink:
        sink.write([part(0, rows()[:5])])
        front.faults.append(("COPY" if kind in {"quota", "operator"} else "MERGE", failure))
        with pytest.raises(Retry, match=text) as raised:
            sink.write([part(0, rows())])
        assert raised.value.kind == kind
        assert sink.write([part(0, rows())]) == Outcome(len(rows()) - 5, 5)


def test_a_load_that_lacks_rows_is_repeated(world: World) -> None:
    """What the service says to have copied must be what it got."""
    with front_of(world.server) as front, world.opened(url=front.url) as sink:
        sink.write([part(0, rows()[:5])])
        front.faults.append(("PUT", LostAnswer()))
        front.faults.append(("TRUNCATE", Failure(2003, "42S02", "Object 'BLOBTIDE_X' does not exist or not authorized.")))
        with pytest.raises(Retry, match="has no such object"):
            sink.write([part(0, rows())])
        assert sink.write([part(0, rows())]) == Outcome(len(rows()) - 5, 5)


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


class Keys:
    """A key pair of a user: files with the private key, encrypted, and its passphrase."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
        self.file, self.passphrase_file = directory / "key.p8", directory / "passphrase"
        self.file.write_bytes(key.private_bytes(*form, serialization.BestAvailableEncryption(PASSWORD.encode())))
        self.passphrase_file.write_text(f"{PASSWORD}\n")
        public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.public = public.decode()

    @property
    def options(self) -> dict[str, Any]:
        """The options of a sink that signs in with it."""
        return {"password": None, "private_key_file": self.file, "private_key_passphrase_file": self.passphrase_file}


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """Give a key pair."""
    return Keys(tmp_path / "keys")


@pytest.fixture
def guarded(tmp_path: Path, keys: Keys) -> Iterator[LocalSnowflake]:
    """A server that wants TLS and one of three ways to sign in."""
    rules = SnowflakeRules({"LOADER": PASSWORD}, {"LOADER": keys.public}, (TOKEN,))
    server = LocalSnowflake(tmp_path / "snowflake", rules=rules, tls=server_tls(tmp_path))
    with serving(server):
        yield server


def test_ways_to_sign_in(guarded: LocalSnowflake, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key pair, a password or an OAuth token works, over TLS; a wrong one is told, and no secret is shown."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    world = World(guarded)
    (tmp_path / "token").write_text(TOKEN)
    others = Keys(tmp_path / "others")
    user = {"username": "loader"}
    for options in (
        user | keys.options,
        user | {"password": PASSWORD},
        {"username": None, "password": None, "oauth_token_file": tmp_path / "token"},
    ):
        with world.opened(**options) as sink:
            assert sink.write([part(0, rows())]) in {Outcome(len(rows())), Outcome(0, len(rows()))}
    for options, text in (
        (user | others.options, "does not accept our sign-in: check username, and the key"),
        (user | keys.options | {"username": "nobody"}, "does not accept our sign-in"),
        (user | {"password": TOKEN}, "does not accept our sign-in"),
        ({"username": None, "password": None, "oauth_token": PASSWORD}, "does not accept the OAuth token"),
    ):
        with pytest.raises(ConfigError, match=text) as raised:
            world.sink(**options).open()
        assert PASSWORD not in str(raised.value)
        assert TOKEN not in str(raised.value)


def test_a_certificate_that_is_not_trusted_ends_the_start(
    guarded: LocalSnowflake, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the authority nothing is sent."""
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="shows a certificate that is not accepted"):
        World(guarded).sink(username="loader", **keys.options).open()


def test_a_token_that_is_replaced_is_read_again(
    guarded: LocalSnowflake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sink whose token has expired waits, and goes on with the one that stands in its file then."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    file = tmp_path / "token"
    file.write_text(TOKEN)
    with World(guarded).opened(username=None, password=None, oauth_token_file=file) as sink:
        sink.write([part(0, rows()[:5])])
        file.write_text("expired")
        with pytest.raises(Retry, match="does not accept the OAuth token") as raised:
            sink.write([part(1, rows())])
        assert raised.value.kind == "operator"
        file.write_text(TOKEN)
        assert sink.write([part(1, rows())]) == Outcome(len(rows()) - 5, 5)


def test_a_session_says_who_it_is(world: World) -> None:
    """The query history shows the name of the sink for its statements."""
    sink = world.sink()
    sink.setup()
    sink.join("hot", Settings())
    sink.open()
    with closing(sink):
        sink.write([part(0, rows()[:1])])
        connection = sink._session.connection._connection  # type: ignore[union-attr]
        assert connection._session_parameters["QUERY_TAG"] == "blobtide sink hot"
