"""A sink as a process of its own on a real Kafka: flow batches in, the process, its settings file."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from confluent_kafka import Producer

from libs.common.process.crash import CRASH_VARIABLE
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.wire import encode_rows
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from tests.canaries import with_canaries
from tests.contract.harness import Row
from tests.fixtures.kafka import PARTITIONS
from tests.flows import table

ROOT = Path(__file__).parents[1]
BATCH = 16
SECONDS = 90.0


def write_config(file: Path, kafka: KafkaSettings, topics: TopicSettings, sinks: dict[str, Any]) -> Path:
    """Write the settings of a sink process and return the file."""
    settings = {
        "kafka": {
            "bootstrap_servers": kafka.bootstrap_servers,
            "group_prefix": kafka.group_prefix,
            "session_timeout_ms": 6_000,
        },
        "topics": topics.model_dump(),
        "sinks": sinks,
        "http": {"port": 0},
    }
    file.write_text(yaml.safe_dump(with_canaries(settings)))
    return file


def produce(kafka: KafkaSettings, topic: str, content: Sequence[Row]) -> None:
    """Write rows as small flow batches, then a part of them again as a replay; a blob is always on its partition."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "enable.idempotence": True})
    for partition in range(PARTITIONS):
        own = [row for row in content if int(row["mac"], 16) % PARTITIONS == partition]
        for at in (*range(0, len(own), BATCH), *range(0, len(own), 3 * BATCH)):
            (batch,) = table(own[at : at + BATCH]).combine_chunks().to_batches()
            producer.produce(topic, encode_rows(FLOWS, batch), partition=partition)
    assert producer.flush(SECONDS) == 0


@contextmanager
def sink_process(config: Path, name: str, crash_point: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a sink with its standard output as a pipe and its log beside `config`; end it hard at the end if it still runs.

    It has started, so that it can be told to end: what a test waits for may have come from an earlier process.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("BLOBTIDE_")}
    if crash_point:
        environment[CRASH_VARIABLE] = crash_point
    command = [sys.executable, "-m", "services.cli.main", "run", "sink", name, "--config", str(config)]
    with (
        (config.parent / "sink.log").open("ab") as log,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        try:
            _wait_until_started(process, config.parent / "sink.log")
            yield process
        finally:
            process.kill()


def _wait_until_started(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while f"pid={process.pid} " not in log.read_text() and process.poll() is None:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
