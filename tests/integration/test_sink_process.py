"""Sinks as processes on a real Kafka."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import IO, Any

import pytest
from confluent_kafka import Consumer, Producer

from libs.common.settings.kafka import KafkaSettings, TopicSettings
from services.sinks.kinds.summary.fold import SOCKET
from tests.flows import identity, rows
from tests.sink_process import SECONDS, produce, sink_process, write_config

CONTENT = rows(blobs=8, records=4, tuples=4)


@pytest.mark.kafka
def test_stdout_prints_all_rows_and_leaves_with_its_reader(
    kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path
) -> None:
    """Every row is printed, a message that is no flow batch goes to Errors, and a reader that leaves ends it quietly."""
    options = {"format": "json", "dead_letter_limit": 1}
    config = write_config(tmp_path / "config.yaml", kafka_settings, topics, {"stdout": options})
    producer = Producer({"bootstrap.servers": kafka_settings.bootstrap_servers})
    producer.produce(topics.flows, b"nonsense", key=b"k", partition=0)
    assert producer.flush(SECONDS) == 0
    produce(kafka_settings, topics.flows, CONTENT)
    with sink_process(config, "stdout") as process:
        assert process.stdout is not None
        found: set[object] = set()
        while len(found) < len(CONTENT):
            line = process.stdout.readline()
            assert line, (tmp_path / "sink.log").read_text()
            found.add(identity(json.loads(line)))
        assert found == {identity(row) for row in CONTENT}
        process.stdout.close()
        produce(kafka_settings, topics.flows, CONTENT)
        assert process.wait(SECONDS) == 0
    assert "Traceback" not in (tmp_path / "sink.log").read_text()
    assert dead_letter(kafka_settings, topics.errors) == (b"nonsense", b"k", b"bad_message", b"sink.stdout")


def dead_letter(kafka: KafkaSettings, topic: str) -> tuple[object, ...]:
    """Return bytes, key, code and stage of the one dead letter."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "group.id": f"{kafka.group_prefix}.test",
            "auto.offset.reset": "earliest",
        }
    )
    try:
        consumer.subscribe([topic])
        message = consumer.poll(SECONDS)
        assert message is not None
        assert message.error() is None
        found = message.headers()
        assert isinstance(found, list)
        headers = dict(found)
        return message.value(), message.key(), headers["code"], headers["stage"]
    finally:
        consumer.close()


@pytest.mark.kafka
def test_summary_prints_a_table_and_writes_each_minute_once(
    kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path
) -> None:
    """The growing table appears on standard output; after SIGTERM, a replay and a new start the files add up to the flows."""
    directory = tmp_path / "summary"
    options = {"directory": str(directory), "print_seconds": 0.2, "lateness_seconds": 1, "rotate_seconds": 0.5}
    config = write_config(tmp_path / "config.yaml", kafka_settings, topics, {"summary": options})
    produce(kafka_settings, topics.flows, CONTENT)
    with sink_process(config, "summary") as process:
        assert process.stdout is not None
        read_until(process.stdout, f"{len(CONTENT)} flows until", config)
        assert process.stdout.readline().startswith(b"SERVICE")
        stop(process)
    # The blobs behind the replay tell when all of it was read.
    more = rows(blobs=12, records=4, tuples=4)
    produce(kafka_settings, topics.flows, CONTENT)
    produce(kafka_settings, topics.flows, [row for row in more if row["blob"] not in {known["blob"] for known in CONTENT}])
    with sink_process(config, "summary") as process:
        assert process.stdout is not None
        read_until(process.stdout, f"{len(more)} flows until", config)
        wait_for_flows(directory, len(more))
        stop(process)
    lines = summary_rows(directory)
    assert sum(line["flows"] for line in lines) == len(more)
    minutes = [tuple(line[name] for name in ("shard", "minute", *SOCKET)) for line in lines if line["kind"] == "minute"]
    assert len(set(minutes)) == len(minutes) > 0
    assert {line["minute"][:10] for line in lines} == {"2026-05-01"}


def read_until(output: IO[bytes], text: str, config: Path) -> None:
    """Read lines up to one with `text`."""
    while text not in (line := output.readline().decode()):
        assert line, (config.parent / "sink.log").read_text()


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a sink by SIGTERM."""
    process.terminate()
    assert process.stdout is not None
    process.stdout.read()
    assert process.wait(SECONDS) == 0


def wait_for_flows(directory: Path, flows: int) -> None:
    """Wait until the files of a summary add up to at least so many flows."""
    deadline = time.monotonic() + SECONDS
    while sum(row["flows"] for row in summary_rows(directory)) < flows:
        assert time.monotonic() < deadline, "the files do not add up"
        time.sleep(0.1)


def summary_rows(directory: Path) -> list[dict[str, Any]]:
    """Return the rows of all files, each with the shard that its file is of."""
    return [
        json.loads(line) | {"shard": file.name.split("-")[1]}
        for file in directory.glob("*.ndjson")
        for line in file.read_text().splitlines()
    ]
