"""Logs of applications and proxies while every process of the pipeline is killed: each line arrives once."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.demo.applogs.appends import Appends
from libs.demo.applogs.spec import LogSpec
from libs.demo.applogs.truth import LineKind
from libs.local.azurite import LocalAzurite
from libs.local.opensearch import LocalOpenSearch
from tests.audit import assert_nothing_open, checkpoints, wait_until_read
from tests.estates import ALIAS, ARRIVES_WITHIN_SECONDS, patient_writer, playing
from tests.fixtures.long import Scale
from tests.log_estate import SELECTORS, LogEstate, assert_rows_of_lines, log_estate
from tests.pipeline import Pipeline, Plan, read_rows
from tests.stores import opensearch_documents
from tests.topic_tools import committed_records

pytestmark = [pytest.mark.kafka, pytest.mark.azurite, pytest.mark.opensearch, pytest.mark.timeout(1800)]

SEED = 20261130
SEARCH = "search"
SPEED = 60
LONGEST_PAUSE_SECONDS = 2.0
KINDS = tuple(kind.value for kind in LineKind)
ORIGIN = ("blob", "generation", "line_offset")


def estate(container: str, minutes: int) -> LogEstate:
    """Return logs of which the last minute has just passed."""
    start = datetime.now(UTC) - timedelta(minutes=minutes)
    return log_estate(LogSpec(SEED, 16, 15, start, minutes, ALIAS, container), printers=4)


@pytest.fixture
def plan(
    kafka_settings: KafkaSettings,
    topics: TopicSettings,
    azurite: LocalAzurite,
    container: str,
    opensearch: LocalOpenSearch,
    tmp_path: Path,
) -> Plan:
    """A pipeline that writes files of all rows, and an index of those of applications."""
    files = {"kind": "file", "format": "parquet", "rotate_seconds": 1}
    sinks: dict[str, dict[str, Any]] = {kind: {**files, "rows": kind, "directory": str(tmp_path / kind)} for kind in KINDS}
    index = {"hosts": [opensearch.url], "index_prefix": kafka_settings.group_prefix}
    sinks[SEARCH] = {"kind": "elasticsearch", "rows": "application", **index}
    source = {"layout": "kubernetes", "selectors": list(SELECTORS)}
    return Plan(kafka_settings, topics, azurite, (container,), tmp_path, sinks, source=source)


def test_every_line_is_a_row_or_a_dead_letter_once_whatever_is_killed(
    plan: Plan, azurite: LocalAzurite, container: str, scale: Scale
) -> None:
    """Each process is killed again and again while gzipped blobs of all formats grow; files, index and dead letters agree."""
    kills = 20 if scale is Scale.LONG else 2
    logs, dice, pipeline = estate(container, 10 * kills), random.Random(SEED), Pipeline(plan)
    pipeline.command("sink-setup", SEARCH)
    with pipeline.running():
        pipeline.wait_until_ready()
        with playing(Appends(patient_writer(azurite)), logs.appends, SPEED) as played:
            victims = pipeline.names() * kills
            dice.shuffle(victims)
            for victim in victims:
                pipeline.go_on_for(dice.uniform(0, LONGEST_PAUSE_SECONDS))
                pipeline.kill(victim)
            pipeline.wait(played.is_done, ARRIVES_WITHIN_SECONDS, "everything written")
        wait_for_all(pipeline, logs)
        rows = {kind: rows_in(plan.directory / kind) for kind in KINDS}
        for kind in KINDS:
            assert_lines_are_rows(rows[kind], logs.rows(kind))
        assert_lines_are_letters(plan, logs)
        said = sorted((*(row[name] for name in ORIGIN), row["body"]) for row in rows[LineKind.APPLICATION])
        assert indexed(plan) == said
        assert_nothing_open(pipeline)


def wait_for_all(pipeline: Pipeline, logs: LogEstate) -> None:
    """Wait until all blobs have been read to their ends, and all that was read has reached the sinks."""
    kafka, topics = pipeline.plan.kafka, pipeline.plan.topics

    def reached() -> dict[str, int]:
        return {blob: offset for (blob, _), offset in checkpoints(kafka, topics).items()}

    pipeline.wait(lambda: reached() == logs.sizes, ARRIVES_WITHIN_SECONDS, "all blobs read")
    of_types = {LineKind.APPLICATION: topics.application, LineKind.HTTP: topics.http, LineKind.PROXY: topics.proxy}
    of_sinks = [(f"sink.{kind}", topic) for kind, topic in of_types.items()]
    of_parser = [("parser", topic) for topic in (topics.raw_application_logs, topics.raw_proxy_logs)]
    for group, topic in [("ingest", topics.blobs), *of_parser, *of_sinks, (f"sink.{SEARCH}", topics.application)]:
        wait_until_read(pipeline, group, topic)


def rows_in(directory: Path) -> list[dict[str, Any]]:
    """Return the rows in the files of a sink."""
    table: pa.Table = read_rows(directory)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def assert_lines_are_rows(rows: list[dict[str, Any]], lines: list[dict[str, Any]]) -> None:
    """Check that the rows of a type are these lines, each once, and that a blob has one generation."""
    generations = {(row["blob"], row["generation"]) for row in rows}
    blobs = {line["blob"] for line in lines}
    assert sorted(blob for blob, _ in generations) == sorted(blobs)
    for blob in blobs:
        assert_rows_of_lines(*([one for one in some if one["blob"] == blob] for some in (rows, lines)))


def assert_lines_are_letters(plan: Plan, logs: LogEstate) -> None:
    """Check that each line that cannot be read is a dead letter once, with its bytes and position, and nothing else is."""
    letters = [dict(one.headers) | {"value": one.value or b""} for one in committed_records(plan.kafka, plan.topics.errors)]
    found = [(letter["blob"].decode(), int(letter["record-offset"]), letter["value"]) for letter in letters]
    assert sorted(found) == sorted((line["blob"], line["line_offset"], line["refused"]) for line in logs.refused)
    sources = {(letter["blob"].decode(), letter["generation"].decode()) for letter in letters}
    assert sources <= checkpoints(plan.kafka, plan.topics).keys()


def indexed(plan: Plan) -> list[tuple[Any, ...]]:
    """Return what documents say of their origin, and their messages."""
    sink = plan.sinks[SEARCH]
    documents = list(opensearch_documents(sink["hosts"][0], sink["index_prefix"]))
    return sorted((*(document["blobtide"][name] for name in ORIGIN), document["message"]) for document in documents)
