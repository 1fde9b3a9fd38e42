"""Topics that take smaller records than ours, on a real Kafka: everything arrives in smaller ones, nothing innocent is lost."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from confluent_kafka import Producer

from libs.common.errors import ConfigError, Retry
from libs.common.kafka.client.configs import producer_config
from libs.common.kafka.loops.dead_letter_writer import DeadLetterWriter
from libs.common.kafka.records import CommitResult, Outbound
from libs.common.kafka.testing import SilentListener
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.kafka.transactions.session import SessionSpec, TransactionalSession
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.messages.segments import Segment, SegmentFormat
from libs.common.process.health import Health
from libs.common.process.service import Stop
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.wire import decode_rows
from libs.common.settings import Settings
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from services.parser.main import build
from tests.running import running, until
from tests.topic_tools import committed_records, limit
from tests.unit.parser.test_kernel import vnet

pytestmark = pytest.mark.kafka

Place = tuple[str, int, int]


def flow_tuples(count: int) -> list[str]:
    """Return tuples that hardly compress."""
    draw = random.Random(count)
    return [
        f"1663146{draw.randrange(1_000_000):06},10.{draw.randrange(256)}.{draw.randrange(256)}.{draw.randrange(256)},192.0.2.1,"
        f"{draw.randrange(65_536)},443,6,O,E,NX,{draw.randrange(1 << 40)},{draw.randrange(1 << 60)},"
        f"{draw.randrange(1 << 40)},{draw.randrange(1 << 60)}"
        for _ in range(count)
    ]


class Raw:
    """Writes segments, and knows which rows must come of them."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self._producer = Producer(producer_config(kafka))
        self._topic = topic
        self._ends: dict[str, int] = {}
        self.expected: list[Place] = []

    def segment(self, blob: str, tuples: Sequence[str], facts: Mapping[str, object] | None = None) -> None:
        """Write a segment of one record."""
        data = json.dumps(vnet(*tuples) | dict(facts or {})).encode()
        start = self._ends.get(blob, 14)
        segment = Segment(blob, "g", start, start + len(data), 0, SegmentFormat.VNET, data)
        self.message(data, dict(segment.headers()), blob.encode())
        self.expected += [(blob, start, index) for index in range(len(tuples))]
        self._ends[blob] = segment.end

    def message(self, value: bytes, headers: dict[str, bytes], key: bytes) -> None:
        """Write any message."""
        self._producer.produce(self._topic, value, key, headers=list(headers.items()))
        assert self._producer.flush(30) == 0


@pytest.fixture
def raw(kafka_settings: KafkaSettings, topics: TopicSettings) -> Raw:
    """Return who writes segments."""
    return Raw(kafka_settings, topics.raw_flow_logs)


def places(kafka: KafkaSettings, topic: str) -> list[Place]:
    """Return the rows that were committed, by where they stand."""
    tables = [decode_rows(FLOWS, message.value or b"") for message in committed_records(kafka, topic)]
    columns = ("blob", "record_offset", "tuple_index")
    return [row for table in tables for row in zip(*(table[name].to_pylist() for name in columns), strict=True)]


def test_flow_batches_fit_in_the_topic_also_when_its_limit_is_lowered(
    kafka_settings: KafkaSettings, topics: TopicSettings, raw: Raw
) -> None:
    """30,000 good tuples of a segment all become rows, once and in order, whatever the topic takes; none is a dead letter."""
    limit(kafka_settings, topics.flows, 400_000)
    raw.segment("a.b/logs/0", flow_tuples(30_000))
    with running(build(Settings(kafka=kafka_settings, topics=topics))):
        until(lambda: len(places(kafka_settings, topics.flows)) >= 30_000, "rows in batches below 400,000 bytes")
        limit(kafka_settings, topics.flows, 100_000)
        raw.segment("a.b/logs/0", flow_tuples(20_000))
        raw.segment("a.b/logs/1", flow_tuples(10_000))
        until(lambda: len(places(kafka_settings, topics.flows)) >= 60_000, "rows in batches below 100,000 bytes")
    found = places(kafka_settings, topics.flows)
    assert sorted(found) == sorted(raw.expected)
    assert [place for place in found if place[0] == "a.b/logs/0"] == [
        place for place in raw.expected if place[0] == "a.b/logs/0"
    ]
    assert committed_records(kafka_settings, topics.errors) == []


def test_only_a_row_that_fits_in_no_message_is_a_dead_letter(
    kafka_settings: KafkaSettings, topics: TopicSettings, raw: Raw
) -> None:
    """Its letter names it, says why and how to help; its neighbours become rows."""
    limit(kafka_settings, topics.flows, 32_768)
    names = dict.fromkeys(("flowLogGUID", "flowLogResourceID", "targetResourceID", "systemId"), "€" * 1_000)
    raw.segment("a.b/logs/0", flow_tuples(300))
    raw.segment("a.b/logs/0" + "é" * 500, flow_tuples(2), names)
    raw.segment("a.b/logs/0", flow_tuples(300))
    with running(build(Settings(kafka=kafka_settings, topics=topics))):
        until(lambda: len(committed_records(kafka_settings, topics.errors)) >= 2, "dead letters")
        until(lambda: len(places(kafka_settings, topics.flows)) >= 600, "rows")
    large = [place for place in raw.expected if place[0] != "a.b/logs/0"]
    assert Counter(places(kafka_settings, topics.flows)) == Counter(raw.expected) - Counter(large)
    letters = [dict(letter.headers) for letter in committed_records(kafka_settings, topics.errors)]
    assert [(h["blob"].decode(), int(h["record-offset"]), int(h["tuple-index"])) for h in letters] == large
    assert {(h["code"], h["source-topic"]) for h in letters} == {(b"too_large", topics.raw_flow_logs.encode())}
    assert b"does not fit in a message of 16384 bytes: raise the topic's max.message.bytes" in letters[0]["reason"]


