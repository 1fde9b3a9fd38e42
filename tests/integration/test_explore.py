"""`blobtide explore` on a real Kafka."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from libs.common.kafka.records import Outbound
from libs.common.kafka.writing import write
from libs.common.messages.labels import pack_labels
from libs.common.messages.segments import Segment, SegmentFormat
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from services.cli.main import run

pytestmark = pytest.mark.kafka

LINES = [f'{{"logs":{{"level":"{"ERROR" if number % 5 == 0 else "INFO"}","n":{number}}}}}\n'.encode() for number in range(50)]


@pytest.fixture
def config(kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path) -> str:
    """Five segments of ten lines of one service, one of another in the topic for proxies, and a message that is no segment."""
    records, start = [], 0
    for number in range(5):
        data = b"".join(LINES[number * 10 : number * 10 + 10])
        records.append(_segment(topics.raw_application_logs, "api", start, data))
        start += len(data)
    records.append(_segment(topics.raw_proxy_logs, "apache-proxy", 0, b"GET /\n"))
    records.append(Outbound(topics.raw_proxy_logs, b"garbage", b"key"))
    write(kafka_settings, records)
    file = tmp_path / "config.yaml"
    kafka = {"bootstrap_servers": kafka_settings.bootstrap_servers, "group_prefix": kafka_settings.group_prefix}
    file.write_text(yaml.safe_dump({"kafka": kafka, "topics": topics.model_dump()}))
    return str(file)


def _segment(topic: str, service: str, start: int, data: bytes) -> Outbound:
    labels = pack_labels({"service": service, "environment": "P1", "subscription": "cp2"})
    segment = Segment(f"cp2.P1/logs/{service}", "g", start, start + len(data), 0, SegmentFormat.LINES, data, labels=labels)
    return Outbound(topic, data, segment.blob.encode(), segment.headers())


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[list[str], str]:
    """Return what the command prints, and what it says of trouble."""
    capsys.readouterr()
    assert run(["explore", *words]) == 0
    printed = capsys.readouterr()
    return printed.out.splitlines(), printed.err


def test_lines_are_found_by_all_filters_and_limits(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line with the blob and the offset where it is; what is no segment is named and skipped."""
    lines, trouble = shown(capsys, "--config", config)
    assert len(lines) == 51
    assert "not a segment" in trouble
    errors, _ = shown(capsys, "--config", config, "--service", "api", "--field", "logs.level=ERROR", "--format", "json")
    found = [json.loads(line) for line in errors]
    assert [one["line"]["logs"]["n"] for one in found] == list(range(0, 50, 5))
    assert [one["offset"] for one in found] == [sum(map(len, LINES[:number])) for number in range(0, 50, 5)]
    some, _ = shown(capsys, "--config", config, "--grep", "ERROR", "--skip", "2", "--max", "3", "--format", "raw")
    assert some == [LINES[number].decode().strip() for number in (10, 15, 20)]
    assert shown(capsys, "--config", config, "--blob", "*/apache-*")[0] == ["apache-proxy  cp2.P1/logs/apache-proxy:0  GET /"]


def test_a_topic_is_summed_up(config: str, topics: TopicSettings, capsys: pytest.CaptureFixture[str]) -> None:
    """By partition, or by what its lines say."""
    info, _ = shown(capsys, "raw_application_logs", "--info", "--config", config)
    assert [line.partition(": ")[2].split(", ")[:2] for line in info] == [["5 segments", "50 lines"]]
    assert info[0].startswith(f"{topics.raw_application_logs}/")
    sums, _ = shown(capsys, "raw_application_logs", "--analyze", "--format", "json", "--config", config)
    assert json.loads(sums[0])["levels"] == {"INFO": 40, "ERROR": 10}


def test_a_malformed_filter_is_refused(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The option and its value are named."""
    assert run(["explore", "--field", "level", "--config", config]) == 2
    assert "--field 'level': give PATH=VALUE" in capsys.readouterr().err
