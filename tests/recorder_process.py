"""Recorders as processes on a real Kafka, and the snapshots that they wrote."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from libs.common.kafka.readers.follow import Follower, Since
from libs.common.kafka.records import Inbound
from libs.common.process.crash import CRASH_VARIABLE
from libs.common.rows.types.snapshots import SNAPSHOTS
from libs.common.rows.wire import decode_rows
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from tests.canaries import with_canaries

SECONDS = 60.0
STOP_SECONDS = 10.0


@dataclass
class Recorders:
    """What a test has to do with: recorders to run, and their rows and dead letters, as far as they were read."""

    kafka: KafkaSettings
    topics: TopicSettings
    directory: Path
    sources: Sequence[dict[str, Any]]
    rows: list[dict[str, Any]] = field(default_factory=list)
    letters: list[Inbound] = field(default_factory=list)
    _follower: Follower | None = None

    @contextmanager
    def running(self, ordinal: int = 0, crash_point: str = "", level: str = "info") -> Iterator[subprocess.Popen[bytes]]:
        """Run a recorder; if it still runs at the end, it must stop well in time."""
        file = self.directory / f"recorder-{ordinal}.yaml"
        file.write_text(yaml.safe_dump(with_canaries(self._settings(ordinal, level))))
        environ = {name: value for name, value in os.environ.items() if not name.startswith("BLOBTIDE_")}
        if crash_point:
            environ[CRASH_VARIABLE] = crash_point
        command = [sys.executable, "-m", "services.cli.main", "run", "recorder", "--config", str(file)]
        with self.log(ordinal).open("ab") as log:
            process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        try:
            yield process
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(STOP_SECONDS) == 0
        except BaseException:
            print(self.log(ordinal).read_text())  # noqa: T201
            raise
        finally:
            process.kill()
            process.wait()

    def log(self, ordinal: int = 0) -> Path:
        """Return the file with what a recorder said."""
        return self.directory / f"recorder-{ordinal}.log"

    def until(self, done: Callable[[], bool], what: str) -> None:
        """Read until `done`."""
        deadline = time.monotonic() + SECONDS
        while not done():
            assert time.monotonic() < deadline, f"still not: {what}"
            self.read(0.2)

    def read(self, seconds: float) -> bool:
        """Read what comes within `seconds`; return whether anything did."""
        if self._follower is None:
            self._follower = Follower(self.kafka, (self.topics.snapshots, self.topics.errors), Since(0))
            self._follower.open()
        found = self._follower.poll(seconds)
        for record in found:
            if record.topic == self.topics.errors:
                self.letters.append(record)
            else:
                self.rows += decode_rows(SNAPSHOTS, record.value or b"").to_pylist()
        return bool(found)

    def drain(self) -> None:
        """Read until nothing more comes."""
        while self.read(1.0):
            pass

    def close(self) -> None:
        """Stop reading."""
        if self._follower is not None:
            self._follower.close()

    def of(self, source: str) -> list[dict[str, Any]]:
        """Return the rows of a source, in order."""
        return [row for row in self.rows if row["source"] == source]

    def _settings(self, ordinal: int, level: str) -> dict[str, Any]:
        return {
            "kafka": self.kafka.model_dump(mode="json", exclude_defaults=True)
            | {"session_timeout_ms": 6_000, "transaction_timeout_ms": 10_000},
            "topics": self.topics.model_dump(),
            "recorder": {"sources": list(self.sources)},
            "http": {"port": 0},
            "log": {"level": level},
            "instance": {"ordinal": ordinal},
        }
