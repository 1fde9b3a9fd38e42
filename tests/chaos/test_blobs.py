"""Blobs that are replaced, cut, deleted and made anew while they are read."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from pydantic import SecretStr

from libs.common.azure.storage.writer import BlobWriter, Target
from libs.common.messages.blobs import BlobId
from libs.common.messages.dead_letters import ErrorCode
from libs.common.messages.segments import Segment
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.storage import StorageAccount
from libs.local.azurite import LocalAzurite
from tests.audit import assert_nothing_open, assert_tiled, checkpoints, wait_until_consumed
from tests.estates import ALIAS, ARRIVES_WITHIN_SECONDS
from tests.fixtures.long import Scale
from tests.flow_text import records
from tests.pipeline import Pipeline, Plan, read_rows
from tests.topic_tools import committed_records

pytestmark = [pytest.mark.kafka, pytest.mark.azurite, pytest.mark.timeout(900)]

SEED = 20260503
BLOBS, ROUNDS = 8, 10
LONGEST_PAUSE_SECONDS = 1.2
PATH = "resourceId=/{number}/y={at:%Y}/m={at:%m}/d={at:%d}/h={at:%H}/m=00/macAddress=000000000001/PT1H.json"
Row = tuple[int, int, int]  # record offset, tuple index, time


@dataclass
class Living:
    """A blob and what may happen to it. Every tuple ever written has a time of its own."""

    writer: BlobWriter
    target: Target
    dice: random.Random
    serial: count[int]
    blocks: list[tuple[str, bytes]] = field(default_factory=list)

    def grow(self) -> None:
        """Add some minutes, as Azure does."""
        self.blocks += [self._block() for _ in range(self.dice.randint(1, 3))]
        self._commit()

    def replace(self) -> None:
        """Put other content, of any length, under the name."""
        self.blocks = []
        self.grow()

    def cut(self) -> None:
        """Drop the last blocks."""
        self.blocks = self.blocks[: max(1, len(self.blocks) // 2)]
        self._commit()

    def cut_and_grow(self) -> None:
        """Drop the last blocks and add others: it may become longer than it was."""
        self.blocks = self.blocks[:1]
        self.grow()

    def make_anew(self) -> None:
        """Delete the blob, and create it again with other content."""
        self.writer.delete(self.target)
        self.replace()

    def touch(self) -> None:
        """Change metadata only."""
        self.writer.set_metadata(self.target, {"serial": str(next(self.serial))})

    def text(self) -> bytes:
        """Return the content."""
        data = b",".join(data for _, data in self.blocks)
        return b'{"records":[' + data + b"]}"

    def rows(self) -> list[Row]:
        """Return what a reader must find."""
        return [
            (offset, index, int(text.partition(",")[0]))
            for offset, record in records(self.text())
            for index, text in enumerate(record["flowRecords"]["flows"][0]["flowGroups"][0]["flowTuples"])
        ]

    def _block(self) -> tuple[str, bytes]:
        numbers = [next(self.serial) for _ in range(self.dice.randint(1, 40))]
        tuples = [f"{1663146000000 + number},10.0.0.6,192.0.2.180,23956,443,6,O,B,NX,0,0,0,0" for number in numbers]
        flows = [{"aclID": "acl", "flowGroups": [{"rule": "r", "flowTuples": tuples}]}]
        record = {"time": "2022-09-14T09:00:52Z", "category": "FlowLogFlowEvent", "flowLogVersion": 4}
        return f"D{next(self.serial):031x}", json.dumps(record | {"flowRecords": {"flows": flows}}).encode()

    def _commit(self) -> None:
        pieces = [("A" + "0" * 31, b'{"records":[')]
        pieces += [(name, data if at == 0 else b"," + data) for at, (name, data) in enumerate(self.blocks)]
        pieces.append(("Z" + "0" * 31, b"]}"))
        for name, data in pieces:
            self.writer.stage_block(self.target, name, data)
        self.writer.commit_blocks(self.target, [name for name, _ in pieces])


def test_the_last_generation_of_every_blob_is_whole_whatever_happened_to_it(
    kafka_settings: KafkaSettings, topics: TopicSettings, azurite: LocalAzurite, container: str, tmp_path: Path, scale: Scale
) -> None:
    """Of blobs that grow, are replaced, cut and made anew at random, all rows of the last content arrive, each once."""
    sinks = {"file": {"directory": str(tmp_path / "flows"), "format": "parquet", "rotate_seconds": 1}}
    plan = Plan(kafka_settings, topics, azurite, (container,), tmp_path, sinks, monitor={"hours_back": 6})
    writer = BlobWriter(StorageAccount(connection_string=SecretStr(azurite.connection_string)), ALIAS)
    dice, serial, at = random.Random(SEED), count(), datetime.now(UTC)
    blobs = [Living(writer, Target(container, PATH.format(number=number, at=at)), dice, serial) for number in range(BLOBS)]
    with Pipeline(plan).running() as pipeline:
        pipeline.wait_until_ready()
        for blob in blobs:
            blob.grow()
        for _ in range(10 * ROUNDS if scale is Scale.LONG else ROUNDS):
            for blob in blobs:
                dice.choice((blob.grow, blob.grow, blob.replace, blob.cut, blob.cut_and_grow, blob.make_anew, blob.touch))()
            pipeline.go_on_for(dice.uniform(0, LONGEST_PAUSE_SECONDS))
        expected = {str(BlobId(ALIAS, container, blob.target.name)): sorted(blob.rows()) for blob in blobs}
        pipeline.wait(
            lambda: {blob: rows_of(plan, blob, last) for blob, last in last_generations(plan).items()} == expected,
            ARRIVES_WITHIN_SECONDS,
            "all rows of the last generations",
        )
        wait_until_consumed(pipeline)
        assert_each_row_once(plan)
        assert_ended_generations_are_named(plan)
        assert_tiled(committed_records(kafka_settings, topics.raw_flow_logs), checkpoints(kafka_settings, topics))
        assert_nothing_open(pipeline)
        assert pipeline.restarts() == 0
    writer.close()


def last_generations(plan: Plan) -> dict[str, str]:
    """Return the generation that each blob has now."""
    return dict(checkpoints(plan.kafka, plan.topics).keys())


def rows_of(plan: Plan, blob: str, generation: str) -> list[Row]:
    """Return what has arrived of a generation."""
    rows = read_rows(plan.rows_directory)
    if not rows.num_rows:
        return []
    columns = (rows[name].to_pylist() for name in ("blob", "generation", "record_offset", "tuple_index", "time"))
    return sorted(
        (offset, index, int(at.timestamp() * 1000 + 0.5))
        for name, of, offset, index, at in zip(*columns, strict=True)
        if (name, of) == (blob, generation)
    )


def assert_each_row_once(plan: Plan) -> None:
    """Check that no row of any generation is double."""
    rows = read_rows(plan.rows_directory)
    columns = (rows[name].to_pylist() for name in ("blob", "generation", "record_offset", "tuple_index"))
    assert [row for row, times in Counter(zip(*columns, strict=True)).items() if times > 1] == []


def assert_ended_generations_are_named(plan: Plan) -> None:
    """Check that each generation that ended early is in Errors once, and nothing else is."""
    read = [Segment.from_message(one.headers, b"") for one in committed_records(plan.kafka, plan.topics.raw_flow_logs)]
    ended = {(one.blob, one.generation) for one in read} - set(last_generations(plan).items())
    letters = [dict(record.headers) for record in committed_records(plan.kafka, plan.topics.errors)]
    assert {letter["code"].decode() for letter in letters} == {ErrorCode.INCOMPLETE_BLOB.value}
    assert sorted((letter["blob"].decode(), letter["generation"].decode()) for letter in letters) == sorted(ended)
