"""The file sink as a process on a real Kafka, killed while it consumes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from confluent_kafka import Producer

from libs.common.crash import CRASH_VARIABLE
from libs.common.flows.wire import encode_flows
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from tests.contract.harness import CRASH_POINTS
from tests.fixtures.kafka import PARTITIONS
from tests.flows import by_identity, rows, table

ROOT = Path(__file__).parents[2]
KILLS = 4
SECONDS = 90.0
STEP_SECONDS = 0.2
BATCH = 16
CONTENT = rows(blobs=2 * PARTITIONS, records=40, tuples=4)


def produce(kafka: KafkaSettings, topic: str) -> None:
    """Write all rows as small flow batches, then a part of them again as a replay, blobs always on their partition."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "enable.idempotence": True})
    for partition in range(PARTITIONS):
        own = [row for row in CONTENT if row["mac"].endswith((f"{partition:X}", f"{partition + PARTITIONS:X}"))]
        for at in (*range(0, len(own), BATCH), *range(0, len(own), 3 * BATCH)):
            (batch,) = table(own[at : at + BATCH]).combine_chunks().to_batches()
            producer.produce(topic, encode_flows(batch), partition=partition)
    assert producer.flush(SECONDS) == 0


@contextmanager
def sink_process(config: Path, crash_point: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run the file sink; end it hard at the end if it still runs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BLOBTIDE_")}
    if crash_point:
        environment[CRASH_VARIABLE] = crash_point
    command = [sys.executable, "-m", "services.cli.main", "run", "sink", "file", "--config", str(config)]
    with (
        (config.parent / "sink.log").open("ab") as log,
        subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def wait_for_rows(directory: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the files hold `count` rows."""
    deadline = time.monotonic() + SECONDS
    while sum(pq.read_metadata(file).num_rows for file in directory.glob("*.parquet")) < count:
        assert process.poll() is None, f"the sink ended with {process.returncode}"
        assert time.monotonic() < deadline, "rows are missing"
        time.sleep(STEP_SECONDS)


@pytest.mark.kafka
def test_files_hold_every_row_once_after_kills(kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path) -> None:
    """A file sink killed at random steps while it consumes, and started again, leaves every row once."""
    directory, config, chance = tmp_path / "flows", tmp_path / "config.yaml", random.Random(11)
    options = {"directory": str(directory), "rotate_rows": 100, "rotate_seconds": 1, "batch": {"messages": 3, "seconds": 0.2}}
    kafka = {"bootstrap_servers": kafka_settings.bootstrap_servers, "group_prefix": kafka_settings.group_prefix}
    config.write_text(
        yaml.safe_dump(
            {
                "kafka": kafka | {"session_timeout_ms": 6_000},
                "topics": topics.model_dump(),
                "sinks": {"file": options},
                "http": {"port": 0},
            }
        )
    )
    produce(kafka_settings, topics.flows)
    for point in chance.sample(CRASH_POINTS, KILLS):
        with sink_process(config, f"{point}@{chance.randint(1, 4)}") as process:
            assert process.wait(SECONDS) == -signal.SIGKILL, point
    with sink_process(config) as process:
        wait_for_rows(directory, len(CONTENT), process)
        process.terminate()
        assert process.wait(SECONDS) == 0
    assert by_identity(pa.concat_tables([pq.read_table(file) for file in directory.glob("*.parquet")])) == by_identity(CONTENT)
