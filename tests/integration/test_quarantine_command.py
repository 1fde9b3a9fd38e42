"""`blobtide quarantine` on a real Kafka."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from libs.common.errors import ConfigError
from libs.common.kafka.records import Outbound
from libs.common.kafka.writing import write
from libs.common.messages.events import (
    QUARANTINED,
    BlobCheckpoint,
    BlobQuarantined,
    BlobReleased,
    BlobState,
    BlobStatus,
    CheckpointStatus,
    Event,
    Stream,
    decode_event,
    encode_event,
)
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from services.cli.main import run
from tests.topic_tools import committed_records

pytestmark = pytest.mark.kafka

T = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
PARSED, READ, FORGOTTEN, RELEASED = "s.e/logs/parsed", "s.e/logs/read", "s.e/logs/forgotten", "s.e/logs/released"
HELD = BlobQuarantined(PARSED, "g", 14, 200, 150, T)
CRASHED = BlobCheckpoint(READ, "h", CheckpointStatus.OPEN, 70, 1, 5, "", 90, 1, "d", None, T.replace(hour=13), crashes=5)
STATE = BlobState(PARSED, "s", "e", Stream.PROXY_LOGS, BlobStatus.CLOSED, '"1"', 90, "AppendBlob", T, T, T, T, 12, "")


def record(topic: str, event: Event, *headers: tuple[str, bytes]) -> Outbound:
    """Return an event as its service writes it."""
    return Outbound(topic, encode_event(event), event.blob.encode(), headers)  # type: ignore[union-attr]


@pytest.fixture
def config(kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path) -> str:
    """Write a settings file, and topics in which two blobs are in quarantine, and one that the monitor does not know."""
    file = tmp_path / "config.yaml"
    kafka = {"bootstrap_servers": kafka_settings.bootstrap_servers, "group_prefix": kafka_settings.group_prefix}
    file.write_text(yaml.safe_dump({"kafka": kafka, "topics": topics.model_dump()}))
    quarantine, checkpoints, states = topics.quarantine, topics.checkpoints, topics.blob_state
    write(
        kafka_settings,
        [
            Outbound(quarantine, encode_event(HELD), PARSED.encode(), partition=3),
            record(quarantine, replace(HELD, blob=FORGOTTEN, quarantined_at=T.replace(hour=14))),
            record(quarantine, replace(HELD, blob=RELEASED)),
            Outbound(quarantine, None, RELEASED.encode()),
            Outbound(quarantine, b"garbage", b"garbage"),
            record(checkpoints, CRASHED, QUARANTINED),
            record(checkpoints, replace(CRASHED, blob=RELEASED), QUARANTINED),
            record(checkpoints, replace(CRASHED, blob=RELEASED, crashes=0)),
            record(states, STATE),
            record(states, replace(STATE, blob=READ, status=BlobStatus.OPEN)),
        ],
    )
    return str(file)


def listed(config: str, capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str, int]]:
    """Return what is in quarantine."""
    capsys.readouterr()
    assert run(["quarantine", "list", "--format", "json", "--config", config]) == 0
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [(entry["stage"], entry["blob"], entry["offset"]) for entry in entries]


def announced(kafka: KafkaSettings, topics: TopicSettings) -> list[BlobReleased]:
    """Return the releases that ingest is told of."""
    events = [decode_event(record.value or b"") for record in committed_records(kafka, topics.blobs)]
    assert all(isinstance(event, BlobReleased) for event in events)
    return [event for event in events if isinstance(event, BlobReleased)]


def test_blobs_in_quarantine_are_listed(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of both services, the oldest first, without those that were released; text says since when and why."""
    assert listed(config, capsys) == [("parser", PARSED, 14), ("ingest", READ, 70), ("parser", FORGOTTEN, 14)]
    assert run(["quarantine", "list", "--config", config]) == 0
    shown = capsys.readouterr()
    first, *_ = shown.out.splitlines()
    assert first.startswith("2026-05-01T12:30:00+00:00  parser")
    assert first.endswith('"s.e/logs/parsed"  from 14: 150 of 200 rows and records were bad')
    assert "3 in quarantine" in shown.err
    assert "skipping an unreadable record" in shown.err


def test_a_release_tells_the_service_that_left_the_blob_alone(
    config: str, kafka_settings: KafkaSettings, topics: TopicSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """The parser by a record without a value where it wrote its own, ingest by an announcement."""
    assert run(["quarantine", "release", PARSED, READ, "--config", config]) == 0
    last = [one for one in committed_records(kafka_settings, topics.quarantine) if one.key == PARSED.encode()][-1]
    assert (last.value, last.partition) == (None, 3)
    (event,) = announced(kafka_settings, topics)
    assert (event.blob, event.stream, event.status, event.replay_id) == (READ, Stream.PROXY_LOGS, BlobStatus.OPEN, "")
    assert [entry for entry in listed(config, capsys) if entry[1] == PARSED] == []


def test_a_release_with_a_replay_has_the_blob_read_from_its_beginning(
    config: str, kafka_settings: KafkaSettings, topics: TopicSettings
) -> None:
    """Each replay has a name of its own; where the blob begins to count stays as it is."""
    for _ in range(2):
        assert run(["quarantine", "release", "--replay", READ, "--config", config]) == 0
    first, second = announced(kafka_settings, topics)
    assert first.replay_id != second.replay_id != ""
    assert (first.etag, first.size, first.blob_type, first.baseline_offset) == ('"1"', 90, "AppendBlob", 12)


@pytest.mark.parametrize(
    ("words", "said"), [([RELEASED], "is not in quarantine"), (["--replay", PARSED, FORGOTTEN], "monitor")]
)
def test_what_cannot_be_released_is_said_before_anything_is_written(
    words: list[str],
    said: str,
    config: str,
    kafka_settings: KafkaSettings,
    topics: TopicSettings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A blob that is not in quarantine, or that cannot be announced since nobody knows it."""
    before = listed(config, capsys)
    assert run(["quarantine", "release", *words, "--config", config]) == ConfigError.exit_code
    assert said in capsys.readouterr().err
    assert listed(config, capsys) == before
    assert announced(kafka_settings, topics) == []
