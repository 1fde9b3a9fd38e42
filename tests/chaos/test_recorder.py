"""Recorders and an archive, killed at random moments while their sources go on: every acknowledged snapshot is in one zip."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from libs.common.settings.kafka import KafkaSettings, TopicSettings
from tests.answer_server import AnswerServer, Asked, Reply, answering
from tests.canaries import TOKEN
from tests.fixtures.long import Scale
from tests.pipeline import Account, Pipeline, Plan
from tests.recorder_process import SECONDS, Recorders
from tests.snapshots import archived, as_archived

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(3600)]

SEED = 20261130
SOURCES = ("a", "c")  # of which each is on a partition of its own


class SerialAnswers:
    """Answers each request for a source with a number that it had in no other, spelled as no JSON library would."""

    def __init__(self, server: AnswerServer) -> None:
        self.given: dict[str, list[bytes]] = {name: [] for name in SOURCES}
        for name in SOURCES:
            server.replies[f"/{name}"] = self._next

    def _next(self, asked: Asked) -> Reply:
        given = self.given[asked.path.removeprefix("/")]
        given.append(b'{"serial": %d, "rate":1.50, "rate":1E3, "\xc3\xa9": "\\u00e9"}' % len(given))
        return Reply(given[-1])


@pytest.fixture
def server() -> Iterator[AnswerServer]:
    """Return an HTTP server on this machine."""
    with answering() as made:
        yield made


def plan_of(kafka: KafkaSettings, topics: TopicSettings, directory: Path, server: AnswerServer) -> Plan:
    """Return two recorders that share the sources, and an archive whose files are short."""
    options: dict[str, Any] = {"interval_seconds": 0.2, "url": server.url, "bearer_token": TOKEN}
    sources = [{"name": name, "path": f"/{name}", **options} for name in SOURCES]
    sinks = {"archive": {"directory": str(directory / "zips"), "rotate_seconds": 1, "batch": {"messages": 5, "seconds": 0.2}}}
    return Plan(kafka, topics, Account(""), (), directory, sinks, 0, 0, 0, recorders=2, recorder={"sources": sources})


def assert_recorded_once(rows: list[dict[str, Any]], given: list[bytes]) -> None:
    """Check the rows of one source: they have no gap, none is doubled, and each has the bytes of an answer of its own.

    Raises:
        AssertionError: if not.
    """
    assert len({row["run"] for row in rows}) == 1
    assert [row["sequence"] for row in rows] == list(range(len(rows)))
    assert [_answer_in(row) for row in rows] == [given[_serial(row)][1:] for row in rows]
    serials = [_serial(row) for row in rows]
    assert serials == sorted(set(serials))


def _answer_in(row: dict[str, Any]) -> bytes:
    """Return what follows the time in a record: all of the answer but its first brace."""
    rest: bytes = row["record"].encode().partition(b",")[2]
    return rest


def _serial(row: dict[str, Any]) -> int:
    return int(row["record"].partition('"serial": ')[2].partition(",")[0])


def test_every_acknowledged_snapshot_is_archived_once_whatever_is_killed(
    kafka_settings: KafkaSettings, topics: TopicSettings, server: AnswerServer, tmp_path: Path, scale: Scale
) -> None:
    """Recorders and archive die one after the other, and at any time; what Kafka has is what the zips hold, byte for byte."""
    dice, answers = random.Random(SEED), SerialAnswers(server)
    plan = plan_of(kafka_settings, topics, tmp_path, server)
    read = Recorders(kafka_settings, topics, tmp_path, ())
    with Pipeline(plan).running() as pipeline:
        pipeline.wait_until_ready()
        for name in islice(cycle(pipeline.names()), 60 if scale is Scale.LONG else 4):
            pipeline.go_on_for(dice.uniform(0.1, 2))
            pipeline.kill(name)
        before = {name: len(given) for name, given in answers.given.items()}
        pipeline.wait(
            lambda: all(len(given) > before[name] + 3 for name, given in answers.given.items()), SECONDS, "answers after kills"
        )
        pipeline.take_out("recorder-0", "recorder-1")
        read.drain()
        pipeline.wait(lambda: archived(tmp_path / "zips").total() >= len(read.rows), SECONDS, "snapshots in zips")
        pipeline.take_out("sink-archive-0")
    read.close()
    assert archived(tmp_path / "zips") == as_archived(read.rows)
    for name in SOURCES:
        assert_recorded_once(read.of(name), answers.given[name])
    assert not read.letters
