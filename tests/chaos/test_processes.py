"""Processes that freeze, stop, leave and join while logs grow: their work is taken over, nothing is lost or doubled."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from libs.common.messages.events import Stream
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.azurite import LocalAzurite
from tests.audit import assert_all_is_well
from tests.estates import ARRIVES_WITHIN_SECONDS, Played, estate, generating, plan_of
from tests.fixtures.kafka import PARTITIONS
from tests.pipeline import Ended, Pipeline, Plan, row_count

pytestmark = [pytest.mark.kafka, pytest.mark.azurite, pytest.mark.timeout(600)]

OWNED = "blobtide_kafka_assigned_partitions"
# Of all topics that a process of the service reads: the parser reads those of every stream.
ALL = {"ingest": PARTITIONS, "parser": PARTITIONS * len(Stream), "sink-file": PARTITIONS}


def wait_for_a_share(pipeline: Pipeline, service: str, number: int) -> None:
    """Wait until a process owns some partitions, and not all."""
    name, shares = f"{service}-{number}", range(1, ALL[service])
    pipeline.wait(lambda: pipeline.metric(name, OWNED) in shares, ARRIVES_WITHIN_SECONDS, f"{name} with a share")


def wait_for_all(pipeline: Pipeline, service: str, number: int) -> None:
    """Wait until a process owns all partitions."""
    name = f"{service}-{number}"
    pipeline.wait(lambda: pipeline.metric(name, OWNED) == ALL[service], ARRIVES_WITHIN_SECONDS, f"{name} with all partitions")


def test_frozen_processes_are_replaced_and_double_nothing_when_they_go_on(
    kafka_settings: KafkaSettings, topics: TopicSettings, own_azurite: LocalAzurite, tmp_path: Path
) -> None:
    """An ingester, a parser and a file sink frozen beyond their session lose their partitions, go on, and join again."""
    plan = plan_of(kafka_settings, topics, own_azurite, tmp_path, ingesters=2, parsers=2, file_sinks=2)
    services = ("ingest", "parser", "sink-file")
    with generating(own_azurite, estate(10, 60, seed=31), speed=100) as played, Pipeline(plan).running() as pipeline:
        for service in services:
            wait_for_a_share(pipeline, service, 0)
        pipeline.wait(lambda: row_count(plan.rows_directory) > 0, ARRIVES_WITHIN_SECONDS, "first rows")
        for service in services:
            pipeline.signal(f"{service}-0", signal.SIGSTOP)
        for service in services:
            wait_for_all(pipeline, service, 1)
        for service in services:
            pipeline.signal(f"{service}-0", signal.SIGCONT)
        for service in services:
            wait_for_a_share(pipeline, service, 1)
            wait_for_a_share(pipeline, service, 0)
        assert_all_is_well(pipeline, played)
        assert pipeline.restarts() == 0


def test_processes_leave_and_join_under_load_and_a_stop_is_quick(
    kafka_settings: KafkaSettings, topics: TopicSettings, own_azurite: LocalAzurite, tmp_path: Path
) -> None:
    """With ingesters 3, 1, 3 and parsers 2, 1, 2 work goes on and is done once; after SIGTERM every process ends in time."""
    plan = plan_of(kafka_settings, topics, own_azurite, tmp_path, ingesters=3, parsers=2)
    with generating(own_azurite, estate(10, 60, seed=32), speed=100) as played, Pipeline(plan).running() as pipeline:
        pipeline.wait_until_ready()
        ended: list[Ended] = []
        for act in (lambda name: ended.extend(pipeline.take_out(name).values()), pipeline.put_in):
            for name in ("ingest-2", "parser-1", "ingest-1"):
                has_gone_on = progress(plan, played)
                act(name)
                pipeline.wait(has_gone_on, ARRIVES_WITHIN_SECONDS, f"progress after {name} left or came")
        ended += pipeline.take_out(*pipeline.names()).values()
        assert {one.exit_code for one in ended} <= {0, 128 + signal.SIGTERM}
        for name in pipeline.names():
            pipeline.put_in(name)
        assert_all_is_well(pipeline, played)
        assert pipeline.restarts() == 0


def progress(plan: Plan, played: Played) -> Callable[[], bool]:
    """Return a condition: more rows than now are in files, or no more will come."""
    rows = row_count(plan.rows_directory)
    return lambda: row_count(plan.rows_directory) > rows or played.is_done()
