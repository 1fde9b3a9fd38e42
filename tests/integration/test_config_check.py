"""`blobtide config check --connect` on real servers: what is wrong, in one line each."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.azurite import LocalAzurite
from tests.canaries import ACCOUNT_KEY
from tests.topic_tools import limit

pytestmark = [pytest.mark.kafka, pytest.mark.azurite]


@pytest.fixture
def environ(kafka_settings: KafkaSettings, topics: TopicSettings) -> dict[str, str]:
    """Variables that lead to Kafka, with all topics."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        "BLOBTIDE_KAFKA__BOOTSTRAP_SERVERS": kafka_settings.bootstrap_servers,
        "BLOBTIDE_TOPICS": topics.model_dump_json(),
    }


def reading(connection_string: str, container: str) -> dict[str, str]:
    """Return the variable for one environment with one container."""
    environment = {"storage": {"connection_string": connection_string}, "sources": [{"container": container}]}
    return {"BLOBTIDE_SUBSCRIPTIONS": json.dumps({"s": {"environments": {"e": environment}}})}


def check(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the check."""
    argv = (sys.executable, "-m", "services.cli.main", "config", "check", "--connect")
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr
    return done


def test_a_good_configuration_reaches_everything(
    environ: dict[str, str], azurite: LocalAzurite, container: str, tmp_path: Path
) -> None:
    """Kafka, the container and the destinations are reported as reached, and the exit code is 0."""
    sinks = {"BLOBTIDE_SINKS": json.dumps({"stdout": {}, "file": {"directory": str(tmp_path)}})}
    done = check(environ | reading(azurite.connection_string, container) | sinks)
    assert done.returncode == 0, done.stderr
    assert f"ok  container {container} of s.e" in done.stdout
    assert f"ok  Kafka at {environ['BLOBTIDE_KAFKA__BOOTSTRAP_SERVERS']} and its topics" in done.stdout
    assert "ok  destination of sink stdout" in done.stdout
    assert "ok  destination of sink file" in done.stdout


def test_an_unknown_container_is_named(environ: dict[str, str], azurite: LocalAzurite, container: str) -> None:
    """A container that is not there fails the check by its name, without a traceback."""
    done = check(environ | reading(azurite.connection_string, f"{container}-not-there"))
    assert done.returncode != 0
    assert f"{container}-not-there" in done.stderr
    assert done.stderr.count("\n") == 1


def test_missing_topics_are_named(environ: dict[str, str], topics: TopicSettings) -> None:
    """Topics that nobody has made fail the check by their names, with the command that makes them."""
    absent = topics.model_copy(update={"errors": "Not.There", "flows": "Nor.This"})
    done = check(environ | {"BLOBTIDE_TOPICS": absent.model_dump_json()})
    assert done.returncode == 2
    assert done.stderr.endswith("missing topics: Nor.This, Not.There; run `blobtide topics apply`\n")


def test_topics_that_do_not_fit_together_are_named(
    environ: dict[str, str], kafka_settings: KafkaSettings, topics: TopicSettings
) -> None:
    """Topics joined by position with different numbers of partitions fail the check by names and numbers."""
    admin = AdminClient({"bootstrap.servers": kafka_settings.bootstrap_servers})
    admin.create_partitions([NewPartitions(topics.blobs, 5)])[topics.blobs].result(30)
    done = check(environ)
    assert done.returncode == 2
    assert f"{topics.blobs} 5, {topics.blob_state} 4, {topics.checkpoints} 4" in done.stderr


def test_topics_that_take_less_than_settings_say_are_named(
    environ: dict[str, str], kafka_settings: KafkaSettings, topics: TopicSettings, azurite: LocalAzurite, container: str
) -> None:
    """What will be cut smaller is said with topic, limit and setting; a limit of no use fails the check."""
    limit(kafka_settings, topics.flows, 100_000)
    limit(kafka_settings, topics.raw_proxy_logs, 1_000_000)
    done = check(environ | reading(azurite.connection_string, container))
    assert done.returncode == 0, done.stderr
    (sizes,) = [line for line in done.stdout.splitlines() if line.startswith("ok  message sizes of topics: ")]
    batches, lines = sizes.removeprefix("ok  message sizes of topics: ").split("; ")
    assert batches.startswith(f"{topics.flows} accepts 83616 bytes besides key and headers, but parser.batch_bytes is 4000000")
    assert lines.startswith(
        f"{topics.raw_proxy_logs} accepts 983616 bytes besides key and headers, but ingest.max_line_bytes is"
    )
    limit(kafka_settings, topics.flows, 5_000)
    done = check(environ)
    assert done.returncode == 2
    assert f"topic {topics.flows} accepts messages of at most 5000 bytes" in done.stderr


def test_destinations_that_cannot_be_written_to_are_named(environ: dict[str, str], tmp_path: Path) -> None:
    """A server that does not answer, a secret that cannot be read and a directory that cannot be made fail the check."""
    (tmp_path / "file").touch()
    sinks = {
        "far": {"kind": "redis", "url": "redis://127.0.0.1:9/0"},
        "secret": {"kind": "elasticsearch", "username": "u", "password_file": str(tmp_path / "none")},
        "file": {"directory": str(tmp_path / "file" / "flows")},
    }
    done = check(environ | {"BLOBTIDE_SINKS": json.dumps(sinks)})
    assert done.returncode != 0
    problems = dict(re.findall(r"^!!  (?:destination of )?sink (\w+): (.*)$", done.stderr, re.MULTILINE))
    assert list(problems) == ["secret", "far", "file"]
    assert "cannot read password_file" in problems["secret"]


@pytest.mark.parametrize("broken", ["", "nonsense", "AccountName=logs;AccountKey=not base64!"])
def test_a_wrong_connection_string_is_named_without_being_shown(environ: dict[str, str], broken: str) -> None:
    """A connection string that cannot be right fails with the environment's name, and no part of it is printed."""
    done = check(environ | reading(broken, "logs"))
    assert done.returncode == 2
    assert "s.e" in done.stderr
    assert "not base64" not in done.stderr
    assert "nonsense" not in done.stderr


def test_a_wrong_key_and_an_unreachable_kafka_are_both_listed(
    environ: dict[str, str], azurite: LocalAzurite, container: str
) -> None:
    """All problems are listed, not only the first."""
    wrong = azurite.connection_string.replace(ACCOUNT_KEY, "AAAA" + ACCOUNT_KEY[4:])
    done = check(environ | reading(wrong, container) | {"BLOBTIDE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9"})
    assert done.returncode == 3
    assert "127.0.0.1:9" in done.stderr
    assert "s.e" in done.stderr
