"""The sinks that send requests, as processes on a real Kafka: killed while sending, and stopped while sending."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from libs.common.rows.types.flows import FLOWS
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from tests.fixtures.kafka import PARTITIONS
from tests.flows import identity, rows
from tests.integration.test_sink_instances import wait_until_passed
from tests.otlp_records import expected_record, records_of
from tests.receiver import LocalReceiver, Place
from tests.sink_process import SECONDS, produce, sink_process, write_config

pytestmark = pytest.mark.kafka
CONTENT = rows(blobs=8, records=4, tuples=4)
A_BODY = 300  # bytes; the request of the otlp sink at its start is smaller


def options_of(kind: str, place: Place) -> dict[str, Any]:
    """Return the options of a sink of that kind."""
    path = f"{place.path}/hook" if kind == "http" else f"{place.path}/v1/logs"
    return {"hosts": [place.server.url], "path": path, "timeout_seconds": 30}


def came(kind: str, place: Place) -> set[Any]:
    """Return what identifies each row that came; repeated ones say the same."""
    if kind == "http":
        return {identity(json.loads(line)) for request in place.kept() for line in request.body.splitlines()}
    return {uid(record) for request in place.kept() for record in records_of(request.body)}


def wanted(kind: str) -> set[Any]:
    """Return what identifies each row."""
    return {identity(row) if kind == "http" else uid(expected_record(FLOWS, row)) for row in CONTENT}


def uid(record: dict[str, Any]) -> str:
    """Return the uid of a record."""
    found: str = record["attributes"]["log.record.uid"]
    return found


def wait_for(happened: Callable[[], bool], log: Path) -> None:
    """Wait until something has happened."""
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def committed(kafka: KafkaSettings, name: str, topic: str) -> int:
    """Return how many messages the group of a sink has passed, over all partitions."""
    config = {"bootstrap.servers": kafka.bootstrap_servers, "group.id": f"{kafka.group_prefix}.sink.{name}"}
    with closing(Consumer(config)) as consumer:
        found = consumer.committed([TopicPartition(topic, number) for number in range(PARTITIONS)], SECONDS)
        return sum(max(0, one.offset) for one in found)


@pytest.mark.parametrize("kind", ["http", "otlp"])
def test_a_process_that_is_killed_or_stopped_while_sending_loses_nothing(
    kind: str, kafka_settings: KafkaSettings, topics: TopicSettings, receiver: LocalReceiver, tmp_path: Path
) -> None:
    """What a killed process had sent without an answer comes again; one that is stopped waits for the answer and commits."""
    place, log = receiver.place(), tmp_path / "sink.log"
    config = write_config(tmp_path / "config.yaml", kafka_settings, topics, {kind: options_of(kind, place)})
    produce(kafka_settings, topics.flows, CONTENT)
    place.rules(hold=A_BODY, keys=True)
    with sink_process(config, kind):  # killed at the end
        wait_for(lambda: place.waiting() > 0, log)
    place.rules(keys=True)
    wait_for(lambda: place.waiting() == 0, log)
    place.rules(hold=A_BODY, keys=True)
    with sink_process(config, kind) as process:
        wait_for(lambda: place.waiting() > 0, log)
        process.terminate()
        place.rules(keys=True)
        assert process.wait(SECONDS) == 0
    assert committed(kafka_settings, kind, topics.flows) > 0
    with sink_process(config, kind):
        wait_until_passed(kafka_settings, kind, topics.flows)
    assert came(kind, place) == wanted(kind)
    if kind == "http":
        keys = [request.headers["idempotency-key"] for request in place.kept()]
        assert len(set(keys)) == len(keys)
    assert "Traceback" not in log.read_text()
