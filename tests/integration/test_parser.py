"""The parser process's loop on a real Kafka: segments in, flow batches and dead letters out, once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer

from libs.common.errors import ConfigError
from libs.common.kafka.client.configs import make_admin
from libs.common.kafka.records import Inbound
from libs.common.kafka.topics.admin import TopicSpec, apply_topics
from libs.common.messages.blobs import partition_of
from libs.common.messages.segments import Segment, SegmentFormat
from libs.common.process.health import Health
from libs.common.process.service import Stop
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.wire import decode_rows
from libs.common.settings import Settings
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.parser import ParserSettings
from services.parser.main import build
from tests.metric_values import since_now
from tests.topic_tools import read_compacted
from tests.unit.parser.test_kernel import GOOD, vnet

pytestmark = pytest.mark.kafka
PARTITIONS = range(4)
BLOBS = 12
RECORDS = 40


def write_segments(kafka: KafkaSettings, topics: TopicSettings) -> set[tuple[str, int, int]]:
    """Write segments of several blobs, one with a bad tuple in each; return the identities of the good tuples."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "partitioner": "murmur2_random"})
    expected, ends = set(), [14] * BLOBS
    for _ in range(RECORDS):
        for blob in range(BLOBS):
            data = b"," + json.dumps(vnet(GOOD, "bad", GOOD)).encode()
            segment = Segment(f"a.b/logs/{blob}", "g", ends[blob], ends[blob] + len(data), 0, SegmentFormat.VNET, data)
            producer.produce(topics.raw_flow_logs, data, segment.blob.encode(), headers=list(segment.headers()))
            expected |= {(segment.blob, segment.start + 1, index) for index in (0, 2)}
            ends[blob] = segment.end
    assert producer.flush(30) == 0
    return expected


@contextmanager
def running(settings: Settings) -> Iterator[threading.Thread]:
    """Run a parser until the block ends."""
    stop = Stop()
    thread = threading.Thread(target=build(settings).run, args=(stop, Health()), daemon=True)
    thread.start()
    yield thread
    stop.set()
    thread.join(20)
    assert not thread.is_alive()


def results(kafka: KafkaSettings, topic: str) -> list[Inbound]:
    """Return what was committed to a topic."""
    return list(read_compacted(kafka, topic, PARTITIONS))


def rows(message: Inbound) -> list[tuple[str, int, int]]:
    """Return the identities in a flow batch."""
    table = decode_rows(FLOWS, message.value or b"")
    return list(zip(*(table[name].to_pylist() for name in ("blob", "record_offset", "tuple_index")), strict=True))


def test_every_tuple_comes_out_once_in_order_also_after_a_restart(kafka_settings: KafkaSettings, topics: TopicSettings) -> None:
    """Two parsers one after the other leave each row once, in order, on its blob's partition, and each bad tuple in Errors."""
    expected = write_segments(kafka_settings, topics)
    # Small polls, so that the first parser has not read everything when it stops.
    counted = since_now("blobtide_kafka_dead_letters_total", stage="parser", code="short_tuple")
    parser = ParserSettings(poll_messages=40, poll_seconds=0.2, dead_letter_limit=1.0)
    settings = Settings(kafka=kafka_settings, topics=topics, parser=parser)
    deadline = time.monotonic() + 60
    with running(settings):
        while not results(kafka_settings, topics.flows):
            assert time.monotonic() < deadline
    with running(settings):
        while sum(len(rows(message)) for message in results(kafka_settings, topics.flows)) < len(expected):
            assert time.monotonic() < deadline
    batches = results(kafka_settings, topics.flows)
    found = [row for message in batches for row in rows(message)]
    assert len(found) == len(set(found))
    assert set(found) == expected
    for message in batches:
        assert {partition_of(blob.encode(), len(PARTITIONS)) for blob, _, _ in rows(message)} == {message.partition}
    for blob in {blob for blob, _, _ in found}:
        places = [row for row in found if row[0] == blob]
        assert places == sorted(places)
    letters = results(kafka_settings, topics.errors)
    assert len(letters) == BLOBS * RECORDS
    assert {letter.value for letter in letters} == {b"bad"}
    assert counted() == len(letters)


def test_rows_without_a_partition_to_go_to_are_noticed_at_the_start(
    kafka_settings: KafkaSettings, topics: TopicSettings
) -> None:
    """A topic of rows with fewer partitions than that of segments is refused with both counts."""
    few = f"{topics.flows}.few"
    apply_topics(kafka_settings, topics.model_copy(update={"flows": few}), [TopicSpec("flows", 2, 1, {})])
    settings = Settings(kafka=kafka_settings, topics=topics.model_copy(update={"flows": few}))
    try:
        with pytest.raises(ConfigError, match="the same number of partitions"):
            build(settings).run(Stop(), Health())
    finally:
        admin = make_admin(kafka_settings)
        admin.delete_topics([few])[few].result(30)
