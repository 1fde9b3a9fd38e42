"""The file sink as a process on a real Kafka, killed while it consumes."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from libs.common.settings.kafka import KafkaSettings, TopicSettings
from tests.contract.harness import CRASH_POINTS
from tests.fixtures.kafka import PARTITIONS
from tests.flows import by_identity, rows
from tests.hive import HOUR_MS
from tests.sink_process import SECONDS, produce, sink_process, write_config

KILLS = 3
STEP_SECONDS = 0.2
CONTENT = rows(blobs=2 * PARTITIONS, records=40, tuples=4)
HOURS = 3


def wait_for_rows(directory: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the files hold `count` rows."""
    deadline = time.monotonic() + SECONDS
    while sum(pq.read_metadata(file).num_rows for file in directory.glob("**/*.parquet")) < count:
        assert process.poll() is None, f"the sink ended with {process.returncode}"
        assert time.monotonic() < deadline, "rows are missing"
        time.sleep(STEP_SECONDS)


@pytest.mark.kafka
@pytest.mark.parametrize("layout", ["flat", "hive"])
def test_files_hold_every_row_once_after_kills(
    layout: str, kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path
) -> None:
    """A file sink killed at random steps while it consumes, and started again, leaves every row once."""
    directory, chance = tmp_path / "flows", random.Random(11)
    options = {
        "directory": str(directory),
        "rotate_rows": 100,
        "rotate_seconds": 1,
        "layout": layout,
        "batch": {"messages": 3, "seconds": 0.2},
    }
    config = write_config(tmp_path / "config.yaml", kafka_settings, topics, {"file": options})
    content = [row | {"time": row["time"] + row["tuple_index"] % HOURS * HOUR_MS} for row in CONTENT]
    produce(kafka_settings, topics.flows, content)
    for point in chance.sample(CRASH_POINTS, KILLS):
        with sink_process(config, "file", f"{point}@{chance.randint(1, 4)}") as process:
            assert process.wait(SECONDS) == -signal.SIGKILL, point
    with sink_process(config, "file") as process:
        wait_for_rows(directory, len(content), process)
        process.terminate()
        assert process.wait(SECONDS) == 0
    assert by_identity(pa.concat_tables([pq.read_table(file) for file in directory.glob("**/*.parquet")])) == by_identity(
        content
    )
