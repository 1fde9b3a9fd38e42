"""Parser and aggregators as processes on a real Kafka: what the rollups of a window add up to."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from confluent_kafka import Producer

from libs.common.messages.segments import Segment, SegmentFormat
from libs.common.rows.types.rollups import ROLLUPS
from libs.common.rows.wire import decode_rows
from libs.common.settings import Settings
from libs.common.settings.aggregator import PRESETS, AggregatorSettings, Preset
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.demo.commits import Action, MinuteCommit
from libs.demo.estate import Estate
from libs.demo.truth import table_of
from services.aggregator.main import build
from tests.estates import ARRIVES_WITHIN_SECONDS, estate
from tests.pipeline import Account, Pipeline, Plan
from tests.running import running, until
from tests.topic_tools import committed_records

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

MEASURES = ("packets_sent", "bytes_sent", "packets_received", "bytes_received", "tuples")
GROUPED_BY = tuple(name for name in PRESETS[Preset.NETWORK] if name != "local_ip")
AGGREGATIONS: dict[str, Any] = {"aggregations": [{"preset": "network"}], "poll_messages": 2, "poll_seconds": 0.1}


def segments(commits: Iterable[MinuteCommit]) -> list[Segment]:
    """Return the blocks of the commits as segments, as ingest would read them one by one."""
    found: list[Segment] = []
    ends: Counter[str] = Counter()
    for commit in commits:
        blob = str(commit.blob)
        if commit.action in {Action.OPEN, Action.CREATE}:
            ends[blob] = len(commit.staged[0].data)
            continue
        data = b"".join(block.data for block in commit.staged)
        found.append(Segment(blob, "g", ends[blob], ends[blob] + len(data), len(found), SegmentFormat.RECORDS, data))
        ends[blob] += len(data)
    return found


def produce(plan: Plan, content: Sequence[Segment]) -> None:
    """Write segments as ingest does."""
    producer = Producer({"bootstrap.servers": plan.kafka.bootstrap_servers, "partitioner": "murmur2_random"})
    for segment in content:
        producer.produce(plan.topics.raw_flow_logs, segment.data, segment.blob.encode(), headers=list(segment.headers()))
    assert producer.flush(30) == 0


def rollups(plan: Plan) -> pa.Table:
    """Return all rollups that were committed."""
    messages = committed_records(plan.kafka, plan.topics.rollups)
    return pa.concat_tables([decode_rows(ROLLUPS, one.value or b"") for one in messages] or [ROLLUPS.schema.empty_table()])


def totals(rows: pa.Table) -> dict[tuple[Any, ...], list[int]]:
    """Return the sums of the measures by window and dimension."""
    found: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(MEASURES))
    for row in rows.to_pylist():
        sums = found[(row["time"], *(row[name] for name in GROUPED_BY))]
        for at, name in enumerate(MEASURES):
            sums[at] += row[name] or 0
    return found


def test_the_sums_of_each_window_are_exact_though_aggregators_are_killed(
    kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path
) -> None:
    """A tenth of the records comes last, each aggregator is killed once, and then everything is summed up a second time."""
    commits = list(Estate(estate(6, 8, seed=14)).commits())
    content = segments(commits)
    truth = table_of([commit.rows for commit in commits])
    late = set(random.Random(14).sample(range(len(content)), len(content) // 10))
    in_time = [segment for at, segment in enumerate(content) if at not in late]
    storage = Account("")
    plan = Plan(kafka_settings, topics, storage, (), tmp_path, {}, 0, 0, aggregators=2, aggregator=AGGREGATIONS)
    with Pipeline(plan).running() as pipeline:
        half = len(in_time) // 2
        produce(plan, in_time[:half])
        pipeline.wait(lambda: rollups(plan).num_rows > 0, ARRIVES_WITHIN_SECONDS, "the first rollups")
        for number in range(2):
            produce(plan, in_time[half + number :: 2])
            pipeline.kill(f"aggregator-{number}")
        produce(plan, [content[at] for at in sorted(late)])
        enough = truth.num_rows
        pipeline.wait(lambda: (pc.sum(rollups(plan)["tuples"]).as_py() or 0) >= enough, ARRIVES_WITHIN_SECONDS, "all rollups")

    start = pc.floor_temporal(truth["time"], unit="minute")
    ones = pa.array([1] * truth.num_rows)
    expected = totals(truth.set_column(truth.column_names.index("time"), "time", start).append_column("tuples", ones))
    found = rollups(plan)
    assert totals(found) == expected
    positions = Counter(map(tuple, (row.values() for row in found.select(list(ROLLUPS.position.names)).to_pylist())))
    assert set(positions.values()) == {1}

    again = Settings(
        kafka=kafka_settings.model_copy(update={"group_prefix": f"{kafka_settings.group_prefix}.again"}),
        topics=topics,
        aggregator=AggregatorSettings.model_validate({"aggregations": [{"preset": "network"}]}),
    )
    with running(build(again)):
        until(lambda: rollups(plan).num_rows >= 2 * found.num_rows, "the same rollups again")
    repeated = Counter(str(row) for row in rollups(plan).to_pylist())
    assert repeated == {str(row): 2 for row in found.to_pylist()}
