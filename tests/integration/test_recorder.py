"""Recorders on a real Kafka, with sources of every kind: processes that are started, stopped and killed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from libs.common.rows.types.snapshots import SNAPSHOTS
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from tests.answer_server import AnswerServer, Asked, Reply, answering
from tests.canaries import TOKEN
from tests.recorder_process import SECONDS, Recorders

pytestmark = pytest.mark.kafka

ODD = b' {"b": 1.50,\n "a": 1E3, "a": "\xc3\xa9\\u00e9"}'
KILLS = ("recorder.committed@4", "transaction.written@6")


@pytest.fixture
def server() -> Iterator[AnswerServer]:
    """Return an HTTP server on this machine."""
    with answering() as made:
        yield made


@pytest.fixture
def recorders(kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path) -> Iterator[Recorders]:
    """Return what runs recorders, which have no sources yet."""
    made = Recorders(kafka_settings, topics, tmp_path, ())
    yield made
    made.close()


def counting(server: AnswerServer, path: str) -> None:
    """Answer each request for a path with the next number."""
    numbers = count()
    server.replies[path] = lambda _: Reply(json.dumps({"number": next(numbers)}).encode())


def source(server: AnswerServer, name: str, **settings: Any) -> dict[str, Any]:
    """Return the settings of a source that is asked often."""
    return {"name": name, "url": server.url, "path": f"/{name}", "interval_seconds": 0.3, "timeout_seconds": 2, **settings}


def numbers(rows: list[dict[str, Any]]) -> list[int]:
    """Return what a counting source answered."""
    return [json.loads(row["record"])["number"] for row in rows]


def changing(asked: Asked) -> Reply:
    """Answer once, and then that nothing has changed."""
    if asked.headers.get("if-none-match") == '"1"':
        return Reply(b"", 304)
    return Reply(b"{}", headers={"ETag": '"1"'})


def test_every_source_is_recorded_whatever_the_others_do(server: AnswerServer, recorders: Recorders) -> None:
    """Good answers keep their bytes; bad ones are dead letters with theirs; what fails is asked again; the end is in order."""
    hold = threading.Event()
    counting(server, "/count")
    server.say("/odd", Reply(ODD))
    server.say("/items", Reply(b'{"flows":[{"n":1},{"n":2}]}'))
    server.say("/html", Reply(b"<html>"))
    server.say("/large", Reply(bytes(2_000)))
    server.say("/ill", Reply(b"", 500), Reply(None), Reply(b'{"well": true}'))
    server.say("/slow", Reply(b"{}", hold=hold))
    server.replies["/same"] = changing
    recorders.sources = [
        source(server, "count", bearer_token=TOKEN),
        source(server, "odd", wrap="odd"),
        source(server, "items", items="flows"),
        *(source(server, name, max_bytes=1_000) for name in ("html", "large", "ill", "slow")),
        source(server, "same", unchanged="skip"),
    ]
    with recorders.running(level="trace"):
        recorders.until(lambda: all(map(recorders.of, ("count", "odd", "items", "ill", "same"))), "a row of each good source")
        recorders.until(lambda: {letter.key for letter in recorders.letters} == {b"html", b"large"}, "dead letters")
        recorders.until(lambda: server.times("/same") > 2 and server.times("/slow") > 1, "more requests")
    hold.set()
    recorders.drain()
    assert numbers(recorders.of("count")) == list(range(server.times("/count")))
    assert {row["sequence"]: row["record"] for row in recorders.of("odd")}[0].encode().endswith(b',"odd":' + ODD + b"}")
    first, second = recorders.of("items")[:2]
    assert (first["sequence"], first["item"], second["sequence"], second["item"]) == (0, 0, 0, 1)
    assert {letter.key: letter.value for letter in recorders.letters} == {b"html": b"<html>", b"large": bytes(1_000)}
    assert (len(recorders.of("same")), recorders.of("slow")) == (1, [])
    log = recorders.log().read_text()
    assert "'number': 0" in log or '"number": 0' in log
    assert "the source cannot be recorded" in log
    assert TOKEN not in log


def test_every_acknowledged_answer_is_there_once_whenever_recorders_are_killed(
    server: AnswerServer, recorders: Recorders
) -> None:
    """Numbers of a source have no gap and no repetition over kills and take-overs, and no answer is there twice."""
    names = ("a", "c", "d", "f")  # of which each is on a partition of its own
    for name in names:
        counting(server, f"/{name}")
    recorders.sources = [source(server, name) for name in names]
    with recorders.running(0), recorders.running(1) as other:
        recorders.until(lambda: all(map(recorders.of, names)), "rows of all sources")
        other.kill()
        other.wait()
        seen = {name: len(recorders.of(name)) for name in names}
        recorders.until(lambda: all(len(recorders.of(name)) > seen[name] + 2 for name in names), "a take-over")
    for kill in KILLS:
        with recorders.running(0, kill) as process:
            process.wait(SECONDS)
    recorders.drain()
    before = len(recorders.rows)
    with recorders.running(0):
        recorders.until(lambda: len(recorders.rows) > before + 4, "rows after the kills")
    recorders.drain()
    for name in names:
        rows = recorders.of(name)
        assert len({row["run"] for row in rows}) == 1
        assert [row["sequence"] for row in rows] == list(range(len(rows)))
        assert numbers(rows) == sorted(set(numbers(rows)))
        assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    assert set(recorders.rows[0]) == set(SNAPSHOTS.names)
