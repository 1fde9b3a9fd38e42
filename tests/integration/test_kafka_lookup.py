"""Single records looked up on a real Kafka by the offsets that a transaction told."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pytest
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import AdminClient

from libs.common.errors import ServerUnreachable
from libs.common.kafka.readers.compacted import CompactedTable
from libs.common.kafka.readers.lookup import Lookup
from libs.common.kafka.records import CommitResult, Inbound, Outbound, TopicPartition
from libs.common.kafka.transactions.session import SessionSpec, TransactionalSession
from libs.common.settings.kafka import KafkaSettings, TopicSettings

pytestmark = pytest.mark.kafka

SECONDS = 30.0


class _Listener:
    def assigned(self, partitions: Collection[TopicPartition]) -> None: ...

    def revoked(self, partitions: Collection[TopicPartition]) -> None: ...

    def rewound(self, partitions: Collection[TopicPartition]) -> None: ...


@pytest.fixture
def session(kafka_settings: KafkaSettings, topics: TopicSettings) -> Iterator[TransactionalSession]:
    """A session that may write."""
    session = TransactionalSession(kafka_settings, SessionSpec("look", 0, (topics.blobs,)), _Listener())
    session.open()
    while not session.owned():
        session.poll(1, 0.1)
    yield session
    session.close()


def commit(session: TransactionalSession, outputs: list[Outbound]) -> None:
    """Write; a coordinator that moves may abort it."""
    while session.commit(outputs, {}) is not CommitResult.COMMITTED:
        session.poll(1, 0.1)


def _output(topics: TopicSettings, number: int, places: dict[int, int]) -> Outbound:
    """Return a record that notes where it is written."""

    def note(offset: int) -> None:
        places[number] = offset

    return Outbound(topics.checkpoints, b"value %d" % number, b"key %d" % number, partition=1, placed=note)


def test_a_committed_record_is_found_where_its_transaction_said(
    kafka_settings: KafkaSettings, topics: TopicSettings, session: TransactionalSession
) -> None:
    """At once, each of many in any order; where there is none, or none any more, none is found."""
    lookup, places = Lookup(kafka_settings, topics.checkpoints), dict[int, int]()
    for start in (0, 50):
        commit(session, [_output(topics, number, places) for number in range(start, start + 50)])
        for number in (start + 49, start, start + 25):
            record = lookup.read(1, places[number], SECONDS)
            assert record is not None
            assert (record.key, record.value) == (b"key %d" % number, b"value %d" % number)
    assert len(places) == 100
    assert lookup.read(1, places[99] + 1, SECONDS) is None  # a marker
    assert lookup.read(1, places[99] + 1_000, SECONDS) is None
    assert lookup.read(2, 0, SECONDS) is None
    admin = AdminClient({"bootstrap.servers": kafka_settings.bootstrap_servers})
    for future in admin.delete_records([ClientPartition(topics.checkpoints, 1, places[50])]).values():
        future.result(SECONDS)
    assert lookup.read(1, places[10], SECONDS) is None
    assert lookup.read(1, places[50], SECONDS) is not None
    many = Lookup(kafka_settings, topics.checkpoints, many=True)
    asked = [(1, places[number]) for number in (99, 60, 61, 10)] + [(1, places[99] + 1), (1, places[99] + 900), (2, 0)]
    found = many.read_many(asked, SECONDS, lambda: None)
    assert {place: record.value for place, record in found.items()} == {
        (1, places[number]): b"value %d" % number for number in (60, 61, 99)
    }
    assert many.read_many([], SECONDS, lambda: None) == {}
    many.close()
    lookup.close()


def test_kafka_that_does_not_answer_is_said(topics: TopicSettings) -> None:
    """After the time that was given, and not as an absent record."""
    lookup = Lookup(KafkaSettings(bootstrap_servers="127.0.0.1:1"), topics.checkpoints)
    with pytest.raises(ServerUnreachable, match="offset 7 of partition 1"):
        lookup.read(1, 7, 0.5)
    with pytest.raises(ServerUnreachable, match="offset 7 of partition 1"):
        lookup.read_many([(1, 7), (1, 8)], 0.5, lambda: None)
    lookup.close()


@pytest.mark.parametrize("removed", [True, False])
def test_a_part_of_a_topic_is_read_from_where_and_to_where_it_is_asked_for(
    kafka_settings: KafkaSettings, topics: TopicSettings, session: TransactionalSession, *, removed: bool
) -> None:
    """All that was committed there, little of what is behind; less if Kafka has removed some; no more than there is."""
    places = dict[int, int]()
    for start in range(0, 5_000, 100):
        commit(session, [_output(topics, number, places) for number in range(start, start + 100)])
    if removed:
        admin = AdminClient({"bootstrap.servers": kafka_settings.bootstrap_servers})
        (gone,) = admin.delete_records([ClientPartition(topics.checkpoints, 1, places[1_500])]).values()
        gone.result(SECONDS)
    for first, last in ((1_000, 2_000), (0, 4_999), (4_999, 4_999)):
        records: list[Inbound] = []
        table = CompactedTable(kafka_settings, topics.checkpoints, records.append)
        table.open([1], places[first])
        table.read_to(places[last] + (1_000_000 if last == 4_999 else 0), SECONDS, lambda: None)
        table.close()
        seen = [record.value for record in records]
        begin = max(first, 1_500) if removed else first
        assert seen[: last + 1 - begin] == [b"value %d" % number for number in range(begin, last + 1)]
        assert len(seen) <= last + 1 - begin + 1_000
