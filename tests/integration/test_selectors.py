"""Services selected by the names of their blobs, on real Kafka and a real storage emulator."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from libs.common.azure.storage.blobs import open_container
from libs.common.azure.storage.writer import BlobWriter, Target
from libs.common.messages.events import BlobObserved, Stream
from libs.common.messages.segments import Segment
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.storage import StorageAccount
from libs.local.azurite import LocalAzurite
from tests.monitor_stage import Stage
from tests.topic_tools import committed_records

pytestmark = [pytest.mark.kafka, pytest.mark.azurite]

ID = "0123456789abcdef" * 4
SERVICES = ("apache-proxy", "api", "backoffice", "zookeeper")
PODS = {"apache2-igc": "proxy", "api": "platform", "backoffice": "platform", "zookeeper": "zookeeper"}  # and their containers


def name(pod: str, container: str = "platform", days_ago: int = 0) -> str:
    """Return the name of a blob of today or before."""
    day = datetime.now(UTC) - timedelta(days=days_ago)
    return f"kubernetes/{day:%Y%m%d}.{pod}_default_{container}-{ID}.gz"


def today() -> date:
    """Return the day of the names."""
    return datetime.now(UTC).date()


def account(azurite: LocalAzurite) -> StorageAccount:
    """Return Azurite's account as settings."""
    return StorageAccount(connection_string=SecretStr(azurite.connection_string))


@pytest.fixture
def stage(
    kafka_settings: KafkaSettings, topics: TopicSettings, azurite: LocalAzurite, container: str, tmp_path: Path
) -> Iterator[Stage]:
    """A stage where some services of a Kubernetes container are followed."""
    made = Stage(kafka_settings, topics, azurite, container, tmp_path, BlobWriter(account(azurite), "sub.dev"))
    made.environment = {"sources": [{"container": container, "layout": "kubernetes", "selectors": list(SERVICES)}]}
    yield made
    made.close()


def segments(stage: Stage, topic: str) -> list[Segment]:
    """Return what ingest has written to a topic."""
    return [Segment.from_message(record.headers, record.value or b"") for record in committed_records(stage.kafka, topic)]


def test_services_are_found_by_day_labelled_and_routed(stage: Stage) -> None:
    """Lines of proxies and of applications reach their topics with service, pod and the rest; others are left alone."""
    wanted = {name("apache2-igc-1", "proxy"): "apache-proxy", name("api-1"): "api", name("api-2", days_ago=40): "api"}
    others = [name("apache2-igc-nat-1", "proxy"), name("api-1", "sidecar"), name("solr-0", "solr"), "kubernetes/readme.gz"]
    for blob in (*wanted, *others):
        stage.writer.put(Target(stage.container, blob), f"line of {blob}\n".encode())
    raw = {Stream.PROXY_LOGS: stage.topics.raw_proxy_logs, Stream.APPLICATION_LOGS: stage.topics.raw_application_logs}
    with stage.monitor(), stage.ingest():
        stage.wait(lambda: sum(len(segments(stage, topic)) for topic in raw.values()) == len(wanted), "everything read")
        stage.wait(stage.listed_again(), "more listings")
    assert segments(stage, stage.topics.raw_flow_logs) == []
    found = {stream: segments(stage, topic) for stream, topic in raw.items()}
    assert {segment.blob.split("/", 2)[2] for segment in found[Stream.PROXY_LOGS]} == {name("apache2-igc-1", "proxy")}
    for segment in (part for parts in found.values() for part in parts):
        blob = segment.blob.split("/", 2)[2]
        assert segment.data == f"line of {blob}\n".encode()
        pod = blob.split(".")[1].split("_")[0]
        labels: dict[str, str] = json.loads(segment.labels)
        assert labels == {
            "service": wanted[blob],
            "subscription": "sub",
            "environment": "dev",
            "pod": pod,
            "namespace": "default",
            "container": "proxy" if pod.startswith("apache2") else "platform",
            "container_id": ID,
        }
    observed = {event.blob.split("/", 2)[2]: event for event in stage.events if isinstance(event, BlobObserved)}
    assert {blob: (event.labels["service"], event.stream) for blob, event in observed.items()} == {
        blob: (service, Stream.PROXY_LOGS if "proxy" in service else Stream.APPLICATION_LOGS)
        for blob, service in wanted.items()
    }
    yesterday = today() - timedelta(days=1)  # shortly after midnight, it is listed too
    assert {(event.selector, event.day) for event in stage.listings() if event.day != yesterday} == {
        (service, day) for service in SERVICES for day in (today(), today() - timedelta(days=40))
    }


def test_a_monitor_that_is_killed_leaves_its_selectors_to_the_other(stage: Stage) -> None:
    """Selectors are divided between two monitors; when one is killed, everything is still said once."""
    pods = {f"{pod}-{number}": container for pod, container in PODS.items() for number in range(3)}
    names = [name(pod, container) for pod, container in pods.items()]
    with stage.monitor(0) as first, stage.monitor(1):
        for blob in names:
            stage.write(blob, 10)
        stage.wait(lambda: all(stage.said()["BlobObserved", blob] for blob in names), "everything announced")
        first.send_signal(signal.SIGKILL)
        first.wait()
        for blob in names:
            stage.write(blob, 20)
        stage.wait(lambda: all(len(stage.observed(blob)) >= 2 for blob in names), "everything announced by the other")
        stage.wait(stage.listed_again(), "listings")
    assert [[event.size for event in stage.observed(blob)] for blob in names] == [[10, 20]] * len(names)
    assert {event.labels["pod"] for event in stage.events if isinstance(event, BlobObserved)} == set(pods)


def test_names_are_divided_at_any_delimiter(azurite: LocalAzurite, stage: Stage) -> None:
    """Storage tells which days there are without telling every blob."""
    for blob in (
        "kubernetes/20260501.a",
        "kubernetes/20260501.b",
        "kubernetes/20260502.a",
        "kubernetes/x/20260503.a",
        "kubernetes/y",
    ):
        stage.write(blob, 1)
    reader = open_container(account(azurite), "sub.dev", stage.container)
    assert list(reader.list_directories("kubernetes/", ".")) == [
        "kubernetes/20260501.",
        "kubernetes/20260502.",
        "kubernetes/x/20260503.",
    ]
    assert list(reader.list_directories("kubernetes/")) == ["kubernetes/x/"]
    reader.close()
