"""Records outside of a transaction on a real Kafka."""

from __future__ import annotations

import os

import pytest

from libs.common.errors import ConfigError, Retry
from libs.common.kafka.publisher import Publisher, PublisherSpec
from libs.common.kafka.records import Outbound
from libs.common.messages.blobs import partition_of
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from tests.topic_tools import committed_records, limit

pytestmark = pytest.mark.kafka

PARTITIONS = 4


def test_records_are_in_kafka_when_it_returns(kafka_settings: KafkaSettings, topics: TopicSettings) -> None:
    """More records than are under way at once: each is there once, where its key says, and those of a key in order."""
    publisher = Publisher(kafka_settings, PublisherSpec("things", (topics.flows,), records=1_000))
    publisher.open()
    records = [
        Outbound(topics.flows, b"%d" % number, b"key-%d" % (number % 97), (("id", b"%d" % number),)) for number in range(10_000)
    ]
    assert publisher.publish(records) == []
    publisher.close()
    found = committed_records(kafka_settings, topics.flows)
    assert sorted(int(record.value or b"") for record in found) == list(range(10_000))
    assert all(record.headers == (("id", record.value),) for record in found)
    by_key: dict[bytes, list[int]] = {}
    for record in sorted(found, key=lambda record: (record.partition, record.offset)):
        key = record.key or b""
        assert record.partition == partition_of(key, PARTITIONS)
        by_key.setdefault(key, []).append(int(record.value or b""))
    assert all(numbers == sorted(numbers) for numbers in by_key.values())


def test_a_record_too_large_for_its_topic_costs_itself_only(kafka_settings: KafkaSettings, topics: TopicSettings) -> None:
    """It is refused by its place, whether the limit was known or is learned by the refusal; its neighbours are written."""
    limit(kafka_settings, topics.flows, 100_000)
    values = [os.urandom(150_000 if number == 7 else 30_000) for number in range(12)]
    records = [Outbound(topics.flows, value, b"one") for value in values]
    ignorant = Publisher(kafka_settings, PublisherSpec("things"))
    knowing = Publisher(kafka_settings, PublisherSpec("things", (topics.flows,)))
    knowing.open()
    for publisher in (ignorant, knowing):
        refused = publisher.publish(records)
        assert [(one.index, one.is_too_large) for one in refused] == [(7, True)]
        publisher.close()
    written = [record.value for record in committed_records(kafka_settings, topics.flows)]
    assert written == [value for number, value in enumerate(values) if number != 7] * 2


def test_a_topic_that_is_not_there_is_named_at_the_start(kafka_settings: KafkaSettings) -> None:
    """It is the operator's: nothing is published into the void."""
    with pytest.raises(ConfigError, match="topic Nowhere does not exist"):
        Publisher(kafka_settings, PublisherSpec("things", ("Nowhere",))).open()


def test_a_kafka_that_is_away_gives_the_records_back(topics: TopicSettings) -> None:
    """Within seconds, to be tried again; what was tried is dropped."""
    away = KafkaSettings(bootstrap_servers="127.0.0.1:1")
    with pytest.raises(Retry, match="acknowledged none of"):
        Publisher(away, PublisherSpec("things", patience=0.5)).publish([Outbound(topics.flows, b"v")])
