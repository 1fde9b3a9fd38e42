"""The checker of chaos tests: what is in Kafka and in files after faults is what was logged, every row once, with no rest."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import groupby, pairwise
from typing import Any

import pyarrow as pa
from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from libs.common.kafka.records import Inbound
from libs.common.messages.events import BlobCheckpoint, decode_event
from libs.common.messages.segments import Segment
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.wire import decode_rows
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from tests.estates import ARRIVES_WITHIN_SECONDS, Played, wait_for_all
from tests.pipeline import Pipeline, assert_same_rows_in_order, plain, read_rows
from tests.topic_tools import SECONDS, committed_offsets, committed_records

# A living process ends its transactions sooner; one that was abandoned stays until the broker ends it, after eleven.
TRANSACTION_SECONDS = 9.0

Ends = dict[tuple[str, int], int]  # by topic and partition


def assert_all_is_well(pipeline: Pipeline, played: Played) -> None:
    """Wait until everything has arrived, then check rows and their order, segments, flow batches, groups and transactions."""
    kafka, topics = pipeline.plan.kafka, pipeline.plan.topics
    wait_for_all(pipeline, played)
    wait_until_consumed(pipeline)
    truth = played.truth()
    assert_same_rows_in_order(read_rows(pipeline.plan.rows_directory), truth)
    assert_same_rows_in_order(extracted_rows(kafka, topics), truth)
    assert_tiled(committed_records(kafka, topics.raw_flow_logs), checkpoints(kafka, topics))
    assert committed_records(kafka, topics.errors) == []
    assert_nothing_open(pipeline)


def wait_until_consumed(pipeline: Pipeline, sinks: Iterable[str] = ("file",)) -> None:
    """Wait until ingest, parser and `sinks` have committed all there is."""
    topics = pipeline.plan.topics
    readers = [("ingest", topics.blobs), ("parser", topics.raw_flow_logs), *((f"sink.{name}", topics.flows) for name in sinks)]
    for group, topic in readers:
        wait_until_read(pipeline, group, topic)


def wait_until_read(pipeline: Pipeline, group: str, topic: str) -> None:
    """Wait until `group` has committed all there is in `topic`."""
    kafka = pipeline.plan.kafka
    pipeline.wait(lambda: unread(kafka, group, topic) == 0, ARRIVES_WITHIN_SECONDS, f"{group} at the end of {topic}")


def unread(kafka: KafkaSettings, group: str, topic: str) -> int:
    """Count the committed records that the group has not committed; unlike a lag, aborted records and markers do not count."""
    records = committed_records(kafka, topic)
    offsets = committed_offsets(kafka, group, topic, {record.partition for record in records})
    return sum(record.offset >= offsets[record.partition] for record in records)


def extracted_rows(kafka: KafkaSettings, topics: TopicSettings) -> pa.Table:
    """Return the rows of all committed flow batches."""
    tables = [decode_rows(FLOWS, record.value or b"") for record in committed_records(kafka, topics.flows)]
    return plain(pa.concat_tables(tables).unify_dictionaries())


def checkpoints(kafka: KafkaSettings, topics: TopicSettings) -> dict[tuple[str, str], int]:
    """Return how far ingest has come in each blob generation; those without one only count crashes."""
    events = [decode_event(record.value) for record in committed_records(kafka, topics.checkpoints) if record.value]
    found = [event for event in events if isinstance(event, BlobCheckpoint)]
    return {(event.blob, event.generation): event.next_offset for event in found if event.generation}


def assert_tiled(records: Iterable[Inbound], reached: dict[tuple[str, str], int]) -> None:
    """Check that the segments of each generation are a row without gap or overlap, in order, up to its checkpoint."""
    segments = [Segment.from_message(record.headers, record.value or b"") for record in records]
    by_generation = sorted(segments, key=lambda segment: (segment.blob, segment.generation))  # stable: in order of arrival
    ends = {}
    for (blob, generation), parts in groupby(by_generation, key=lambda segment: (segment.blob, segment.generation)):
        first, *_ = row = list(parts)
        assert (first.start, [one.ordinal for one in row]) == (0, list(range(len(row)))), f"{blob} {generation}"
        for one, other in pairwise(row):
            is_next_piece = one.piece and other.piece and one.start == other.start and other.piece.number > 0
            assert is_next_piece or other.start == one.end, f"{blob} {generation}: {one.end} is followed by {other.start}"
        ends[blob, generation] = row[-1].end
    last = dict(reached.keys())  # of a generation that ended, the transaction may hold only its successor's checkpoint
    assert {key: end for key, end in ends.items() if last[key[0]] == key[1]} == {key: reached[key] for key in last.items()}


def assert_nothing_open(pipeline: Pipeline) -> None:
    """Check that no transaction stays open in any topic: all that is written now is soon before the last stable offset.

    At any moment one may be open, since the monitor writes its listings all the time.
    """
    admin = AdminClient({"bootstrap.servers": pipeline.plan.kafka.bootstrap_servers})
    present = admin.list_topics(timeout=SECONDS).topics
    names = [name for name in pipeline.plan.topics.model_dump().values() if name in present]
    partitions = [TopicPartition(name, number) for name in names for number in present[name].partitions]
    written = _ends(admin, partitions, IsolationLevel.READ_UNCOMMITTED)
    deadline = time.monotonic() + TRANSACTION_SECONDS
    while still_open := _behind(_ends(admin, partitions, IsolationLevel.READ_COMMITTED), written):
        assert time.monotonic() < deadline, f"transactions are open at (stable, written): {still_open}"
        pipeline.step()


def _ends(admin: AdminClient, partitions: Iterable[TopicPartition], level: IsolationLevel) -> Ends:
    latest: Any = OffsetSpec.latest
    answers = admin.list_offsets({at: latest() for at in partitions}, isolation_level=level, request_timeout=SECONDS)
    return {(at.topic, at.partition): future.result(SECONDS).offset for at, future in answers.items()}


def _behind(stable: Ends, written: Ends) -> dict[tuple[str, int], tuple[int, int]]:
    return {at: (stable[at], end) for at, end in written.items() if stable[at] < end}
