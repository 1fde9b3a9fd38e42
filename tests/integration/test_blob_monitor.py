"""The monitor on real Kafka and a real storage emulator: processes that are started, killed and fenced."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from libs.common.events import BlobObserved, BlobsListed, decode_event
from libs.common.kafka.follow import Follower, Since
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.storage import StorageAccount
from libs.common.storage.writer import BlobWriter, Target
from libs.local.azurite import LocalAzurite
from tests.topic_tools import read_compacted

pytestmark = [pytest.mark.kafka, pytest.mark.azurite]
SECONDS = 60.0


@dataclass
class Stage:
    """What a test has to do with: storage to write to, monitors to run, events to read."""

    kafka: KafkaSettings
    topics: TopicSettings
    azurite: LocalAzurite
    container: str
    directory: Path
    writer: BlobWriter
    events: list[Any] = field(default_factory=list)
    _follower: Follower | None = None

    def write(self, name: str, size: int) -> None:
        """Make a blob of `size` bytes."""
        self.writer.put(Target(self.container, name), b"x" * size)

    @contextlib.contextmanager
    def monitor(self, ordinal: int = 0, /, **monitor: Any) -> Iterator[subprocess.Popen[bytes]]:
        """Run a monitor process; it must end well, within ten seconds of SIGTERM."""
        file = self.directory / f"monitor-{ordinal}.yaml"
        file.write_text(yaml.safe_dump(self._settings(ordinal, monitor)))
        command = [sys.executable, "-m", "services.cli.main", "run", "blob-monitor", "--config", str(file)]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("BLOBTIDE_")}
        with (self.directory / f"monitor-{ordinal}.log").open("ab") as log:
            process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        try:
            yield process
        except BaseException:
            print((self.directory / f"monitor-{ordinal}.log").read_text())  # noqa: T201
            raise
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    assert process.wait(30) in {0, 128 + signal.SIGTERM}
                finally:
                    process.kill()

    def _settings(self, ordinal: int, monitor: dict[str, Any]) -> dict[str, Any]:
        source = {"container": self.container}
        environment = {"storage": {"connection_string": self.azurite.connection_string}, "sources": [source]}
        return {
            "kafka": self.kafka.model_dump(mode="json", exclude_defaults=True)
            | {"session_timeout_ms": 6000, "transaction_timeout_ms": 10000},
            "topics": self.topics.model_dump(),
            "subscriptions": {"sub": {"environments": {"dev": environment}}},
            "monitor": {"interval_seconds": 0.3, "discovery_seconds": 1, "listed_seconds": 0.1, **monitor},
            "http": {"port": 0},
            "instance": {"ordinal": ordinal},
        }

    def wait(self, done: Callable[[], bool], what: str) -> None:
        """Read events until `done`."""
        if self._follower is None:
            self._follower = Follower(self.kafka, (self.topics.blobs,), Since(0))
            self._follower.open()
        deadline = time.monotonic() + SECONDS
        while not done():
            assert time.monotonic() < deadline, f"still not: {what}; seen: {self.said()}"
            self.events += [decode_event(record.value) for record in self._follower.poll(0.2) if record.value]

    def said(self) -> Counter[tuple[str, str]]:
        """Count type and blob of every event but listings."""
        found = [event for event in self.events if not isinstance(event, BlobsListed)]
        return Counter((type(event).__name__, event.blob.split("/", 2)[2]) for event in found)

    def observed(self, name: str) -> list[BlobObserved]:
        """Return the announcements of one blob."""
        return [event for event in self.events if isinstance(event, BlobObserved) and event.blob.endswith(f"/{name}")]

    def registered(self) -> set[bytes]:
        """Return the ids of the blobs that the monitors know about."""
        return {record.key or b"" for record in read_compacted(self.kafka, self.topics.blob_state, range(4))}

    def listed_again(self) -> Callable[[], bool]:
        """Return a condition: two more listings have ended, so that what was there has been looked at."""
        before = sum(isinstance(event, BlobsListed) for event in self.events)
        return lambda: sum(isinstance(event, BlobsListed) for event in self.events) >= before + 8

    def close(self) -> None:
        """Disconnect."""
        if self._follower is not None:
            self._follower.close()
        self.writer.close()


@pytest.fixture
def stage(
    kafka_settings: KafkaSettings, topics: TopicSettings, azurite: LocalAzurite, container: str, tmp_path: Path
) -> Iterator[Stage]:
    """A stage with nothing on it."""
    writer = BlobWriter(StorageAccount(connection_string=SecretStr(azurite.connection_string)), "sub.dev")
    made = Stage(kafka_settings, topics, azurite, container, tmp_path, writer)
    yield made
    made.close()


def this_hour(resource: str, nic: str = "A") -> str:
    """Return the name of a blob that grows now."""
    return f"x=/{resource}/{datetime.now(UTC):y=%Y/m=%m/d=%d/h=%H}/m=00/macAddress={nic}/PT1H.json"


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
