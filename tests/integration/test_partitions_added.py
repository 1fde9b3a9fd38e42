"""Partitions that are added to one of two topics that belong together while services run, on a real Kafka."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from libs.common.kafka.client.configs import producer_config
from libs.common.kafka.group import lag, partners
from libs.common.messages.blobs import partition_of
from libs.common.messages.events import Stream
from libs.common.messages.segments import Segment, SegmentFormat
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.wire import decode_rows
from libs.common.settings import Settings
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.parser import ParserSettings
from libs.local.azurite import LocalAzurite
from services.ingest.main import build as build_ingest
from services.parser.main import build
from tests.ingest_site import Site, minute
from tests.metric_values import since_now, value
from tests.running import running, until
from tests.topic_tools import committed_records
from tests.topic_tools import lag as lag_of
from tests.unit.parser.test_kernel import GOOD, vnet

pytestmark = pytest.mark.kafka

SECONDS = 90.0
OLD, NEW = range(4), range(4, 6)  # partitions


@pytest.fixture
def watchful(kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> KafkaSettings:
    """Settings of clients that look often."""
    monkeypatch.setattr(partners, "ASK_SECONDS", 0.2)
    monkeypatch.setattr(lag, "ASK_SECONDS", 0.2)
    return kafka_settings.model_copy(update={"librdkafka": {"topic.metadata.refresh.interval.ms": "500"}})


def add_partitions(kafka: KafkaSettings, topic: str, count: int) -> None:
    """Make them `count`."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_partitions([NewPartitions(topic, count)])[topic].result(30)


class Raw:
    """Writes segments of two rows, each of a blob of its own, and sees which rows were committed on which partition."""

    def __init__(self, kafka: KafkaSettings, topics: TopicSettings) -> None:
        self._kafka = kafka
        self._topics = topics
        self._blobs = 0
        self.expected: Counter[tuple[int, str]] = Counter()

    def write(self, partitions: Collection[int]) -> None:
        """Write a segment to each partition."""
        producer = Producer(producer_config(self._kafka))
        for partition in partitions:
            data = json.dumps(vnet(GOOD, GOOD)).encode()
            blob = f"a.b/logs/{self._blobs}"
            segment = Segment(blob, "g", 14, 14 + len(data), 0, SegmentFormat.VNET, data)
            producer.produce(self._topics.raw_flow_logs, data, blob.encode(), partition, headers=list(segment.headers()))
            self.expected[partition, blob] += 2
            self._blobs += 1
        assert producer.flush(30) == 0

    def rows(self) -> Counter[tuple[int, str]]:
        """Count the rows by partition and blob."""
        return Counter(
            (message.partition, blob)
            for message in committed_records(self._kafka, self._topics.flows)
            for blob in decode_rows(FLOWS, message.value or b"")["blob"].to_pylist()
        )

    def have_come(self, partitions: Collection[int]) -> bool:
        """Tell whether all rows of these partitions are there."""
        found = self.rows()
        return all(found[place] >= count for place, count in self.expected.items() if place[0] in partitions)


def waiting(topic: str) -> list[float]:
    """Return the lag that is shown of the new partitions."""
    return [value("blobtide_kafka_consumer_lag_records", topic=topic, partition=str(number)) for number in NEW]


def test_partitions_without_a_place_for_their_rows_wait_and_the_others_go_on(
    watchful: KafkaSettings, topics: TopicSettings
) -> None:
    """The parser is not ready and says why, the old partitions commit, and the new ones follow without a restart."""
    kafka = watchful
    raw, rows = Raw(kafka, topics), since_now("blobtide_parser_tuples_total")
    aborted = since_now("blobtide_kafka_transactions_total", outcome="aborted")
    flow_logs = ParserSettings(streams=(Stream.FLOW_LOGS,))  # other topics of rows are partners, too, if their streams are read
    with running(build(Settings(kafka=kafka, topics=topics, parser=flow_logs))) as health:
        raw.write(OLD)
        until(lambda: raw.have_come(OLD), "rows")
        assert health.why_not_ready() is None
        add_partitions(kafka, topics.raw_flow_logs, 6)
        until(lambda: health.why_not_ready() is not None, "not ready")
        for _ in range(3):
            raw.write([*OLD, *NEW])
            until(lambda: raw.have_come(OLD), "rows of the old partitions")
        until(lambda: waiting(topics.raw_flow_logs) == [3, 3], "lag of the new partitions")
        reason = health.why_not_ready() or ""
        for topic, count in ((topics.raw_flow_logs, 6), (topics.flows, 4), (topics.quarantine, 4)):
            assert f"{topic} {count}" in reason
        assert "partitions 4 and above wait" in reason
        assert {partition for partition, _ in raw.rows()} == set(OLD)
        assert aborted() == 0
        add_partitions(kafka, topics.flows, 6)
        until(lambda: f"{topics.flows} 6" in (health.why_not_ready() or ""), "the other partner is named")
        add_partitions(kafka, topics.quarantine, 6)
        until(lambda: raw.have_come([*OLD, *NEW]), "rows of the new partitions")
        until(lambda: health.why_not_ready() is None, "ready")
        add_partitions(kafka, topics.flows, 8)  # more than segments have is of no matter
        raw.write([*OLD, *NEW])
        until(lambda: raw.have_come([*OLD, *NEW]), "rows")
        assert health.why_not_ready() is None
        until(lambda: waiting(topics.raw_flow_logs) == [0, 0], "no lag")
    assert raw.rows() == raw.expected
    assert rows() == raw.expected.total()


@pytest.mark.azurite
def test_announcements_without_a_place_for_their_checkpoints_wait_and_the_others_go_on(
    watchful: KafkaSettings, topics: TopicSettings, azurite: LocalAzurite, container: str
) -> None:
    """Ingest is not ready and says why; a checkpoint stands where its announcements do, and a restart reads nothing twice."""
    site = Site(watchful, topics, azurite.connection_string, container)
    names = [str(number) for number in range(12)]
    by_partition = {name: partition_of(site.id(name).encode(), 6) for name in names}
    old, new = ({name for name in names if (by_partition[name] in OLD) is side} for side in (True, False))
    assert old
    assert new
    settings = Settings(**site.settings() | {"kafka": watchful})

    def read() -> set[str]:
        return set(site.segments())

    with running(build_ingest(settings)) as health:
        until(lambda: health.why_not_ready() is None, "ready")
        add_partitions(watchful, topics.blobs, 6)
        until(lambda: f"{topics.blobs} 6, {topics.checkpoints} 4" in (health.why_not_ready() or ""), "the reason")
        site.producer = Producer(producer_config(watchful))  # which knows all partitions
        for name in names:
            site.commit(name, [minute(0)])
            site.close(name)
        until(lambda: read() == old, "blobs of the old partitions")
        until(lambda: sum(waiting(topics.blobs)) == 2 * len(new), "lag of the new partitions")
        add_partitions(watchful, topics.checkpoints, 6)
        until(lambda: read() == old | new and health.why_not_ready() is None, "all blobs")
        until(lambda: sum(waiting(topics.blobs)) == 0, "no lag")
    found = {record.key: record.partition for record in committed_records(watchful, topics.checkpoints)}
    assert found == {site.id(name).encode(): number for name, number in by_partition.items()}
    with running(build_ingest(settings)) as health:
        until(lambda: health.why_not_ready() is None, "ready")
        for name in names:
            site.close(name)
        until(lambda: lag_of(watchful, "ingest", topics.blobs) == 0, "everything is looked at")
    assert {name: len(segments) for name, segments in site.segments().items()} == dict.fromkeys(names, 1)
    site.shut()
