"""`blobtide inspect` on a real Azurite and a real Kafka."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from libs.common.azure.storage.writer import BlobWriter, Target
from libs.common.kafka.records import Outbound
from libs.common.kafka.writing import write
from libs.common.messages.events import (
    BlobCheckpoint,
    BlobCompletion,
    BlobState,
    BlobStatus,
    CheckpointStatus,
    Stream,
    encode_event,
)
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.storage import StorageAccount
from libs.local.azurite import LocalAzurite
from services.cli.main import run

pytestmark = [pytest.mark.azurite, pytest.mark.kafka]

T = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
NAME = "resourceId=/NSG/y=2026/m=05/d=01/h=12/m=00/macAddress=0A/PT1H.json"
STATE = BlobState("", "s", "e", Stream.FLOW_LOGS, BlobStatus.OPEN, "0x1", 40, "BlockBlob", T, T, T, T)
CHECKPOINT = BlobCheckpoint("", "g2", CheckpointStatus.OPEN, 38, 2, 7, "0x1", 40, 4, "d", None, T)
COMPLETIONS = [BlobCompletion("", "g2", CheckpointStatus.OPEN, start, start + 19, 1, 3, T) for start in (0, 19)]


@pytest.fixture
def config(azurite: LocalAzurite, container: str, kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path) -> str:
    """Settings that cover a container."""
    secret = tmp_path / "connection"
    secret.write_text(azurite.connection_string)
    environment = {"storage": {"connection_string_file": str(secret)}, "sources": [{"container": container}]}
    kafka = {"bootstrap_servers": kafka_settings.bootstrap_servers, "group_prefix": kafka_settings.group_prefix}
    values = {"kafka": kafka, "topics": topics.model_dump(), "subscriptions": {"s": {"environments": {"e": environment}}}}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(values))
    return str(file)


@pytest.fixture
def blob(azurite: LocalAzurite, container: str) -> str:
    """A blob with eight blocks of five bytes; its id."""
    writer = BlobWriter(StorageAccount(connection_string=SecretStr(azurite.connection_string)), "s.e")
    target, ids = Target(container, NAME), [f"block-{number}" for number in range(8)]
    for one in ids:
        writer.stage_block(target, one, b"12345")
    writer.commit_blocks(target, ids)
    writer.close()
    return f"s.e/{container}/{NAME}"


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return what the command prints."""
    capsys.readouterr()
    assert run(["inspect", *words]) == 0
    return capsys.readouterr().out


def test_everything_about_a_blob_is_shown(
    config: str, blob: str, kafka_settings: KafkaSettings, topics: TopicSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Storage's properties, the source, and the newest of what the services have written."""
    events = [
        (topics.checkpoints, encode_event(replace(CHECKPOINT, generation="g1"))),
        (topics.blob_state, encode_event(STATE)),
        (topics.checkpoints, encode_event(CHECKPOINT)),
        *((topics.completions, encode_event(one)) for one in COMPLETIONS),
        (topics.completions, b"garbage"),
    ]
    write(kafka_settings, [Outbound(topic, value, blob.encode()) for topic, value in events])
    found = json.loads(shown(capsys, "--json", "--config", config, blob))
    assert found["storage"]["size"] == 40
    assert found["storage"]["committed_blocks"] == 8
    assert [block["start"] for block in found["storage"]["blocks"]] == [0, 5, 10, 25, 30, 35]
    assert found["source"]["stream"] == "flow_logs"
    assert (found["state"]["status"], found["checkpoint"]["generation"]) == ("open", "g2")
    assert [one["to_offset"] for one in found["completions"]] == [19, 38]
    text = shown(capsys, "--config", config, "--all-blocks", blob).splitlines()
    assert text[0] == blob
    assert "  next_offset: 38" in text
    assert sum(line.startswith("  block ") for line in text) == 8


def test_a_blob_that_nobody_knows_is_said_to_be_unknown(
    config: str, container: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither storage nor the services need to have it."""
    text = shown(capsys, "--config", config, f"s.e/{container}/other").splitlines()
    assert text[1:] == [
        "storage: it does not exist, or no longer",
        "source: the settings do not cover it",
        "state: the monitor has not announced it",
        "checkpoint: ingest has not read it",
        "completions: none, or no longer in the topic",
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [("x", "not a blob id (account/container/name)"), ("a.b/logs/x", "no environment a.b; known are s.e")],
)
def test_a_wrong_id_is_refused(name: str, message: str, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The message says what is wrong with it."""
    assert run(["inspect", "--config", config, name]) == 2
    assert message in capsys.readouterr().err
