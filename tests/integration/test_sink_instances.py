"""Instances of one kind on a real Kafka: each its own group, rows, condition and names."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from libs.common.settings.kafka import KafkaSettings, TopicSettings
from tests.fixtures.kafka import PARTITIONS
from tests.flows import rows
from tests.sink_process import SECONDS, produce, sink_process, write_config

pytestmark = pytest.mark.kafka
CONTENT = rows(blobs=8, records=4, tuples=4)


def test_each_instance_gets_the_rows_that_it_asks_for(
    kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path
) -> None:
    """One prints some flows under other names, one the dead letters that the first causes; offsets pass what is left out."""
    where = "dst_port = 22 and in_subnet(src_ip, '10.0.0.0/14')"
    sinks = {
        "hot": {
            "kind": "stdout",
            "format": "json",
            "where": where,
            "columns": ["src_ip", "dst_port", "record_offset"],
            "rename": {"src_ip": "source.ip"},
            "dead_letter_limit": 1,
        },
        "letters": {"kind": "stdout", "format": "json", "rows": "dead_letters"},
    }
    config = write_config(tmp_path / "config.yaml", kafka_settings, topics, sinks)
    producer = Producer({"bootstrap.servers": kafka_settings.bootstrap_servers})
    producer.produce(topics.flows, b"nonsense", key=b"k", partition=1)
    assert producer.flush(SECONDS) == 0
    produce(kafka_settings, topics.flows, CONTENT)
    wanted = {
        (row["src_ip"], row["dst_port"], row["record_offset"])
        for row in CONTENT
        if row["dst_port"] == 22 and int(row["src_ip"].split(".")[1]) < 4
    }
    assert 0 < len(wanted) < len(CONTENT)
    with sink_process(config, "hot") as hot, sink_process(config, "letters") as letters:
        assert hot.stdout is not None
        assert letters.stdout is not None
        found: set[Any] = set()
        while not wanted <= found:
            values = json.loads(hot.stdout.readline() or b"null")
            assert values is not None, (tmp_path / "sink.log").read_text()
            assert values.keys() == {"source", "dst_port", "record_offset"}
            found.add((values["source"]["ip"], values["dst_port"], values["record_offset"]))
        assert found == wanted
        letter = json.loads(letters.stdout.readline())
        wait_until_passed(kafka_settings, "hot", topics.flows)
        wait_until_passed(kafka_settings, "letters", topics.errors)
    assert (letter["stage"], letter["code"], letter["bytes_text"]) == ("sink.hot", "bad_message", "nonsense")
    assert (letter["topic"], letter["partition"], letter["offset"]) == (topics.flows, 1, 0)
    assert letter["letter_source"].startswith(f"{topics.errors}/")
    assert len(letter["letter_generation"]) == 22


def wait_until_passed(kafka: KafkaSettings, name: str, topic: str) -> None:
    """Wait until the group of a sink has committed the end of each partition that holds anything."""
    config = {"bootstrap.servers": kafka.bootstrap_servers, "group.id": f"{kafka.group_prefix}.sink.{name}"}
    consumer = Consumer(config)
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    deadline = time.monotonic() + SECONDS
    try:
        while True:
            ends = [consumer.get_watermark_offsets(partition, SECONDS)[1] for partition in partitions]
            committed = [max(0, one.offset) for one in consumer.committed(partitions, SECONDS)]
            if committed == ends:
                return
            assert time.monotonic() < deadline, (committed, ends)
    finally:
        consumer.close()
