"""`blobtide config check --connect` on real servers: what is wrong, in one line each."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from libs.common.settings.kafka import KafkaSettings
from libs.local.azurite import LocalAzurite

pytestmark = [pytest.mark.kafka, pytest.mark.azurite]


def check(kafka: str, connection_string: str, container: str) -> subprocess.CompletedProcess[str]:
    """Check one environment with one container."""
    environment = {"storage": {"connection_string": connection_string}, "sources": [{"container": container}]}
    return subprocess.run(
        (sys.executable, "-m", "services.cli.main", "config", "check", "--connect"),
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": "/nonexistent",
            "BLOBTIDE_KAFKA__BOOTSTRAP_SERVERS": kafka,
            "BLOBTIDE_SUBSCRIPTIONS": json.dumps({"s": {"environments": {"e": environment}}}),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_good_configuration_reaches_everything(kafka_settings: KafkaSettings, azurite: LocalAzurite, container: str) -> None:
    """Kafka and the container are reported as reached, and the exit code is 0."""
    done = check(kafka_settings.bootstrap_servers, azurite.connection_string, container)
    assert done.returncode == 0, done.stderr
    assert f"ok  container {container} of s.e" in done.stdout
    assert "ok  Kafka at" in done.stdout


def test_an_unknown_container_is_named(kafka_settings: KafkaSettings, azurite: LocalAzurite, container: str) -> None:
    """A container that is not there fails the check by its name, without a traceback."""
    done = check(kafka_settings.bootstrap_servers, azurite.connection_string, f"{container}-not-there")
    assert done.returncode != 0
    assert f"{container}-not-there" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("broken", ["", "nonsense", "AccountName=logs;AccountKey=not base64!"])
def test_a_wrong_connection_string_is_named_without_being_shown(kafka_settings: KafkaSettings, broken: str) -> None:
    """A connection string that cannot be right fails with the environment's name, and no part of it is printed."""
    done = check(kafka_settings.bootstrap_servers, broken, "logs")
    assert done.returncode == 2
    assert "s.e" in done.stderr
    assert "Traceback" not in done.stderr
    assert "not base64" not in done.stderr
    assert "nonsense" not in done.stderr


def test_a_wrong_key_and_an_unreachable_kafka_are_both_listed(azurite: LocalAzurite, container: str) -> None:
    """All problems are listed, not only the first."""
    wrong = azurite.connection_string.replace("Eby8", "AAAA")
    done = check("127.0.0.1:9", wrong, container)
    assert done.returncode == 3
    assert "127.0.0.1:9" in done.stderr
    assert "s.e" in done.stderr
    assert "Traceback" not in done.stderr
