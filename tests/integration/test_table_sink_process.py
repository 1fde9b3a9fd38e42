"""Sinks with tables as processes on a real Kafka: killed, started again and stopped, they leave each row once."""

from __future__ import annotations

import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from libs.common.rows.types.flows import FLOWS
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.postgres import ADMIN
from libs.local.snowflake import LocalSnowflake
from services.sinks.frame.registry import configured_sink
from tests.delta_log import rows_of
from tests.flows import rows
from tests.sink_process import SECONDS, produce, sink_process, write_config
from tests.snowflake_tables import ask

pytestmark = pytest.mark.kafka
CONTENT = rows(blobs=8, records=8, tuples=8)
KINDS = ("postgres", "sqlite", "delta", "snowflake")
SERVERS = {"postgres", "snowflake"}


class World:
    """A kind with its options, and how many rows are at its destination."""

    def __init__(self, kind: str, options: dict[str, Any], count: Callable[[], tuple[int, int]]) -> None:
        self.kind = kind
        self.options = options
        self.count = count


@pytest.fixture(params=[pytest.param(kind, marks=getattr(pytest.mark, kind) if kind in SERVERS else ()) for kind in KINDS])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Give a destination of each kind; its count is of rows and of distinct ones."""
    kind = request.param
    if kind == "delta":
        table = tmp_path / "table"
        options: dict[str, Any] = {"directory": str(tmp_path / "state"), "table": str(table), "commit_seconds": 1}
        yield World(kind, options, lambda: _count_delta(table))
    elif kind == "sqlite":
        file = tmp_path / "rows.db"
        yield World(kind, {"file": str(file)}, lambda: _count_sqlite(file))
    elif kind == "snowflake":
        server, name = request.getfixturevalue("snowflake"), f"T{uuid4().hex[:20]}"
        yield World(kind, {**server.login, "table": name}, lambda: _count_snowflake(server, name))
    else:
        port, name = request.getfixturevalue("postgres").port, f"t{uuid4().hex[:20]}"
        options = {"hosts": f"127.0.0.1:{port}", "username": ADMIN, "table": name}
        yield World(kind, options, lambda: _count_postgres(port, name))


def _count_delta(table: Path) -> tuple[int, int]:
    found = rows_of(table)
    if found is None:
        return 0, 0
    return found.num_rows, found.select(FLOWS.position.names).group_by(list(FLOWS.position.names)).aggregate([]).num_rows


def _count_sqlite(file: Path) -> tuple[int, int]:
    distinct = f"SELECT count(*) FROM (SELECT DISTINCT {', '.join(FLOWS.position.names)} FROM flows)"  # noqa: S608
    with closing(sqlite3.connect(file)) as database:
        return database.execute("SELECT count(*) FROM flows").fetchone()[0], database.execute(distinct).fetchone()[0]


def _count_postgres(port: int, name: str) -> tuple[int, int]:
    with psycopg.connect(host="127.0.0.1", port=port, user=ADMIN, dbname="postgres") as connection:
        position = ", ".join(FLOWS.position.names)
        counted: Any = f"SELECT count(*), count(DISTINCT ({position})) FROM {name}"  # noqa: S608
        (found,) = connection.execute(counted).fetchall()
    return found[0], found[1]


def _count_snowflake(server: LocalSnowflake, name: str) -> tuple[int, int]:
    position = ", ".join(FLOWS.position.names)
    (found,) = ask(server, f"SELECT COUNT(*) AS N, COUNT(DISTINCT {position}) AS M FROM {name}")  # noqa: S608
    return found["n"], found["m"]


def test_kills_and_stops_leave_each_row_once(
    world: World, kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path
) -> None:
    """SIGKILL in the middle of writing, a new start, and SIGTERM: afterwards all rows are there, each once."""
    configured_sink({world.kind: world.options}, world.kind).sink.setup()
    options = {**world.options, "batch": {"messages": 4, "seconds": 1}}
    config = write_config(tmp_path / "config.yaml", kafka_settings, topics, {world.kind: options})
    produce(kafka_settings, topics.flows, CONTENT[: len(CONTENT) // 2])
    with sink_process(config, world.kind) as process:
        _wait(process, lambda: world.count()[0] > 0, config)
        process.kill()
        process.wait()
    produce(kafka_settings, topics.flows, CONTENT)
    with sink_process(config, world.kind) as process:
        _wait(process, lambda: world.count()[0] == len(CONTENT), config)
        process.terminate()
        assert process.wait(SECONDS) == 0
    assert world.count() == (len(CONTENT), len(CONTENT))
    assert "Traceback" not in (tmp_path / "sink.log").read_text()


def _wait(process: subprocess.Popen[bytes], happened: Callable[[], bool], config: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert process.poll() is None, (config.parent / "sink.log").read_text()
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.5)
