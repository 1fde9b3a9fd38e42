"""Servers that die, stay away or answer with errors while the pipeline runs: nothing is lost or doubled, no process ends."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.azurite import LocalAzurite
from libs.local.kafka import LocalKafka
from libs.local.opensearch import LocalOpenSearch
from libs.local.process import LocalServer
from libs.local.redis import LocalRedis
from tests.asked_sources import asked_sources
from tests.audit import assert_all_is_well, unread, wait_until_consumed
from tests.estates import ARRIVES_WITHIN_SECONDS, Played, estate, generating, plan_of
from tests.fault_proxy import Fault, Reset, Short, Status, fault_proxy
from tests.fixtures.long import Scale
from tests.freezing import frozen
from tests.pipeline import Account, Pipeline, Plan, assert_same_rows, assert_same_rows_in_order, row_count
from tests.stores import opensearch_count, opensearch_rows, redis_count, redis_rows

pytestmark = [pytest.mark.kafka, pytest.mark.azurite, pytest.mark.timeout(1800)]

SEED = 20260501
AWAY_SECONDS = 4.0
BUSY = (Status(503, (("Retry-After", "1"),)), Status(429, (("Retry-After", "1"),)), Status(500))
FAULTS: tuple[Fault, ...] = (*BUSY, Reset(), Short(says_length=True), Short(says_length=False))


def wait_for_progress(pipeline: Pipeline, played: Played, rows: int = 300) -> None:
    """Wait until some more rows have arrived, or all."""
    directory = pipeline.plan.rows_directory
    wanted = row_count(directory) + rows
    pipeline.wait(
        lambda: row_count(directory) >= wanted or played.is_done(), ARRIVES_WITHIN_SECONDS, "more rows after a server is back"
    )


def be_away(pipeline: Pipeline, server: LocalServer, end: Callable[[], None], seconds: float = AWAY_SECONDS) -> None:
    """End a server, and start it again after a while."""
    end()
    back = time.monotonic() + seconds
    pipeline.wait(lambda: time.monotonic() > back, 60, "the outage's end")
    server.start()


def test_nothing_is_lost_or_doubled_when_the_broker_is_killed(
    kafka: LocalKafka,
    kafka_settings: KafkaSettings,
    topics: TopicSettings,
    own_azurite: LocalAzurite,
    tmp_path: Path,
    scale: Scale,
) -> None:
    """With the broker killed and restarted no process ends, and every row arrives once; without it a stop is clean.

    The same is true of what a recorder is answered, and of what a collector is asked.
    """
    kills = 20 if scale is Scale.LONG else 2
    spec = estate(10, 30 * kills, seed=21)
    with asked_sources(kafka_settings, topics) as sources:
        pipeline = Pipeline(plan_of(kafka_settings, topics, own_azurite, tmp_path, **sources.options()))
        with generating(own_azurite, spec, speed=100) as played, pipeline.running():
            pipeline.wait_until_ready()
            for _ in range(kills):
                wait_for_progress(pipeline, played)
                sources.send(5)
                be_away(pipeline, kafka, kafka.kill)
            assert_all_is_well(pipeline, played)
            sources.assert_all_is_well(pipeline, tmp_path)
            assert pipeline.restarts() == 0
            kafka.kill()
            ended = pipeline.take_out(*pipeline.names())
            assert {one.exit_code for one in ended.values()} <= {0, 128 + signal.SIGTERM}, "a stop without Kafka"
            kafka.start()


def test_nothing_is_lost_or_doubled_when_the_broker_hangs(
    kafka: LocalKafka,
    kafka_settings: KafkaSettings,
    topics: TopicSettings,
    own_azurite: LocalAzurite,
    tmp_path: Path,
    scale: Scale,
) -> None:
    """With a broker that stops answering, at times for longer than sessions live, every row arrives once; a stop is quick."""
    dice = random.Random(SEED)
    plan = plan_of(kafka_settings, topics, own_azurite, tmp_path)
    hangs = 40 if scale is Scale.LONG else 3
    with generating(own_azurite, estate(10, 12 * hangs, seed=25), speed=100) as played, Pipeline(plan).running() as pipeline:
        pipeline.wait_until_ready()
        for _ in range(hangs):
            wait_for_progress(pipeline, played, rows=50)
            with frozen(kafka):
                time.sleep(dice.choice((0.3, 0.7, 1.5, 4.0, 12.0)))
        assert_all_is_well(pipeline, played)
        assert pipeline.restarts() == 0
        with frozen(kafka):
            ended = pipeline.take_out(*pipeline.names())
        assert {one.exit_code for one in ended.values()} <= {0, 128 + signal.SIGTERM}, "a stop while Kafka hangs"


def test_nothing_is_lost_or_doubled_by_storage_that_fails(
    kafka_settings: KafkaSettings, topics: TopicSettings, own_azurite: LocalAzurite, tmp_path: Path
) -> None:
    """Throttling, errors, resets, short bodies at random and an outage end no process; every row arrives once."""
    dice = random.Random(SEED)
    with fault_proxy(own_azurite.blob_endpoint) as proxy:
        proxy.otherwise = lambda: dice.choice(FAULTS) if dice.random() < 0.1 else None
        account = Account(own_azurite.connection_string.replace(own_azurite.blob_endpoint, proxy.url))
        plan = plan_of(kafka_settings, topics, account, tmp_path)
        with generating(own_azurite, estate(10, 40, seed=22), speed=100) as played, Pipeline(plan).running() as pipeline:
            wait_for_progress(pipeline, played)
            be_away(pipeline, own_azurite, own_azurite.stop)
            wait_for_progress(pipeline, played)
            proxy.otherwise = lambda: None
            assert_all_is_well(pipeline, played)
            assert pipeline.restarts() == 0


@dataclass(frozen=True, slots=True)
class Stores:
    """Redis and OpenSearch, as destinations of one pipeline, under its own prefix."""

    redis: LocalRedis
    opensearch: LocalOpenSearch
    prefix: str

    def pipeline(self, plan: Plan) -> Pipeline:
        """Add both sinks to `plan`."""
        plan.sinks["redis"] = {"url": self.redis.url, "prefix": self.prefix}
        plan.sinks["elasticsearch"] = {"hosts": [self.opensearch.url], "index_prefix": self.prefix}
        pipeline = Pipeline(plan)
        pipeline.command("sink-setup", "elasticsearch")
        return pipeline

    def counts(self) -> dict[str, Callable[[], int]]:
        """Return for each sink how to count what it wrote."""
        return {
            "redis": partial(redis_count, self.redis.url, self.prefix),
            "elasticsearch": partial(opensearch_count, self.opensearch.url, self.prefix),
        }

    def wait_for_more_rows(self, pipeline: Pipeline) -> None:
        """Wait until both have more than now."""
        for name, count in self.counts().items():
            pipeline.wait(partial(_more, count, count()), ARRIVES_WITHIN_SECONDS, f"more rows in {name}")

    def assert_same_rows(self, pipeline: Pipeline, played: Played) -> None:
        """Wait until both have been written to; then each must have every row once, with every value, Redis in order."""
        wait_until_consumed(pipeline, list(self.counts()))
        truth = played.truth()
        assert_same_rows_in_order(redis_rows(self.redis.url, self.prefix), truth)
        assert_same_rows(opensearch_rows(self.opensearch.url, self.prefix), truth)


def _more(count: Callable[[], int], than: int) -> bool:
    return count() > than


@pytest.fixture
def stores(kafka_settings: KafkaSettings, redis_server: LocalRedis, opensearch: LocalOpenSearch) -> Stores:
    """Return both stores, running."""
    return Stores(redis_server, opensearch, kafka_settings.group_prefix)


@pytest.mark.redis
@pytest.mark.opensearch
def test_a_destination_that_hangs_or_is_dead_delays_only_its_own_sink(
    kafka_settings: KafkaSettings, topics: TopicSettings, own_azurite: LocalAzurite, stores: Stores, tmp_path: Path
) -> None:
    """While Redis and OpenSearch do not answer, and while they are dead, files get all rows; then they get each row once.

    Sinks whose connections hang end when they are told to.
    """
    pipeline = stores.pipeline(plan_of(kafka_settings, topics, own_azurite, tmp_path))
    sinks = ("sink-redis-0", "sink-elasticsearch-0")
    with generating(own_azurite, estate(5, 180, seed=23), speed=100) as played, pipeline.running():
        stores.wait_for_more_rows(pipeline)
        with frozen(stores.redis, stores.opensearch):
            wait_for_progress(pipeline, played)
            ended = pipeline.take_out(*sinks)
        assert {one.exit_code for one in ended.values()} <= {0, 128 + signal.SIGTERM}, "a stop while they hang"
        for name in sinks:
            pipeline.put_in(name)
        stores.wait_for_more_rows(pipeline)
        stores.redis.kill()
        stores.opensearch.kill()
        assert_all_is_well(pipeline, played)
        assert all(unread(kafka_settings, f"sink.{name}", topics.flows) for name in stores.counts())
        stores.redis.start()
        stores.opensearch.start()
        stores.assert_same_rows(pipeline, played)
        assert pipeline.restarts() == 0
