"""The whole pipeline as processes on real servers: what Azure logged is what arrives, every tuple once."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.azurite import LocalAzurite
from libs.local.opensearch import LocalOpenSearch
from libs.local.redis import LocalRedis
from tests.estates import ARRIVES_WITHIN_SECONDS, estate, generating, plan_of, wait_for_all
from tests.fixtures.long import Scale
from tests.pipeline import Pipeline, assert_same_rows, assert_same_rows_in_order, read_rows
from tests.stores import opensearch_count, opensearch_rows, redis_count, redis_rows
from tests.topic_tools import committed_records, forget_groups, lag, recreate

pytestmark = [pytest.mark.kafka, pytest.mark.azurite, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.redis
@pytest.mark.opensearch
def test_what_twenty_interfaces_log_arrives_everywhere_once_while_it_grows(
    kafka_settings: KafkaSettings,
    topics: TopicSettings,
    own_azurite: LocalAzurite,
    redis_server: LocalRedis,
    opensearch: LocalOpenSearch,
    tmp_path: Path,
) -> None:
    """Rows in Parquet, documents in OpenSearch and entries in Redis are the generator's truth, every value of each, once."""
    plan = plan_of(kafka_settings, topics, own_azurite, tmp_path)
    plan.sinks["redis"] = {"url": redis_server.url, "prefix": kafka_settings.group_prefix}
    plan.sinks["elasticsearch"] = {
        "hosts": [opensearch.url],
        "index_prefix": kafka_settings.group_prefix,
    }
    pipeline = Pipeline(plan)
    pipeline.command("sink-setup", "elasticsearch")
    with generating(own_azurite, estate(20, 60, seed=11), speed=120) as played, pipeline.running():
        wait_for_all(pipeline, played)
        truth = played.truth()
        assert_same_rows_in_order(read_rows(plan.rows_directory), truth)
        prefix = kafka_settings.group_prefix
        for name, count, url in (("Redis", redis_count, redis_server.url), ("OpenSearch", opensearch_count, opensearch.url)):
            pipeline.wait(partial(holds, partial(count, url, prefix), truth.num_rows), ARRIVES_WITHIN_SECONDS, f"all in {name}")
        assert_same_rows_in_order(redis_rows(redis_server.url, prefix), truth)
        assert_same_rows(opensearch_rows(opensearch.url, prefix), truth)


def holds(count: Callable[[], int], rows: int) -> bool:
    """Tell whether there are so many rows."""
    return count() >= rows


def test_every_row_arrives_once_though_every_process_is_killed(
    kafka_settings: KafkaSettings, topics: TopicSettings, own_azurite: LocalAzurite, tmp_path: Path, scale: Scale
) -> None:
    """With two monitors and two ingesters, SIGKILL at random moments loses, doubles and reorders nothing."""
    plan = plan_of(kafka_settings, topics, own_azurite, tmp_path, monitors=2, ingesters=2)
    dice, rounds = random.Random(20260501), 3 if scale is Scale.LONG else 1
    with generating(own_azurite, estate(20, 60 * rounds, seed=12), speed=120) as played, Pipeline(plan).running() as pipeline:
        victims = pipeline.names() * rounds
        dice.shuffle(victims)
        for victim in victims:
            pipeline.go_on_for(dice.uniform(1, 5))
            pipeline.kill(victim)
        wait_for_all(pipeline, played)
        pipeline.wait(lambda: pipeline.restarts() >= len(victims), ARRIVES_WITHIN_SECONDS, "a restart for every kill")
        assert_same_rows_in_order(read_rows(plan.rows_directory), played.truth())


def test_replays_add_and_change_no_row(
    kafka_settings: KafkaSettings, topics: TopicSettings, own_azurite: LocalAzurite, tmp_path: Path
) -> None:
    """Starting over, and rebuilding the extracted topic from the raw ones, leaves the files as they were."""
    plan = plan_of(kafka_settings, topics, own_azurite, tmp_path)
    with generating(own_azurite, estate(8, 30, seed=13), speed=0) as played, Pipeline(plan).running() as pipeline:
        wait_for_all(pipeline, played)
    before = read_rows(plan.rows_directory)
    assert_same_rows_in_order(before, played.truth())

    monitor = {"hours_back": 6, "start_policy": "start_over", "replay_id": "again"}
    bytes_before = raw_bytes(kafka_settings, topics)
    with Pipeline(plan_of(kafka_settings, topics, own_azurite, tmp_path, monitor=monitor)).running() as pipeline:
        pipeline.wait(lambda: raw_bytes(kafka_settings, topics) >= 2 * bytes_before, ARRIVES_WITHIN_SECONDS, "a second reading")
        wait_until_consumed(pipeline, kafka_settings, topics)
    assert_same_rows_in_order(read_rows(plan.rows_directory), played.truth())

    recreate(kafka_settings, topics.flows)
    forget_groups(kafka_settings, ("parser", "sink.file"))
    with Pipeline(plan).running() as pipeline:
        wait_until_consumed(pipeline, kafka_settings, topics)
    assert_same_rows_in_order(read_rows(plan.rows_directory), played.truth())


def raw_bytes(kafka: KafkaSettings, topics: TopicSettings) -> int:
    """Return the size of all raw segments together."""
    return sum(len(record.value or b"") for record in committed_records(kafka, topics.raw_flow_logs))


def wait_until_consumed(pipeline: Pipeline, kafka: KafkaSettings, topics: TopicSettings) -> None:
    """Wait until parser and file sink have read all there is."""
    for group, topic in (("parser", topics.raw_flow_logs), ("sink.file", topics.flows)):
        pipeline.wait(partial(is_at_the_end, kafka, group, topic), ARRIVES_WITHIN_SECONDS, f"{group} at the end")


def is_at_the_end(kafka: KafkaSettings, group: str, topic: str) -> bool:
    """Tell whether the group has committed all there is."""
    return lag(kafka, group, topic) == 0
