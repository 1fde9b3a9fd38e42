"""The archive sink as a process on a real Kafka, killed while it consumes."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest
from confluent_kafka import Producer

from libs.common.rows.types.snapshots import SNAPSHOTS
from libs.common.rows.wire import encode_rows
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from tests.fixtures.kafka import PARTITIONS
from tests.row_samples import table
from tests.running import until
from tests.sink_process import SECONDS, sink_process, write_config
from tests.snapshots import archived, as_archived, snapshots

SOURCES = ("flowinfo", "graphinfo", "../other")
POINTS = ("sink.committed", "sink.part-recorded", "sink.zip-synced", "sink.part-removed", "sink.zip-renamed")
CONTENT = snapshots(60, SOURCES)


def produce(kafka: KafkaSettings, topic: str) -> None:
    """Write the snapshots as recorders do, a source to a partition, and then a part of them again."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "enable.idempotence": True})
    for number, source in enumerate(SOURCES):
        own = [row for row in CONTENT if row["source"] == source]
        for at in (*range(0, len(own), 5), *range(0, len(own), 20)):
            (batch,) = table(SNAPSHOTS, own[at : at + 5]).combine_chunks().to_batches()
            producer.produce(topic, encode_rows(SNAPSHOTS, batch), partition=number % PARTITIONS)
    assert producer.flush(SECONDS) == 0


@pytest.mark.kafka
def test_an_archive_holds_every_snapshot_once_after_kills(
    kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path
) -> None:
    """An archive killed at random steps while it consumes, and started again, has each record once in its zips."""
    directory, chance = tmp_path / "archive", random.Random(13)
    options = {
        "directory": str(directory),
        "rotate_rows": 12,
        "rotate_seconds": 1,
        "batch": {"messages": 3, "seconds": 0.2},
    }
    config = write_config(tmp_path / "config.yaml", kafka_settings, topics, {"archive": options})
    produce(kafka_settings, topics.snapshots)
    for point in chance.sample(POINTS, 2):
        with sink_process(config, "archive", f"{point}@{chance.randint(1, 3)}") as process:
            assert process.wait(SECONDS) == -signal.SIGKILL, point
    with sink_process(config, "archive") as process:
        until(lambda: archived(directory).total() >= len(CONTENT), "records are missing")
        process.terminate()
        assert process.wait(SECONDS) == 0
    assert archived(directory) == as_archived(CONTENT)
