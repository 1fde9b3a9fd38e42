"""The monitor on real Kafka and a real storage emulator: processes that are started, killed and fenced."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from libs.common.azure.storage.writer import BlobWriter
from libs.common.messages.events import BlobsListed
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.storage import StorageAccount
from libs.local.azurite import LocalAzurite
from tests.monitor_stage import Stage, this_hour

pytestmark = [pytest.mark.kafka, pytest.mark.azurite]


@pytest.fixture
def stage(
    kafka_settings: KafkaSettings, topics: TopicSettings, azurite: LocalAzurite, container: str, tmp_path: Path
) -> Iterator[Stage]:
    """A stage with nothing on it."""
    writer = BlobWriter(StorageAccount(connection_string=SecretStr(azurite.connection_string)), "sub.dev")
    made = Stage(kafka_settings, topics, azurite, container, tmp_path, writer)
    yield made
    made.close()


def test_from_first_sight_to_reopening_and_over_a_restart(stage: Stage) -> None:
    """A blob is announced once a change, closed once, reopened when it grows; a restart repeats nothing of it."""
    name, quiet = this_hour("R1"), {"closing_timeout_minutes": 0.05}
    stage.write(name, 10)
    with stage.monitor(**quiet):
        stage.wait(lambda: stage.said()["BlobClosed", name] == 1, "closed")
        stage.write(name, 20)
        stage.wait(lambda: stage.said()["BlobReopened", name] == 1 and len(stage.observed(name)) == 2, "reopened")
        stage.wait(lambda: stage.said()["BlobClosed", name] == 2, "closed again")
    with stage.monitor(**quiet):
        stage.write(other := this_hour("R2"), 5)
        stage.wait(lambda: stage.said()["BlobClosed", other] == 1, "another blob closed")
        stage.wait(stage.listed_again(), "more listings")
    assert stage.said() == {
        ("BlobObserved", name): 2,
        ("BlobClosed", name): 2,
        ("BlobReopened", name): 1,
        ("BlobObserved", other): 1,
        ("BlobClosed", other): 1,
    }
    assert [(event.size, event.baseline_offset) for event in stage.observed(name)] == [(10, None), (20, None)]
    listing = next(event for event in stage.events if isinstance(event, BlobsListed) and event.blob_count)
    assert (listing.account, listing.container, listing.total_bytes) == ("sub.dev", stage.container, 10)
    assert listing.listing_started_at <= listing.listing_ended_at


def test_start_policies(stage: Stage) -> None:
    """start_fresh skips what is there and reads what comes; start_over with an id announces all once; from goes by time."""
    old, new = this_hour("R1"), this_hour("R2")
    stage.write(old, 10)
    with stage.monitor(start_policy="start_fresh"):
        stage.wait(stage.listed_again(), "listings")
        time.sleep(1.1)  # creation times have a resolution of a second
        stage.write(new, 7)
        stage.write(old, 30)
        stage.wait(lambda: stage.said()["BlobObserved", new] == 1 and stage.said()["BlobObserved", old] == 1, "growth")
    assert [event.baseline_offset for event in stage.observed(old) + stage.observed(new)] == [10, None]
    for _ in range(2):
        with stage.monitor(start_policy="start_over", replay_id="again"):
            stage.wait(lambda: len(stage.observed(old)) == 2 and len(stage.observed(new)) == 2, "replay")
            stage.wait(stage.listed_again(), "listings")
    assert [event.replay_id for event in stage.observed(old)] == ["", "again"]
    with stage.monitor(start_policy="from", start_from=datetime(2030, 1, 1, tzinfo=UTC).isoformat()):
        stage.write(late := this_hour("R3"), 5)
        stage.wait(lambda: any(key.endswith(late.encode()) for key in stage.registered()), "registered")
    assert stage.observed(late) == []


def test_two_monitors_share_and_one_takes_over_from_the_other(stage: Stage) -> None:
    """Together they say everything once; when one is killed, the other says what it would have said, again once."""
    names = [this_hour(f"R{number}") for number in range(12)]
    with stage.monitor(0) as first, stage.monitor(1):
        for name in names:
            stage.write(name, 10)
        stage.wait(lambda: all(stage.said()["BlobObserved", name] for name in names), "everything announced")
        first.send_signal(signal.SIGKILL)
        first.wait()
        for name in names:
            stage.write(name, 20)
        stage.wait(lambda: all(len(stage.observed(name)) >= 2 for name in names), "everything announced by the other")
        stage.wait(stage.listed_again(), "listings")
    assert [[event.size for event in stage.observed(name)] for name in names] == [[10, 20]] * len(names)


def test_storage_may_go_and_come_back(stage: Stage) -> None:
    """The monitor outlives its storage and announces what is there when it is back."""
    before, after = this_hour("R1"), this_hour("R2")
    stage.write(before, 10)
    with stage.monitor() as process:
        stage.wait(lambda: bool(stage.observed(before)), "announced")
        stage.azurite.stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3)
        assert process.poll() is None
        stage.azurite.start()
        stage.write(after, 10)
        stage.wait(lambda: bool(stage.observed(after)), "announced after the outage")
    assert len(stage.observed(before)) == 1
