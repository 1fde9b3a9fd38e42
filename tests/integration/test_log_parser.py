"""The parser on segments of application and proxy logs, on a real Kafka: rows of each type and dead letters, once."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final
from uuid import uuid5

import pytest
from confluent_kafka import Producer

from libs.common.errors import DeadLetterLimit
from libs.common.kafka.records import Inbound
from libs.common.messages.blobs import partition_of
from libs.common.messages.dead_letters import ErrorCode
from libs.common.messages.events import Stream
from libs.common.messages.segments import Segment, SegmentFormat
from libs.common.process.health import Health
from libs.common.process.service import Stop
from libs.common.rows.row_type import RowType
from libs.common.rows.types.application import APPLICATION
from libs.common.rows.types.http import HTTP
from libs.common.rows.types.proxy import PROXY
from libs.common.rows.types.spans import SPANS
from libs.common.rows.wire import decode_rows
from libs.common.settings import Settings
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.parser import ParserSettings
from services.parser.logs.derived_ids import NAMESPACE
from services.parser.main import build
from tests.audit import unread
from tests.integration.test_parser import PARTITIONS, results, running, write_segments
from tests.metric_values import since_now
from tests.service_process import service_process

pytestmark = pytest.mark.kafka

BLOBS, SEGMENTS = 6, 25
BAD: Final = b'{"time":"2026-05-01T12:00:00Z",'
BLANK: Final = b""
WAIT_SECONDS: Final = 60

Place = tuple[str, str, int]
"""Row type, blob and offset."""


def application(number: int) -> bytes:
    """Return a record of an application."""
    return json.dumps({"time": "2026-05-01T12:00:00Z", "level": "INFO", "message": f"order {number}"}).encode()


def request(number: int, **changes: str) -> bytes:
    """Return a request, to a proxy if a change names its server; those with even numbers have a correlation id."""
    logs = {"requestFirstLine": f"GET /{number} HTTP/1.1", "status": "200", **changes}
    logs |= {} if number % 2 else {"requestId": f"r-{number}"}
    return json.dumps({"@timestamp": "2026-05-01T12:00:00Z", "logs": logs}).encode()


class Writer:
    """Writes segments of some blobs, and knows what must come of them."""

    def __init__(self, kafka: KafkaSettings, topics: TopicSettings) -> None:
        self._producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "partitioner": "murmur2_random"})
        self._topics = topics
        self._ends: Counter[str] = Counter()
        self.rows: set[Place] = set()
        self.letters: set[tuple[str, int]] = set()
        self.spans: dict[tuple[str, int], str] = {}

    def segment(self, topic: str, blob: str, *lines: tuple[str, bytes]) -> None:
        """Write lines as a segment, each with the type of its row, or empty if it is none."""
        start = end = self._ends[blob]
        for kind, line in lines:
            if kind:
                self.rows.add((kind, blob, end))
            if kind in {"http", "proxy"} and b"requestId" in line:
                self.spans[blob, end] = json.loads(line)["logs"]["requestId"]
            elif line == BAD:
                self.letters.add((blob, end))
            end += len(line) + 1
        data = b"".join(line + b"\n" for _, line in lines)
        segment = Segment(blob, "g", start, end, 0, SegmentFormat.LINES, data, labels=b'{"service":"shop"}')
        self._producer.produce(topic, data, blob.encode(), headers=list(segment.headers()))
        self._ends[blob] = end

    def everything(self) -> None:
        """Write segments of both streams, with a bad line and an empty one in each."""
        for number in range(SEGMENTS):
            for blob in range(BLOBS):
                lines = (("application", application(number)), ("", BAD), ("http", request(number)), ("", BLANK))
                self.segment(self._topics.raw_application_logs, f"a.b/logs/app{blob}", *lines)
                to_proxy = ("proxy", request(number, localServerName="shop.example"))
                self.segment(self._topics.raw_proxy_logs, f"a.b/logs/proxy{blob}", to_proxy, *lines)
        self.flush()

    def flush(self) -> None:
        """Wait until all is written."""
        assert self._producer.flush(30) == 0


def places(message: Inbound, row_type: RowType) -> list[Place]:
    """Return the rows of a message."""
    table = decode_rows(row_type, message.value or b"")
    assert set(table["service"].to_pylist()) == {"shop"}
    pairs = zip(table["blob"].to_pylist(), table["line_offset"].to_pylist(), strict=True)
    return [(row_type.name, blob, offset) for blob, offset in pairs]


def check_exactly_once(kafka: KafkaSettings, topics: TopicSettings, writer: Writer) -> None:
    """Check that each row is there once, in order, on the partition of its blob, and each bad line is a dead letter."""
    found: list[Place] = []
    for row_type, topic in ((APPLICATION, topics.application), (HTTP, topics.http), (PROXY, topics.proxy)):
        for message in results(kafka, topic):
            rows = places(message, row_type)
            assert {partition_of(blob.encode(), len(PARTITIONS)) for _, blob, _ in rows} == {message.partition}
            found += rows
    assert len(found) == len(set(found))
    assert set(found) == writer.rows
    for kind, blob in {place[:2] for place in found}:
        offsets = [place[2] for place in found if place[:2] == (kind, blob)]
        assert offsets == sorted(offsets)
    letters = [dict(letter.headers) | {"value": letter.value or b""} for letter in results(kafka, topics.errors)]
    assert len(letters) == len(writer.letters)
    assert {(letter["blob"].decode(), int(letter["record-offset"])) for letter in letters} == writer.letters
    assert {(letter["code"], letter["value"]) for letter in letters} == {(ErrorCode.BAD_JSON.value.encode(), BAD)}


def check_spans(kafka: KafkaSettings, topics: TopicSettings, writer: Writer) -> None:
    """Check that each request with a correlation id is a span once, on the partition of its blob, with the ids that follow."""
    found: list[dict[str, Any]] = []
    for message in results(kafka, topics.spans):
        spans = decode_rows(SPANS, message.value or b"").to_pylist()
        assert {partition_of(span["blob"].encode(), len(PARTITIONS)) for span in spans} == {message.partition}
        found += spans
    assert {(span["blob"], span["line_offset"]): span["correlation_id"] for span in found} == writer.spans
    assert len(found) == len(writer.spans) == len({span["span_id"] for span in found})
    for span in found:
        assert span["trace_id"] == uuid5(NAMESPACE, f"trace\n\n\n{span['correlation_id']}").hex


def wait_until_read(kafka: KafkaSettings, *topics: str) -> None:
    """Wait until the parser has committed all segments."""
    deadline = time.monotonic() + WAIT_SECONDS
    while left := {topic: one for topic in topics if (one := unread(kafka, "parser", topic))}:
        assert time.monotonic() < deadline, left


@pytest.mark.parametrize("place", ["transform.handled@3", "transaction.written@3", "transform.committed@3"])
def test_every_line_comes_out_once_whatever_is_killed(
    kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path, place: str
) -> None:
    """A parser that is killed before, in or after a transaction leaves neither a gap nor a duplicate to the next one."""
    writer = Writer(kafka_settings, topics)
    writer.everything()
    settings = Settings(
        kafka=kafka_settings.model_copy(update={"session_timeout_ms": 6_000, "transaction_timeout_ms": 10_000}),
        topics=topics,
        parser=ParserSettings(poll_messages=40, poll_seconds=0.1, quarantine_share=1),
    ).model_dump(mode="json", exclude_defaults=True)
    with service_process("parser", settings, tmp_path, crash=place) as child:
        assert child.wait(WAIT_SECONDS) == -signal.SIGKILL
    with service_process("parser", settings, tmp_path):
        wait_until_read(kafka_settings, topics.raw_application_logs, topics.raw_proxy_logs)
    check_exactly_once(kafka_settings, topics, writer)
    check_spans(kafka_settings, topics, writer)


def test_streams_that_are_not_read_stay_where_they_are(kafka_settings: KafkaSettings, topics: TopicSettings) -> None:
    """A parser of one stream neither reads nor writes anything of the others, and counts what it skips."""
    writer = Writer(kafka_settings, topics)
    writer.everything()
    counted = since_now("blobtide_parser_skipped_lines_total", reason="blank_line")
    parser = ParserSettings(streams=(Stream.PROXY_LOGS,), quarantine_share=1)
    with running(Settings(kafka=kafka_settings, topics=topics, parser=parser)):
        wait_until_read(kafka_settings, topics.raw_proxy_logs)
    assert counted() == BLOBS * SEGMENTS
    writer.rows = {place for place in writer.rows if "proxy" in place[1]}
    writer.letters = {place for place in writer.letters if "proxy" in place[0]}
    check_exactly_once(kafka_settings, topics, writer)
    assert unread(kafka_settings, "parser", topics.raw_application_logs) == BLOBS * SEGMENTS


def test_a_rubbish_blob_is_quarantined_and_the_others_go_on(kafka_settings: KafkaSettings, topics: TopicSettings) -> None:
    """The segments of a blob that is mostly bad are only referenced from some point on; the others are read."""
    writer = Writer(kafka_settings, topics)
    rubbish, good = "c.d/logs/rubbish", [f"a.b/logs/app{number}" for number in range(4)]
    parser = ParserSettings(poll_messages=4, poll_seconds=0.1, quarantine_records=20, dead_letter_limit=1)
    with running(Settings(kafka=kafka_settings, topics=topics, parser=parser)):
        for number in range(10):
            writer.segment(topics.raw_application_logs, rubbish, *[("", BAD)] * 10)
            for blob in good:
                writer.segment(topics.raw_application_logs, blob, ("application", application(number)))
            writer.flush()
            wait_until_read(kafka_settings, topics.raw_application_logs)
    rows = [place for message in results(kafka_settings, topics.application) for place in places(message, APPLICATION)]
    assert sorted(rows) == sorted(writer.rows)
    codes = Counter(dict(letter.headers)["code"].decode() for letter in results(kafka_settings, topics.errors))
    assert codes.keys() == {ErrorCode.BAD_JSON, ErrorCode.QUARANTINED}
    assert codes[ErrorCode.BAD_JSON] + 10 * codes[ErrorCode.QUARANTINED] == 100
    assert [record.key for record in results(kafka_settings, topics.quarantine)] == [rubbish.encode()]


def test_the_limit_of_bad_input_is_that_of_each_stream(kafka_settings: KafkaSettings, topics: TopicSettings) -> None:
    """One stream of rubbish stops the parser, although another has much more that is good; nothing of the poll is committed."""
    writer = Writer(kafka_settings, topics)
    for number in range(200):
        writer.segment(topics.raw_application_logs, f"a.b/logs/app{number % 4}", *[("application", application(number))] * 20)
        writer.segment(topics.raw_proxy_logs, f"a.b/logs/proxy{number % 4}", *[("", BAD)] * 10)
    writer.flush()
    settings = Settings(kafka=kafka_settings, topics=topics, parser=ParserSettings(quarantine_share=1))
    caught: list[Any] = []

    def run() -> None:
        with pytest.raises(DeadLetterLimit) as error:
            build(settings).run(Stop(), Health())
        caught.append(error.value)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(WAIT_SECONDS)
    assert len(caught) == 1
    assert len(results(kafka_settings, topics.errors)) < len(writer.letters)


def test_flows_and_logs_are_parsed_by_one_parser(kafka_settings: KafkaSettings, topics: TopicSettings) -> None:
    """By default all streams are read, and the rows of each go to their topics."""
    flows = write_segments(kafka_settings, topics)
    writer = Writer(kafka_settings, topics)
    writer.everything()
    settings = Settings(kafka=kafka_settings, topics=topics, parser=ParserSettings(quarantine_share=1))
    with running(settings):
        wait_until_read(kafka_settings, topics.raw_flow_logs, topics.raw_application_logs, topics.raw_proxy_logs)
    assert sum(int(dict(message.headers)["rows"]) for message in results(kafka_settings, topics.flows)) == len(flows)
    rows = {
        name: sum(int(dict(message.headers)["rows"]) for message in results(kafka_settings, topic))
        for name, topic in (("application", topics.application), ("http", topics.http), ("proxy", topics.proxy))
    }
    assert rows == Counter(place[0] for place in writer.rows)
