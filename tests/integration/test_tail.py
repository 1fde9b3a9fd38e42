"""`blobtide tail` on a real Kafka: every kind of message of the pipeline, as lines and as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from confluent_kafka import Producer

from libs.common.kafka.topics.topic_ids import TopicIds
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.messages.events import BlobClosed, encode_event, event_headers
from libs.common.messages.headers import Headers
from libs.common.messages.segments import Segment, SegmentFormat
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.wire import encode_rows, row_headers
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from tests.flows import rows, table

pytestmark = pytest.mark.kafka

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SEGMENT = Segment("s.e/logs/PT1H.json", "00ff", 12, 30, 1, SegmentFormat.VNET, b',{"time":"x"}')
CLOSED = BlobClosed("s.e/logs/PT1H.json", "0x1", 14, NOW, NOW, 900)
LETTER = DeadLetter("parser", ErrorCode.SHORT_TUPLE, "3 fields; at least 8", b"1,2,\xff", blob="s.e/logs/PT1H.json")


def produce(kafka: KafkaSettings, topic: str, value: bytes, headers: Headers, partition: int = -1) -> None:
    """Write one message, where its key belongs or to `partition`."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce(topic, value, key=b"s.e/logs/PT1H.json", headers=list(headers), partition=partition)
    assert producer.flush(30) == 0


@pytest.fixture
def config(kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path) -> Path:
    """One message of every kind, and the settings to find them."""
    produce(
        kafka_settings,
        topics.flows,
        encode_rows(FLOWS, table(rows(1, 1, 3)).combine_chunks().to_batches()[0]),
        row_headers(FLOWS),
    )
    produce(kafka_settings, topics.raw_flow_logs, SEGMENT.data, SEGMENT.headers())
    produce(kafka_settings, topics.blobs, encode_event(CLOSED), event_headers(CLOSED))
    produce(kafka_settings, topics.errors, LETTER.data, LETTER.headers())
    produce(kafka_settings, topics.errors, b"", (("type", b"BlobClosed"),))
    file = tmp_path / "config.yaml"
    kafka = {"bootstrap_servers": kafka_settings.bootstrap_servers}
    file.write_text(yaml.safe_dump({"kafka": kafka, "topics": topics.model_dump()}))
    return file


