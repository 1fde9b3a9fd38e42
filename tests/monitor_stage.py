"""A stage for real monitors: storage to write to, processes that are started and ended, events to read."""

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

import yaml

from libs.common.azure.storage.writer import BlobWriter, Target
from libs.common.kafka.readers.follow import Follower, Since
from libs.common.messages.events import BlobObserved, BlobsListed, decode_event
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.azurite import LocalAzurite
from tests.topic_tools import read_compacted

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
    environment: dict[str, Any] = field(default_factory=dict)  # more settings of the environment
    _follower: Follower | None = None

    def write(self, name: str, size: int) -> None:
        """Make a blob of `size` bytes."""
        self.writer.put(Target(self.container, name), b"x" * size)

    @contextlib.contextmanager
    def monitor(self, ordinal: int = 0, /, **monitor: Any) -> Iterator[subprocess.Popen[bytes]]:
        """Run a monitor process; it must end well, within ten seconds of SIGTERM."""
        with self._running("blob-monitor", f"monitor-{ordinal}", self._settings(ordinal, monitor)) as process:
            yield process

    @contextlib.contextmanager
    def ingest(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run ingest; it must end well, too."""
        with self._running("ingest", "ingest", self._settings(0, {})) as process:
            yield process

    @contextlib.contextmanager
    def _running(self, service: str, name: str, settings: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
        file, log_file = self.directory / f"{name}.yaml", self.directory / f"{name}.log"
        file.write_text(yaml.safe_dump(settings))
        command = [sys.executable, "-m", "services.cli.main", "run", service, "--config", str(file)]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("BLOBTIDE_")}
        with log_file.open("ab") as log:
            process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        try:
            yield process
        except BaseException:
            print(log_file.read_text())  # noqa: T201
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
        environment |= self.environment
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

    def listings(self) -> list[BlobsListed]:
        """Return the reports of listings."""
        return [event for event in self.events if isinstance(event, BlobsListed)]

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


def this_hour(resource: str, nic: str = "A") -> str:
    """Return the name of a blob that grows now."""
    return f"x=/{resource}/{datetime.now(UTC):y=%Y/m=%m/d=%d/h=%H}/m=00/macAddress={nic}/PT1H.json"
