"""Messages that are not what they should be: each costs one dead letter; too many of them stop the service."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Producer

from libs.common.errors import DeadLetterLimit
from libs.common.messages.dead_letters import OMITTED_BYTES, ErrorCode
from libs.common.messages.segments import Segment, SegmentFormat
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from services.cli.probe import ask
from tests.audit import unread, wait_until_read
from tests.estates import ARRIVES_WITHIN_SECONDS
from tests.pipeline import Account, Pipeline, Plan, read_rows
from tests.topic_tools import committed_records

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

BLOBS, RECORDS, FLOOD = 8, 30, 3_000
RUBBISH = "c.d/logs/rubbish"
GOOD = "1663146003599,10.0.0.6,192.0.2.180,23956,443,6,O,B,NX,0,0,0,0"


def parser_and_files(kafka: KafkaSettings, topics: TopicSettings, directory: Path) -> Plan:
    """Return a pipeline that begins at the parser."""
    sinks = {"file": {"directory": str(directory / "flows"), "format": "parquet", "rotate_seconds": 1}}
    return Plan(kafka, topics, Account(""), (), directory, sinks, monitors=0, ingesters=0)


def record(*tuples: str, category: str = "FlowLogFlowEvent") -> bytes:
    """Return a record after its comma."""
    flows = [{"aclID": "acl", "flowGroups": [{"rule": "r", "flowTuples": list(tuples)}]}]
    facts = {"time": "2022-09-14T09:00:52Z", "category": category, "flowLogVersion": 4}
    return b"," + json.dumps(facts | {"flowRecords": {"flows": flows}}).encode()


class Writer:
    """Writes segments and what is none."""

    def __init__(self, kafka: KafkaSettings, topics: TopicSettings) -> None:
        self._producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "partitioner": "murmur2_random"})
        self._topics = topics
        self._ends = [14] * BLOBS
        self.rubbish_end = 0
        self.good: list[tuple[str, int, int]] = []

    def rubbish(self, lines: int, *good: str) -> None:
        """Write a segment of another account's blob: a good record, if it has tuples, and lines that are none."""
        data = (record(*good)[1:] + b"\n" if good else b"") + b"x\n" * lines
        start, self.rubbish_end = self.rubbish_end, self.rubbish_end + len(data)
        segment = Segment(RUBBISH, "g", start, self.rubbish_end, 0, SegmentFormat.JSON_LINES, data)
        self.good += [(RUBBISH, start, index) for index in range(len(good))]
        self._produce(segment)

    def segment(self, number: int, data: bytes) -> None:
        """Write `data` as the next segment of a blob."""
        start, self._ends[number] = self._ends[number], self._ends[number] + len(data)
        segment = Segment(f"a.b/logs/{number}", "g", start, self._ends[number], 0, SegmentFormat.VNET, data)
        self._produce(segment)

    def good_record(self, number: int) -> None:
        """Write a segment of one record with two rows."""
        self.good += [(f"a.b/logs/{number}", self._ends[number] + 1, index) for index in (0, 1)]
        self.segment(number, record(GOOD, GOOD))

    def message(self, topic: str, value: bytes | None, number: int = 0) -> None:
        """Write a message without headers."""
        self._producer.produce(topic, value, f"a.b/logs/{number}".encode())

    def _produce(self, segment: Segment) -> None:
        self._producer.produce(self._topics.raw_flow_logs, segment.data, segment.blob.encode(), headers=list(segment.headers()))

    def flush(self) -> None:
        """Wait until everything is written."""
        assert self._producer.flush(60) == 0


def test_a_bad_message_costs_one_dead_letter_and_nothing_else(
    kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path
) -> None:
    """Garbage among segments and flow batches goes to Errors with its bytes; all good rows arrive, no process ends."""
    plan, writer = parser_and_files(kafka_settings, topics, tmp_path), Writer(kafka_settings, topics)
    garbage = bytes(range(256))
    bad = {
        garbage: ErrorCode.BAD_MESSAGE,
        b"\x00\xff\x12\x13": ErrorCode.BAD_MESSAGE,
        b'{"time":"2022-09-14T09:00:52Z","category":"FlowLogFlowEvent","flowRecords":{"fl': ErrorCode.BAD_JSON,
        record(GOOD, category="Novel")[1:]: ErrorCode.UNKNOWN_FORMAT,
        b"1663146003599,10.0.0.6": ErrorCode.SHORT_TUPLE,
    }
    not_a_segment, not_flows, cut, novel, short = bad
    for turn in range(RECORDS):
        for number in range(BLOBS):
            writer.good_record(number)
        if turn == RECORDS // 2:
            writer.message(topics.raw_flow_logs, not_a_segment)
            writer.message(topics.raw_flow_logs, None)
            writer.message(topics.flows, not_flows)
            writer.segment(1, b"," + cut)
            writer.segment(2, b"," + novel)
            writer.segment(3, record(short.decode()))
    writer.flush()
    with Pipeline(plan).running() as pipeline:
        for group, topic in (("parser", topics.raw_flow_logs), ("sink.file", topics.flows)):
            wait_until_read(pipeline, group, topic)
        pipeline.wait(lambda: read_rows(plan.rows_directory).num_rows >= len(writer.good), 60, "all good rows in files")
        assert pipeline.restarts() == 0
    rows = read_rows(plan.rows_directory)
    columns = (rows[name].to_pylist() for name in ("blob", "record_offset", "tuple_index"))
    assert sorted(zip(*columns, strict=True)) == sorted(writer.good)
    letters = committed_records(kafka_settings, topics.errors)
    found = Counter((letter.value, dict(letter.headers)["code"].decode()) for letter in letters)
    assert found == Counter({(value, code.value): 1 for value, code in {**bad, b"": ErrorCode.BAD_MESSAGE}.items()})


