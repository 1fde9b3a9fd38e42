"""A blob that kills whoever reads it."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from pydantic import SecretStr

from libs.common.azure.storage.writer import BlobWriter, Target
from libs.common.messages.blobs import BlobId
from libs.common.process.crash import CRASH_VARIABLE
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.storage import StorageAccount
from libs.local.azurite import LocalAzurite
from services.cli.probe import ask
from services.ingest.pending.tries import MOST_CRASHES
from tests.audit import assert_nothing_open, assert_tiled, checkpoints, wait_until_consumed
from tests.chaos.test_blobs import PATH, Living, assert_each_row_once, last_generations, rows_of
from tests.estates import ALIAS, ARRIVES_WITHIN_SECONDS
from tests.pipeline import Pipeline, Plan
from tests.topic_tools import committed_records

pytestmark = [pytest.mark.kafka, pytest.mark.azurite, pytest.mark.timeout(900)]

BLOBS = 6


def test_a_blob_that_kills_ingest_is_put_in_quarantine_and_can_be_released(
    kafka_settings: KafkaSettings, topics: TopicSettings, azurite: LocalAzurite, container: str, tmp_path: Path
) -> None:
    """After some dead processes it is left alone, also by later processes; all other rows arrive once, and its own after it."""
    sinks = {"file": {"directory": str(tmp_path / "flows"), "format": "parquet", "rotate_seconds": 1}}
    plan = Plan(kafka_settings, topics, azurite, (container,), tmp_path, sinks, monitor={"hours_back": 6})
    writer = BlobWriter(StorageAccount(connection_string=SecretStr(azurite.connection_string)), ALIAS)
    dice, serial, at = random.Random(1), count(), datetime.now(UTC)
    blobs = [Living(writer, Target(container, PATH.format(number=number, at=at)), dice, serial) for number in range(BLOBS)]
    deadly, *others = blobs
    name = str(BlobId(ALIAS, container, deadly.target.name))

    def have_arrived(wanted: list[Living]) -> bool:
        expected = {str(BlobId(ALIAS, container, blob.target.name)): sorted(blob.rows()) for blob in wanted}
        return {
            blob: rows_of(plan, blob, last) for blob, last in last_generations(plan).items() if blob in expected
        } == expected

    with Pipeline(plan).running() as pipeline:
        ingest = pipeline.child("ingest-0")
        pipeline.wait_until_ready()
        for blob in blobs:
            blob.grow()
        pipeline.wait(lambda: have_arrived(blobs), ARRIVES_WITHIN_SECONDS, "the first rows")

        ingest.program.env[CRASH_VARIABLE] = f"ingest.reading:{deadly.target.name}"  # type: ignore[index]
        pipeline.kill("ingest-0")
        for blob in blobs:
            blob.grow()
        pipeline.wait(lambda: have_arrived(others), ARRIVES_WITHIN_SECONDS, "all other rows")
        pipeline.wait(lambda: bool(committed_records(kafka_settings, topics.errors)), ARRIVES_WITHIN_SECONDS, "the dead letter")
        deaths = pipeline.restarts()
        for blob in others:
            blob.grow()
        pipeline.wait(lambda: have_arrived(others), ARRIVES_WITHIN_SECONDS, "all other rows after that")
        wait_until_consumed(pipeline)
        assert pipeline.restarts() == deaths, "it goes on"
        assert deaths >= MOST_CRASHES
        port = ingest.program.health_port
        assert port is not None
        pipeline.wait(lambda: "1 blob is in quarantine" in (ask(port, "/readyz") or ""), 60, "the note")
        assert pipeline.metric("ingest-0", "blobtide_ingest_quarantined_blobs") == 1
        (letter,) = (dict(record.headers) for record in committed_records(kafka_settings, topics.errors))
        assert (letter["stage"], letter["code"], letter["blob"]) == (b"ingest", b"quarantined", name.encode())
        entry = json.loads(pipeline.command("quarantine", "list", "--format", "json"))
        assert (entry["stage"], entry["blob"]) == ("ingest", name)

        del ingest.program.env[CRASH_VARIABLE]  # type: ignore[attr-defined]
        pipeline.kill("ingest-0")
        pipeline.wait(lambda: pipeline.restarts() == deaths + 1, 60, "a process that could read it")
        wait_until_consumed(pipeline)
        pipeline.command("quarantine", "release", name)
        pipeline.wait(lambda: have_arrived(blobs), ARRIVES_WITHIN_SECONDS, "all rows")
        wait_until_consumed(pipeline)
        assert pipeline.command("quarantine", "list") == ""
        assert_each_row_once(plan)
        assert_tiled(committed_records(kafka_settings, topics.raw_flow_logs), checkpoints(kafka_settings, topics))
        assert_nothing_open(pipeline)
    writer.close()
