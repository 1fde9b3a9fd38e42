"""`blobtide list-blobs` and `list-services` on a real Azurite, and on a real Kafka for how far services have come."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from libs.common.azure.storage.blobs import open_container
from libs.common.azure.storage.writer import BlobWriter, Target
from libs.common.kafka.records import Outbound
from libs.common.kafka.writing import write
from libs.common.messages.events import BlobCheckpoint, BlobState, BlobStatus, CheckpointStatus, Stream, encode_event
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.storage import StorageAccount
from libs.local.azurite import LocalAzurite
from services.cli.main import run

pytestmark = [pytest.mark.azurite, pytest.mark.kafka]

T = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
API, OTHER_DAY = "kubernetes/20260501.api-7_default_platform-aa.gz", "kubernetes/20260502.api-7_default_platform-aa.gz"
PROXY, NOBODYS = "kubernetes/20260501.apache2-igc-1_default_proxy-bb.gz", "kubernetes/20260501.redis-1_default_redis-cc.gz"
FLOWS = "resourceId=/NSG/y=2026/m=05/d=01/h=12/m=00/macAddress=0A/PT1H.json"
LATER = "resourceId=/NSG/y=2026/m=05/d=02/h=12/m=00/macAddress=0A/PT1H.json"


@pytest.fixture
def environment(azurite: LocalAzurite, container: str, tmp_path: Path) -> dict[str, Any]:
    """Fill a container with blobs of services and flow logs; return settings that cover them, but for one."""
    account = StorageAccount(connection_string=SecretStr(azurite.connection_string))
    writer = BlobWriter(account, "cp2.P1")
    for size, name in enumerate((API, OTHER_DAY, PROXY, NOBODYS, FLOWS, LATER), 100):
        writer.put(Target(container, name), b"x" * size)
    writer.close()
    secret = tmp_path / "connection"
    secret.write_text(azurite.connection_string)
    return {
        "storage": {"connection_string_file": str(secret)},
        "sources": [
            {"container": container, "layout": "kubernetes", "selectors": ["apache-proxy", "api"]},
            {"container": container, "prefix": "resourceId="},
        ],
    }


@pytest.fixture
def config(environment: dict[str, Any], kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path) -> str:
    """A settings file with that environment."""
    file = tmp_path / "config.yaml"
    kafka = {"bootstrap_servers": kafka_settings.bootstrap_servers, "group_prefix": kafka_settings.group_prefix}
    subscriptions = {"cp2": {"environments": {"P1": environment}}}
    file.write_text(yaml.safe_dump({"kafka": kafka, "topics": topics.model_dump(), "subscriptions": subscriptions}))
    return str(file)


def lines(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> list[str]:
    """Run a command and return what it prints."""
    capsys.readouterr()
    assert run(list(words)) == code
    return capsys.readouterr().out.splitlines()


def names(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """Return the names of the blobs that are listed."""
    return [line.split("/", 2)[2] for line in lines(capsys, "list-blobs", *words)]


def test_the_blobs_that_the_settings_cover_are_listed(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No other blob of the container is."""
    assert sorted(names(capsys, "--config", config)) == sorted([API, OTHER_DAY, PROXY, FLOWS, LATER])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--date", "20260501"), [API, PROXY, FLOWS]),
        (("--date", "2026-05-02", "--env", "P1"), [OTHER_DAY, LATER]),
        (("--service", "api"), [API, OTHER_DAY]),
        (("--service", "api", "--date", "20260501", "--subscription", "cp2"), [API]),
        (("--prefix", "kubernetes/20260501"), [API, PROXY]),
        (("--prefix", FLOWS), [FLOWS]),
        (("--prefix", "nothing"), []),
    ],
)
def test_options_choose_blobs(
    words: tuple[str, ...], expected: list[str], config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the day and the service that their names say, and by the beginning of the name."""
    assert sorted(names(capsys, "--config", config, *words)) == sorted(expected)


def test_a_limit_holds_for_each_environment(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever its sources are."""
    assert len(names(capsys, "--config", config, "--max-per-env", "2")) == 2


def test_a_name_that_the_settings_do_not_have_is_refused(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The names that there are are given."""
    assert run(["list-blobs", "--config", config, "--service", "apy"]) == 2
    assert "there is no selector apy; did you mean api?; known are apache-proxy, api" in capsys.readouterr().err


def test_a_container_that_is_missing_does_not_hide_the_others(
    environment: dict[str, Any], config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named, and the exit code says that something is wrong."""
    values = yaml.safe_load(Path(config).read_text())
    missing = {**environment, "sources": [{"container": "missing"}]}
    values["subscriptions"]["cp2"]["environments"] = {"A1": missing, "P1": environment}
    file = tmp_path / "more.yaml"
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(SystemExit) as ended:
        run(["list-blobs", "--config", str(file)])
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert API in printed.out
    assert "cp2.A1: there is no container missing" in printed.err


def test_what_the_services_know_of_a_blob_is_shown(
    config: str,
    container: str,
    azurite: LocalAzurite,
    kafka_settings: KafkaSettings,
    topics: TopicSettings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A blob read as it is now has no lag, one that has grown lacks what came since, and one that nobody knows is unread."""
    account = StorageAccount(connection_string=SecretStr(azurite.connection_string))
    opened = open_container(account, "cp2.P1", container)
    etag = opened.info(API).etag
    opened.close()
    # Of a compressed blob, reading continues at the beginning of a member.
    checkpoint = BlobCheckpoint("", "g", CheckpointStatus.COMPLETE, 10, 1, 5, etag, 100, 1, "d", None, T, read_offset=98)
    state = BlobState("", "cp2", "P1", Stream.APPLICATION_LOGS, BlobStatus.CLOSED, etag, 100, "BlockBlob", T, T, T, T)
    ids = {name: f"cp2.P1/{container}/{name}" for name in (API, OTHER_DAY)}
    records = [
        (topics.blob_state, ids[API], encode_event(state)),
        (topics.checkpoints, ids[API], encode_event(checkpoint)),
        (topics.checkpoints, ids[OTHER_DAY], encode_event(checkpoint)),
        (topics.checkpoints, f"cp2.P1/{container}/{PROXY}", encode_event(checkpoint)),
        (topics.checkpoints, f"cp2.P1/{container}/{PROXY}", None),
        (topics.checkpoints, f"cp2.P1/{container}/broken", b"garbage"),
    ]
    write(kafka_settings, [Outbound(topic, value, key.encode()) for topic, key, value in records])
    found = [json.loads(line) for line in lines(capsys, "list-blobs", "--config", config, "--long", "--json")]
    shown = {one["blob"].split("/", 2)[2]: (one["state"], one["reading"], one["read"], one["lag"]) for one in found}
    assert shown[API] == ("closed", "complete", 98, 0)
    assert shown[OTHER_DAY] == ("unseen", "complete", 98, 3)
    assert shown[PROXY] == ("unseen", "unread", 0, 102)
    labels = next(one["labels"] for one in found if one["blob"] == ids[API])
    assert (labels["service"], labels["pod"]) == ("api", "api-7")
    heading, *table = lines(capsys, "list-blobs", "--config", config, "--long", "--service", "api")
    assert heading.split()[-3:] == ["READ", "LAG", "BLOB"]
    assert [line.split()[2:6] for line in table] == [["closed", "complete", "98", "0"], ["unseen", "complete", "98", "3"]]


def test_services_are_counted(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A source without selectors is a line, too."""
    found = [json.loads(line) for line in lines(capsys, "list-services", "--config", config, "--json")]
    counted = {one["service"]: (one["blobs"], one["bytes"]) for one in found}
    assert counted == {"apache-proxy": (1, 102), "api": (2, 201), None: (2, 209)}
    assert all(one["first_written"] <= one["last_written"] for one in found)
    table = lines(capsys, "list-services", "--config", config, "--date", "20260502")
    assert [line.split()[2:4] for line in table[1:]] == [["apache-proxy", "0"], ["api", "1"], ["-", "1"]]