def test_a_dead_letter_that_the_errors_topic_does_not_take_is_written_cut(
    kafka_settings: KafkaSettings, topics: TopicSettings, raw: Raw
) -> None:
    """Its beginning, reason and place arrive, also when the limit is lowered meanwhile, and the rows around it."""
    noise = os.urandom(300_000)
    limit(kafka_settings, topics.errors, 200_000)
    with running(build(Settings(kafka=kafka_settings, topics=topics))):
        for number, size in enumerate((200_000, 50_000)):
            limit(kafka_settings, topics.errors, size)
            raw.segment(f"a.b/logs/{number}", flow_tuples(100))
            raw.message(noise, {"type": b"no segment"}, b"key")
            raw.segment(f"a.b/logs/{number}", flow_tuples(100))
            until(lambda n=number: len(committed_records(kafka_settings, topics.errors)) > n, "dead letter")  # type: ignore[misc]
        until(lambda: len(places(kafka_settings, topics.flows)) >= 400, "rows")
    assert Counter(places(kafka_settings, topics.flows)) == Counter(raw.expected)
    letters = committed_records(kafka_settings, topics.errors)
    assert [100_000 < len(letter.value or b"") < 200_000 for letter in letters] == [True, False]
    for letter in letters:
        headers = dict(letter.headers)
        assert noise.startswith(letter.value or b"-")
        assert int(headers["source-omitted-bytes"]) + len(letter.value or b"") == len(noise)
        assert (headers["code"], headers["source-topic"]) == (b"bad_message", topics.raw_flow_logs.encode())


def test_a_sinks_dead_letters_fit_in_the_errors_topic(kafka_settings: KafkaSettings, topics: TopicSettings) -> None:
    """Letters too large together and one too large by itself are written, also when the limit is lowered between two."""
    letters = [DeadLetter("sink.s", ErrorCode.REFUSED, "no", os.urandom(30_000)) for _ in range(10)]
    letters.append(DeadLetter("sink.s", ErrorCode.REFUSED, "long", os.urandom(200_000)))
    limit(kafka_settings, topics.errors, 100_000)
    writer = DeadLetterWriter(kafka_settings, topics.errors)
    writer.open()
    writer.write(letters)
    limit(kafka_settings, topics.errors, 40_000)
    with pytest.raises(Retry, match="does not accept messages as large"):
        writer.write(letters[-1:])
    writer.write(letters[-1:])
    writer.close()
    written = [letter.value or b"" for letter in committed_records(kafka_settings, topics.errors)]
    assert {letter.data for letter in letters[:-1]} <= set(written)
    first, second = sorted((value for value in written if letters[-1].data.startswith(value)), key=len)
    assert 30_000 < len(first) < 40_000
    assert 90_000 < len(second) < 100_000


def test_a_limit_of_no_use_ends_the_service_with_the_setting(kafka_settings: KafkaSettings, topics: TopicSettings) -> None:
    """It ends with exit code 2 before it reads anything, and names topic, limit and what to set."""
    limit(kafka_settings, topics.flows, 5_000)
    with pytest.raises(ConfigError, match=f"topic {topics.flows} accepts messages of at most 5000 bytes.*max.message.bytes"):
        build(Settings(kafka=kafka_settings, topics=topics)).run(Stop(), Health())


def test_without_the_right_to_ask_refusals_teach_the_limit(kafka_settings: KafkaSettings, topics: TopicSettings) -> None:
    """Where Kafka does not tell, what it refuses ends as aborted, and halves what is tried until it commits."""
    limit(kafka_settings, topics.flows, 300_000)
    limits = TopicLimits(kafka_settings, (topics.flows,), lambda _: {})
    session = TransactionalSession(kafka_settings, SessionSpec("r", 0, (topics.raw_flow_logs,)), SilentListener(), limits)
    session.open()
    results: list[CommitResult] = []
    try:
        until(lambda: not session.poll(1, 0.1) and bool(session.owned()), "partitions")
        while CommitResult.COMMITTED not in results:
            assert len(results) < 20
            results.append(session.commit([Outbound(topics.flows, os.urandom(limits.room(topics.flows)), partition=0)], {}))
            until(lambda: not session.poll(1, 0.1) and bool(session.owned()), "partitions")
    finally:
        session.close()
    assert results.count(CommitResult.ABORTED) == 5, "8 MiB, halved five times, is less than 300,000"
    assert [200_000 < len(record.value or b"") < 300_000 for record in committed_records(kafka_settings, topics.flows)] == [
        True
    ]