def tail(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `blobtide tail` to its end."""
    argv = (sys.executable, "-m", "services.cli.main", "tail", *words, "--config", str(config))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_flow_batches_become_one_line_a_flow(config: Path) -> None:
    """A batch of three flows is three readable lines, and JSON lines carry the identity."""
    assert len(tail(config, "flows").stdout.splitlines()) == 3
    shown = [json.loads(line) for line in tail(config, "flows", "--format", "json").stdout.splitlines()]
    assert [set(line["value"]) >= {"blob", "generation", "record_offset", "tuple_index"} for line in shown] == [True] * 3
    assert [(line["type"], line["offset"]) for line in shown] == [("flow-batch", 0)] * 3


def test_where_shows_only_rows_that_meet_a_condition(config: Path) -> None:
    """Of flows and of dead letters only those that meet the condition are shown; the others are counted at the end."""
    done = tail(config, "--where", "dst_port = 53 and in_subnet(src_ip, '10.0.0.0/8')", "--format", "json")
    assert [json.loads(line)["value"]["dst_port"] for line in done.stdout.splitlines()] == [53]
    assert "rows filtered out: 2" in done.stderr
    letters = tail(config, "errors", "--where", "code = 'short_tuple'", "--format", "json").stdout.splitlines()
    assert "short_tuple" in [json.loads(line)["value"].get("code") for line in letters]


def test_segments_events_and_dead_letters_are_decoded(config: Path) -> None:
    """Positions, fields and original bytes are shown as one JSON object a message."""
    shown = {
        row["type"]: row["value"]
        for row in map(json.loads, tail(config, "raw_flow_logs", "blobs", "errors", "--format", "json").stdout.splitlines())
        if "undecodable" not in row["value"]
    }
    assert (shown["segment"]["start"], shown["segment"]["data"]) == (12, ',{"time":"x"}')
    assert shown["BlobClosed"]["closed_at"] == "2026-05-01T12:00:00.000Z"
    assert (shown["dead-letter"]["code"], shown["dead-letter"]["bytes"]) == ("short_tuple", "base64:MSwyLP8=")


def test_dead_letters_are_shown_as_the_rows_that_a_sink_would_write(config: Path, kafka_settings: KafkaSettings) -> None:
    """`--rows` reads the topic of its row type; the position holds the id that Kafka gave the topic."""
    values = [
        json.loads(line)["value"] for line in tail(config, "--rows", "dead_letters", "--format", "json").stdout.splitlines()
    ]
    [row] = [value for value in values if "undecodable" not in value]
    assert len(values) == 2
    topic, _, _ = row["letter_source"].partition("/")
    assert (row["code"], row["blob"], row["bytes_base64"]) == ("short_tuple", LETTER.blob, "MSwyLP8=")
    assert row["letter_generation"] == TopicIds(kafka_settings)(topic)


def test_a_message_that_cannot_be_decoded_is_shown_all_the_same(config: Path) -> None:
    """A broken event is a line with the reason, not a gap and not a failure."""
    assert "undecodable" in tail(config, "errors").stdout


def test_grep_max_and_the_hint_at_the_end(config: Path) -> None:
    """Filters apply to lines; without -f the end says how to go on."""
    assert tail(config, "errors", "--grep", "short_tuple").stdout.count("\n") == 1
    limited = tail(config, "flows", "--max", "2")
    assert limited.stdout.count("\n") == 2
    assert "use -f to keep following" in tail(config, "flows", "--tail", "0").stderr


def test_following_shows_what_arrives_later(config: Path, kafka_settings: KafkaSettings, topics: TopicSettings) -> None:
    """With -f a message that comes after the start is shown."""
    argv = (sys.executable, "-m", "services.cli.main", "tail", "-f", "blobs", "--max", "2", "--config", str(config))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "BlobClosed" in process.stdout.readline()
        later = replace(CLOSED, size=4711)
        produce(kafka_settings, topics.blobs, encode_event(later), event_headers(later))
        assert "size=4711" in process.stdout.readline()
        assert process.wait(60) == 0


def test_the_count_is_of_lines(config: Path) -> None:
    """One line is one flow, although all three came in one message."""
    every = tail(config, "flows").stdout.splitlines()
    assert tail(config, "flows", "-n", "1").stdout.splitlines() == every[-1:]
    assert tail(config, "flows", "--since", "0").stdout.splitlines() == every


def test_a_partition_is_chosen_before_the_newest_lines(
    config: Path, kafka_settings: KafkaSettings, topics: TopicSettings
) -> None:
    """Old messages of a quiet partition are shown although others have many newer ones; an unknown partition is refused."""
    for number in range(15):
        event = replace(CLOSED, size=number)
        produce(kafka_settings, topics.blobs, encode_event(event), event_headers(event), partition=0 if number < 2 else 1)
    shown = [json.loads(line) for line in tail(config, "blobs", "--partition", "0", "--format", "json").stdout.splitlines()]
    assert {line["partition"] for line in shown} == {0}
    assert [line["value"]["size"] for line in shown if line["value"]["size"] < 2] == [0, 1]
    argv = (sys.executable, "-m", "services.cli.main", "tail", "blobs", "--partition", "99", "--config", str(config))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "has no partition 99: it has" in done.stderr


def test_an_unknown_topic_is_refused_with_a_suggestion(config: Path) -> None:
    """A misspelt short name is one line that names the right one."""
    argv = (sys.executable, "-m", "services.cli.main", "tail", "flws", "--config", str(config))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "topic flws does not exist" in done.stderr
    assert "did you mean flows?" in done.stderr
