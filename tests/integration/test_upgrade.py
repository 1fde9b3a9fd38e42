"""Going on where an earlier version was killed: with its topics, its state directories and its positions in Redis.

`earlier_state.tar.xz` was left by the version before quarantine, compact memory and sums in pieces (f7f6997) on real servers,
when all its processes were killed: three blobs in Azurite, one of them closed; announcements that ingest had not read; the
newest records of the compacted topics; segments that the parser had not read; flow batches, which the sinks had, and what the
sinks kept. No group has a committed offset here, so sinks are given again what they have.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from azure.storage.blob import BlobServiceClient
from pydantic import SecretStr
from redis import Redis

from libs.common.azure.storage.writer import BlobWriter, Target
from libs.common.kafka.records import Outbound
from libs.common.kafka.writing import write
from libs.common.messages.events import BlobCheckpoint, CheckpointStatus, decode_event
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.storage import StorageAccount
from libs.local.azurite import LocalAzurite
from libs.local.redis import LocalRedis
from services.sinks.kinds.summary.fold import SUMS
from services.sinks.kinds.summary.partial_tables import PartialTable
from tests import flow_text
from tests.audit import wait_until_consumed
from tests.estates import ALIAS, ARRIVES_WITHIN_SECONDS
from tests.fixtures.azurite import SecretAzurite
from tests.flows import table
from tests.pipeline import Pipeline, Plan, assert_same_rows_in_order, read_rows, row_count
from tests.stores import redis_count, redis_rows
from tests.topic_tools import committed_records

pytestmark = [pytest.mark.kafka, pytest.mark.azurite, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(600)]

STATE = Path(__file__).resolve().parents[1] / "data" / "earlier_state.tar.xz"
REDIS_PREFIX = "up"
CONTAINERS = ("insights-logs-flowlogflowevent", "insights-logs-networksecuritygroupflowevent")
FOR_EVER = 36_500  # days: the state is from November 2026
LONGEST = 3_650  # for Redis


@pytest.fixture
def earlier_azurite(azurite: LocalAzurite, tmp_path: Path) -> Iterator[LocalAzurite]:
    """Azurite with the blobs of then, which have their ETags and times."""
    del azurite  # it told whether Azurite can be had at all
    with tarfile.open(STATE) as archive:
        archive.extractall(tmp_path, filter="data")
    server = SecretAzurite(tmp_path / "azurite")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def earlier_redis(earlier_azurite: LocalAzurite, redis_server: LocalRedis, tmp_path: Path) -> Iterator[str]:
    """Redis with entries and positions of then."""
    del earlier_azurite  # it unpacked them
    kept = json.loads((tmp_path / "kafka_and_redis.json").read_text())["redis"]
    with Redis.from_url(redis_server.url) as client:
        for key, value in kept.items():
            client.restore(bytes.fromhex(key), 0, base64.b64decode(value))
        yield redis_server.url
        client.delete(*client.scan_iter(f"{REDIS_PREFIX}:*"))


def test_what_an_earlier_version_left_goes_on_without_a_row_lost_or_double(
    kafka_settings: KafkaSettings, topics: TopicSettings, earlier_azurite: LocalAzurite, earlier_redis: str, tmp_path: Path
) -> None:
    """What was not read then, and what is written to open and closed blobs now, arrives; nothing of before arrives again."""
    fill(kafka_settings, topics, tmp_path)
    before = checkpoints(kafka_settings, topics)
    assert statuses(kafka_settings, topics) == {CheckpointStatus.OPEN, CheckpointStatus.COMPLETE}
    writer = BlobWriter(StorageAccount(connection_string=SecretStr(earlier_azurite.connection_string)), ALIAS)
    plan = plan_of(kafka_settings, topics, earlier_azurite, earlier_redis, tmp_path)
    assert 0 < row_count(plan.rows_directory) < len(truth(earlier_azurite))
    with Pipeline(plan).running() as pipeline:
        pipeline.wait_until_ready()
        for times in range(2):  # what was closed at first is closed again before the second
            for container, name in blobs(earlier_azurite):
                grow(writer, Target(container, name), earlier_azurite, times)
            expected = len(truth(earlier_azurite))
            wait_for_rows(pipeline, expected)
            pipeline.wait(
                lambda: statuses(kafka_settings, topics) == {CheckpointStatus.COMPLETE},
                ARRIVES_WITHIN_SECONDS,
                "all blobs closed",
            )
        wait_until_consumed(pipeline, ("file", "summary", "redis"))
        pipeline.wait(lambda: redis_count(earlier_redis, REDIS_PREFIX) >= expected, ARRIVES_WITHIN_SECONDS, "all rows in Redis")
    writer.close()
    rows = truth(earlier_azurite)
    assert_same_rows_in_order(read_rows(plan.rows_directory), rows)
    assert_same_rows_in_order(redis_rows(earlier_redis, REDIS_PREFIX), rows)
    assert flows_summed(tmp_path / "summary") == rows.num_rows
    after = checkpoints(kafka_settings, topics)
    assert {blob: one.generation for blob, one in after.items()} == {blob: one.generation for blob, one in before.items()}
    assert committed_records(kafka_settings, topics.errors) == []


def wait_for_rows(pipeline: Pipeline, expected: int) -> None:
    """Wait until so many rows are in files."""
    directory = pipeline.plan.rows_directory
    pipeline.wait(lambda: row_count(directory) >= expected, ARRIVES_WITHIN_SECONDS, "all rows in files")


def fill(kafka: KafkaSettings, topics: TopicSettings, directory: Path) -> None:
    """Write what was in the topics, to the same partitions."""
    kept = json.loads((directory / "kafka_and_redis.json").read_text())["topics"]
    for field, records in kept.items():
        write(kafka, [_outbound(getattr(topics, field), record) for record in records])


def _outbound(topic: str, record: Mapping[str, Any]) -> Outbound:
    value = record["value"] and base64.b64decode(record["value"])
    headers = tuple((name, text.encode()) for name, text in record["headers"])
    return Outbound(topic, value, record["key"] and record["key"].encode(), headers, record["partition"])


def plan_of(kafka: KafkaSettings, topics: TopicSettings, azurite: LocalAzurite, redis_url: str, directory: Path) -> Plan:
    """Return a pipeline with the sinks of then."""
    remember = {"remember_days": FOR_EVER}
    sinks = {
        "file": {"directory": str(directory / "flows"), "format": "parquet", "rotate_seconds": 1, **remember},
        "summary": {"directory": str(directory / "summary"), **remember},
        "redis": {"url": redis_url, "prefix": REDIS_PREFIX, "remember_days": LONGEST},
    }
    monitor = {"closing_timeout_minutes": 0.1, "forget_days": FOR_EVER}
    return Plan(kafka, topics, azurite, CONTAINERS, directory, sinks, monitor=monitor)


def blobs(azurite: LocalAzurite) -> list[tuple[str, str]]:
    """Name every blob with its container."""
    with BlobServiceClient.from_connection_string(azurite.connection_string, use_env_settings=False) as service:
        return [(one, name) for one in CONTAINERS for name in service.get_container_client(one).list_blob_names()]


def content(azurite: LocalAzurite, container: str, name: str) -> bytes:
    """Return the bytes of a blob."""
    with BlobServiceClient.from_connection_string(azurite.connection_string, use_env_settings=False) as service:
        return service.get_blob_client(container, name).download_blob().readall()


def truth(azurite: LocalAzurite) -> pa.Table:
    """Return what the blobs say, read the slow way."""
    rows = [
        {**row, "generation": ""}
        for container, name in blobs(azurite)
        for row in flow_text.rows(f"{ALIAS}/{container}/{name}", content(azurite, container, name))
    ]
    return table(rows).drop_columns(["generation"])


def grow(writer: BlobWriter, target: Target, azurite: LocalAzurite, times: int) -> None:
    """Write the last record of a blob once more before its tail, as Azure writes a new one."""
    *_, (_, last) = flow_text.records(content(azurite, target.container, target.name))
    *earlier, tail = writer.block_ids(target)
    new = f"{times:0{len(earlier[-1])}d}"
    writer.stage_block(target, new, b"," + json.dumps(last).encode())
    writer.commit_blocks(target, [*earlier, new, tail])


def checkpoints(kafka: KafkaSettings, topics: TopicSettings) -> dict[str, BlobCheckpoint]:
    """Return the newest checkpoint of each blob."""
    events = [decode_event(record.value) for record in committed_records(kafka, topics.checkpoints) if record.value]
    return {event.blob: event for event in events if isinstance(event, BlobCheckpoint)}


def statuses(kafka: KafkaSettings, topics: TopicSettings) -> set[CheckpointStatus]:
    """Return what the checkpoints of all blobs say."""
    return {one.status for one in checkpoints(kafka, topics).values()}


def flows_summed(directory: Path) -> int:
    """Add up the flows of all rows that the summary wrote and of the sums that are open."""
    lines = [line for file in directory.glob("*.ndjson") for line in file.read_text().splitlines()]
    total = sum(int(json.loads(line)["flows"]) for line in lines)
    for file in directory.glob(".blobtide/*/state.db"):
        with closing(sqlite3.connect(file)) as database:
            pieces = PartialTable(database, "minute_sums", SUMS)
            total += sum(sum(pieces.read(minute).column("flows").to_pylist()) for minute in pieces.kinds())
    return total
