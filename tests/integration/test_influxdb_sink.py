"""What the influxdb sink does beyond the sink contract, at a real InfluxDB 1 and a real VictoriaMetrics."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import urllib3

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.types.flows import FLOWS
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.influxdb import InfluxRules, LocalInfluxDB
from libs.local.victoria_metrics import LocalVictoriaMetrics
from services.sinks.frame.contract import Outcome
from services.sinks.kinds.influxdb.settings import InfluxSettings
from services.sinks.kinds.influxdb.sink import InfluxSink
from tests.canaries import PASSWORD
from tests.certificates import server_tls
from tests.fixtures.servers import serving
from tests.flows import Spot, part, row, rows
from tests.sink_process import SECONDS, produce, sink_process, write_config

pytestmark = pytest.mark.influxdb
ADMIN = {"u": "admin", "p": PASSWORD}


def ask(server: LocalInfluxDB, query: str, directory: Path | None = None, **fields: str) -> list[dict[str, Any]]:
    """Run a query and return its series."""
    with urllib3.PoolManager(ca_certs=None if directory is None else str(directory / "ca.pem")) as http:
        answer = http.request_encode_url("POST", f"{server.url}/query", fields={"q": query, "epoch": "ns", **fields})
    assert answer.status == 200, answer.data
    (result,) = answer.json()["results"]
    assert "error" not in result, result
    return list(result.get("series", []))


def count(server: LocalInfluxDB, database: str, measurement: str = "flows") -> int:
    """Return how many points there are."""
    series = ask(server, f'SELECT count("tuple_index") FROM "{measurement}"', db=database)  # noqa: S608
    return int(series[0]["values"][0][1]) if series else 0


def settings(server: LocalInfluxDB, database: str, **options: Any) -> InfluxSettings:
    """Return the settings of a sink."""
    base = {"hosts": server.url, "api": "v1", "database": database, "timeout_seconds": 5}
    return InfluxSettings.model_validate(base | options)


@contextmanager
def sink_of(server: LocalInfluxDB, database: str, **options: Any) -> Iterator[InfluxSink]:
    """Set up a database and open a sink."""
    sink = InfluxSink(settings(server, database, **options), FLOWS)
    sink.setup()
    sink.open()
    try:
        yield sink
    finally:
        sink.close()


@contextmanager
def ruled(directory: Path, rules: InfluxRules) -> Iterator[LocalInfluxDB]:
    """Run a server with rules of its own."""
    server = LocalInfluxDB(directory / "server", rules=rules)
    with serving(server):
        yield server


@pytest.fixture
def database() -> str:
    """Return an unused name."""
    return f"test_{uuid4().hex}"


def test_equal_times_and_tags_are_no_equal_points(influxdb: LocalInfluxDB, database: str) -> None:
    """Thousands of rows of one millisecond with the same tags are as many points, once, however often they are written."""
    same = {"time": 1_777_636_800_000, "mac": "same", "rule": "same"}
    content = [row(Spot(blob, 0, index), **same) for blob in range(3) for index in range(2_000)]
    with sink_of(influxdb, database, tags=["mac", "rule"]) as sink:
        first = sink.write([part(0, content)])
        assert first.written == len(content)
        for size in (500, 1_700):
            for at in range(0, len(content), size):
                assert not sink.write([part(0, content[at : at + size])]).written
    assert count(influxdb, database) == len(content)


def test_series_are_few(influxdb: LocalInfluxDB, database: str) -> None:
    """Addresses and ports are fields: many rows of an interface are a few series."""
    content = [row(Spot(1, 0, index), src_port=index, src_ip=f"10.0.{index % 250}.{index % 200}") for index in range(5_000)]
    with sink_of(influxdb, database) as sink:
        sink.write([part(0, content)])
    series = ask(influxdb, f'SHOW SERIES ON "{database}"')[0]["values"]
    assert len(series) < 200


def test_points_with_another_type_than_before_are_named(influxdb: LocalInfluxDB, database: str) -> None:
    """Where a field has another type already, only those rows are refused that have it; the others are there."""
    with sink_of(influxdb, database, lines=50) as sink:
        with urllib3.PoolManager() as http:  # another writer has the field as text
            line = b'flows,rule=other bytes_sent="text",tuple_index=0i 1777636800000000000\n'
            assert http.request("POST", f"{influxdb.url}/write?db={database}", body=line).status == 204
        content = [row(Spot(0, record, 0), bytes_sent=7 if record in {3, 40, 41} else None) for record in range(120)]
        outcome = sink.write([part(0, content)])
    assert [one.row for one in outcome.rejected] == [3, 40, 41]
    assert outcome.rejected[0].code is ErrorCode.REFUSED
    assert 'field type conflict: input field "bytes_sent"' in outcome.rejected[0].reason
    assert outcome.written == 117
    assert count(influxdb, database) == 118


def test_points_beyond_the_retention_are_named(influxdb: LocalInfluxDB, database: str) -> None:
    """Rows that are older than the retention policy keeps are refused by name, and newer ones are there."""
    now = int(time.time() * 1_000)
    old = {5, 6, 60}
    content = [row(Spot(0, at, 0), time=now - (86_400_000 * 40 if at in old else 0)) for at in range(80)]
    with sink_of(influxdb, database, retention_days=2, lines=50) as sink:
        outcome = sink.write([part(0, content)])
    assert {one.row for one in outcome.rejected} == old
    assert all("beyond retention policy" in one.reason for one in outcome.rejected)
    assert count(influxdb, database) == 77


def test_a_limit_of_the_server_is_waited_out(tmp_path: Path, database: str) -> None:
    """When the database may have no more series it is a Retry that says so, and no row is given up."""
    content = [row(Spot(0, 0, index), rule=f"rule {index}") for index in range(30)]
    with ruled(tmp_path, InfluxRules(max_series=10)) as server, sink_of(server, database) as sink:
        with pytest.raises(Retry, match=r"reached a limit of its own: .*max-series-per-database") as raised:
            sink.write([part(0, content)])
        assert raised.value.kind == "limit"


def test_a_body_that_is_too_large_is_divided(tmp_path: Path, database: str) -> None:
    """A server, or a proxy, that takes small requests only gets smaller ones."""
    with ruled(tmp_path, InfluxRules(max_body_bytes=5_000)) as server, sink_of(server, database) as sink:
        outcome = sink.write([part(0, rows(5, 10, 20))])
        assert outcome == Outcome(1_000)
        assert count(server, database) == 1_000


def test_a_missing_database_is_named_at_the_start_and_waited_for_later(influxdb: LocalInfluxDB, database: str) -> None:
    """Without the database a start says what to run; when it vanishes later, rows wait until it is back."""
    with pytest.raises(ConfigError, match=f"no database {database} .*sink-setup"):
        InfluxSink(settings(influxdb, database), FLOWS).open()
    with sink_of(influxdb, database) as sink:
        ask(influxdb, f'DROP DATABASE "{database}"')
        with pytest.raises(Retry, match="answers 404: database not found") as raised:
            sink.write([part(0, rows())])
        assert raised.value.kind == "status_404"
        assert sink.setup() == f"database {database} is there"
        sink.write([part(0, rows())])
    assert count(influxdb, database) == len(rows())


def test_users_and_rights_over_tls(tmp_path: Path, database: str) -> None:
    """A user with the right to write may write; a wrong password, no right and an unknown authority are ConfigErrors."""
    with ruled(tmp_path, InfluxRules(has_users=True, tls=server_tls(tmp_path))) as server:
        ask(server, f"CREATE USER admin WITH PASSWORD '{PASSWORD}' WITH ALL PRIVILEGES", tmp_path)
        users = ("CREATE USER writer WITH PASSWORD 'w'", "CREATE USER reader WITH PASSWORD 'r'")
        for query in (f'CREATE DATABASE "{database}"', *users):
            ask(server, query, tmp_path, **ADMIN)
        ask(server, f'GRANT WRITE ON "{database}" TO writer', tmp_path, **ADMIN)
        right = {"username": "writer", "password": "w", "ca_file": tmp_path / "ca.pem"}
        sink = InfluxSink(settings(server, database, **right), FLOWS)
        sink.open()
        assert sink.write([part(0, rows())]) == Outcome(len(rows()))
        sink.close()
        for changes, said in (
            ({"password": "wrong-password"}, "denies the sign-in"),
            ({"username": "reader", "password": "r"}, "denies the right"),
            ({"ca_file": None}, "certificate is not trusted; set ca_file"),
        ):
            with pytest.raises(ConfigError, match=said) as raised:
                InfluxSink(settings(server, database, **right | changes), FLOWS).open()
            assert "wrong-password" not in str(raised.value)
        with pytest.raises(ConfigError, match=r"denies the right|does not create"):
            InfluxSink(settings(server, f"{database}_2", **right), FLOWS).setup()
        owner = {**right, "username": "admin", "password": PASSWORD}
        assert InfluxSink(settings(server, f"{database}_2", **owner, retention_days=30), FLOWS).setup().endswith("is there")
        (policies,) = ask(server, f'SHOW RETENTION POLICIES ON "{database}_2"', tmp_path, **ADMIN)
        assert ["days_30", "720h0m0s"] in [policy[:2] for policy in policies["values"]]


def test_a_server_killed_while_rows_are_sent_loses_none(influxdb: LocalInfluxDB, database: str) -> None:
    """Whatever was answered when the server died is there, and the rest when the rows are written again: each once."""
    content = rows(blobs=20, records=20, tuples=20)
    with sink_of(influxdb, database, lines=100) as sink:
        for attempt in range(3):
            killer = threading.Timer(0.05 * (attempt + 1), influxdb.kill)
            killer.start()
            try:
                sink.write([part(0, content)])
            except Retry:
                pass
            finally:
                killer.join()
            influxdb.start()
        sink.write([part(0, content)])
    assert count(influxdb, database) == len(content)


@pytest.mark.victoria_metrics
def test_victoria_metrics_takes_points_by_version_2(victoria_metrics: LocalVictoriaMetrics, tmp_path: Path) -> None:
    """It needs no set-up, checks its user, and is said to replace nothing."""
    sink = InfluxSink(InfluxSettings.model_validate({"hosts": victoria_metrics.url, "overwrites": False}), FLOWS)
    assert sink.setup() == "the server has no buckets: nothing to create"
    server = LocalVictoriaMetrics(tmp_path / "server", login=("writer", PASSWORD))
    with serving(server):
        base = {"hosts": server.url, "username": "writer", "overwrites": False}
        sink = InfluxSink(InfluxSettings.model_validate({**base, "password": PASSWORD}), FLOWS)
        sink.open()
        assert sink.write([part(0, rows())]) == Outcome(len(rows()))
        sink.close()
        with pytest.raises(ConfigError, match="denies the sign-in"):
            InfluxSink(InfluxSettings.model_validate({**base, "password": "other"}), FLOWS).open()


def test_a_server_that_is_not_there_is_named(tmp_path: Path, database: str) -> None:
    """A start says which address does not answer."""
    server = LocalInfluxDB(tmp_path)
    with pytest.raises(ServerUnreachable, match=f"{server.url} does not respond: .*is InfluxDB running"):
        InfluxSink(settings(server, database), FLOWS).open()


@pytest.mark.kafka
def test_a_process_that_is_stopped_goes_on_later(
    influxdb: LocalInfluxDB, database: str, kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path
) -> None:
    """SIGTERM in the middle ends it cleanly; a second process delivers the rest, and every row is there once."""
    content = rows(blobs=8, records=10, tuples=10)
    options = {"hosts": [influxdb.url], "api": "v1", "database": database, "batch": {"messages": 5}}
    InfluxSink(settings(influxdb, database), FLOWS).setup()
    config = write_config(tmp_path / "config.yaml", kafka_settings, topics, {"influxdb": options})
    produce(kafka_settings, topics.flows, content)
    with sink_process(config, "influxdb") as process:
        _wait_until(lambda: count(influxdb, database) > 0)
        process.terminate()
        assert process.wait(SECONDS) == 0
    with sink_process(config, "influxdb"):
        _wait_until(lambda: count(influxdb, database) >= len(content))
    assert count(influxdb, database) == len(content)


def _wait_until(happened: Any) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