def test_a_flood_of_bad_messages_stops_the_parser_and_moves_nothing(
    kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path
) -> None:
    """When nearly everything is bad the parser ends with its own exit code and one line; the messages stay where they are."""
    plan, writer = parser_and_files(kafka_settings, topics, tmp_path), Writer(kafka_settings, topics)
    for number in range(FLOOD):
        writer.message(topics.raw_flow_logs, b"no segment %d" % number, number % BLOBS)
    writer.flush()
    with Pipeline(plan).running() as pipeline:
        parser = pipeline.child("parser-0")
        pipeline.wait(lambda: parser.restarts > 0, ARRIVES_WITHIN_SECONDS, "the parser's end")
        assert f"exit code {DeadLetterLimit.exit_code})" in parser.why
    log = parser.program.log.read_text()
    assert "Traceback" not in log
    said = [line["event"] for line in map(json.loads, log.splitlines()) if line.get("error_type") == "DeadLetterLimit"]
    assert said
    assert "were rejected" in said[0]
    assert committed_records(kafka_settings, topics.errors) == []
    assert unread(kafka_settings, "parser", topics.raw_flow_logs) == FLOOD


def test_a_rubbish_blob_stops_nobody_and_can_be_released(
    kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path
) -> None:
    """60,000 bad lines of one blob: it alone is left alone, also by the next process, until it is released."""
    plan, writer = parser_and_files(kafka_settings, topics, tmp_path), Writer(kafka_settings, topics)
    writer.rubbish(0, GOOD, GOOD)
    for _ in range(RECORDS):
        writer.rubbish(60_000 // RECORDS)
        for number in range(BLOBS):
            writer.good_record(number)
    writer.flush()
    with Pipeline(plan).running() as pipeline:
        pipeline.wait_until_ready()
        port = pipeline.child("parser-0").program.health_port
        assert port is not None

        def everything_is_read() -> None:
            writer.flush()
            wait_until_read(pipeline, "parser", topics.raw_flow_logs)
            pipeline.wait(lambda: read_rows(plan.rows_directory).num_rows >= len(writer.good), 60, "all good rows in files")

        everything_is_read()
        assert pipeline.metric("parser-0", "blobtide_parser_quarantined_blobs") == 1
        assert "1 blob is in quarantine" in (ask(port, "/readyz") or "")
        assert pipeline.restarts() == 0
        pipeline.kill("parser-0")
        pipeline.wait(lambda: pipeline.restarts() == 1, 60, "the parser's end")
        writer.rubbish(10)
        writer.good_record(0)
        everything_is_read()
        assert pipeline.metric("parser-0", "blobtide_parser_quarantined_blobs") == 1
        assert json.loads(pipeline.command("quarantine", "list", "--format", "json"))["blob"] == RUBBISH
        pipeline.command("quarantine", "release", RUBBISH)
        pipeline.wait(lambda: pipeline.metric("parser-0", "blobtide_parser_quarantined_blobs") == 0, 60, "the release")
        assert "quarantine" not in (ask(port, "/readyz") or "quarantine")
        writer.rubbish(0, GOOD)
        everything_is_read()
        assert pipeline.command("quarantine", "list") == ""
    rows = read_rows(plan.rows_directory)
    columns = (rows[name].to_pylist() for name in ("blob", "record_offset", "tuple_index"))
    assert sorted(zip(*columns, strict=True)) == sorted(writer.good)
    letters = [dict(letter.headers) for letter in committed_records(kafka_settings, topics.errors)]
    assert {letter["code"] for letter in letters} <= {b"quarantined", b"bad_json"}
    references = [letter for letter in letters if letter["code"] == b"quarantined"]
    raw = {(one.partition, one.offset): one for one in committed_records(kafka_settings, topics.raw_flow_logs)}
    for letter in references:
        segment = raw[int(letter["source-partition"]), int(letter["source-offset"])]
        assert letter["blob"] == dict(segment.headers)["blob"] == RUBBISH.encode()
        assert int(letter[f"source-{OMITTED_BYTES}"]) == len(segment.value or b"")
    by_itself = len(letters) - len(references)
    assert by_itself < 5_000, "what came before it was judged"
    assert len({letter["source-offset"] for letter in letters}) == RECORDS + 1
