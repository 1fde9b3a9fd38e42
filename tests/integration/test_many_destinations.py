"""Many kinds of destinations behind one stream, as processes on real servers: each holds the truth, and delays only itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.common.rows.types.flows import FLOWS
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.azurite import LocalAzurite
from tests.audit import unread, wait_until_read
from tests.contract.harness import Case, Harness, module_of
from tests.estates import estate, generating, plan_of, wait_for_all
from tests.pipeline import Pipeline, assert_same_rows_in_order, read_rows
from tests.row_samples import values_of
from tests.topic_tools import SECONDS, members

pytestmark = [pytest.mark.kafka, pytest.mark.azurite, pytest.mark.slow, pytest.mark.timeout(900)]

# Of each family of destinations one: documents, columns, streams, messages, records, rows of SQL.
DESTINATIONS = {"clickhouse": "", "elasticsearch": "daily", "kafka": "transactional", "mqtt": "5", "redis": "streams"}
KILLED = "redis"


@pytest.mark.clickhouse
@pytest.mark.mosquitto
@pytest.mark.opensearch
@pytest.mark.redis
def test_six_kinds_at_once_hold_exactly_the_truth_and_one_that_is_killed_is_alone_late(
    request: pytest.FixtureRequest,
    kafka_settings: KafkaSettings,
    topics: TopicSettings,
    own_azurite: LocalAzurite,
    tmp_path: Path,
) -> None:
    """While one is dead, and no member of its group any more, five read everything; then all six hold every row once."""
    harnesses = {kind: _harness(kind, mode, request, tmp_path) for kind, mode in DESTINATIONS.items()}
    plan = plan_of(kafka_settings, topics, own_azurite, tmp_path)
    plan.sinks.update({kind: harness.options() for kind, harness in harnesses.items()})
    with generating(own_azurite, estate(4, 20, seed=57), speed=300) as played, Pipeline(plan).running() as pipeline:
        pipeline.wait_until_ready([f"sink-{kind}-0" for kind in DESTINATIONS])
        pipeline.kill_for_good(f"sink-{KILLED}-0")
        wait_for_all(pipeline, played)
        for kind in DESTINATIONS.keys() - {KILLED}:
            wait_until_read(pipeline, f"sink.{kind}", topics.flows)
        pipeline.wait(lambda: not members(kafka_settings, f"sink.{KILLED}"), SECONDS, "the end of its session")
        assert unread(kafka_settings, f"sink.{KILLED}", topics.flows) > 0
        pipeline.put_in(f"sink-{KILLED}-0")
        wait_until_read(pipeline, f"sink.{KILLED}", topics.flows)
    files = read_rows(plan.rows_directory)
    assert_same_rows_in_order(files, played.truth())
    rows = values_of(files)
    for kind, harness in harnesses.items():
        assert harness.read() == harness.expected(rows), kind


def _harness(kind: str, mode: str, request: pytest.FixtureRequest, directory: Path) -> Harness:
    module = module_of(kind)
    assert module is not None
    made: Harness = module.harness(request, directory / kind, Case(kind, mode, FLOWS))
    return made
