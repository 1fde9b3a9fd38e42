"""Recorders and an archive, killed at random moments while their sources go on: every acknowledged snapshot is in one zip."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from libs.common.settings.kafka import KafkaSettings, TopicSettings
from tests.answer_server import AnswerServer, answering
from tests.canaries import TOKEN
from tests.fixtures.long import Scale
from tests.pipeline import Account, Pipeline, Plan
from tests.recorder_process import SECONDS, Recorders
from tests.serial_answers import SOURCES, SerialAnswers, assert_recorded_once
from tests.snapshots import archived, as_archived

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(3600)]

SEED = 20261130


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
