"""Build the aggregator from the settings."""

from __future__ import annotations

from libs.common.errors import ConfigError
from libs.common.kafka.loops.transform_loop import PollPolicy, TransformLoop
from libs.common.kafka.records import Listener, Session
from libs.common.kafka.topics.admin import check_partners
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.kafka.transactions.session import SessionSpec, TransactionalSession
from libs.common.process.memory import give_back_code
from libs.common.process.service import Service
from libs.common.rows.batches import Outlet
from libs.common.settings import Settings
from services.aggregator.aggregation import Aggregation
from services.aggregator.app import STAGE, Aggregator


def build(settings: Settings) -> Service:
    """Build the aggregator; nothing is connected yet.

    Raises:
        ConfigError: if no aggregation is configured or one is wrong, or a batch of rows may be larger than a message.
    """
    topics, own = settings.topics, settings.aggregator
    aggregations = [Aggregation.of(one, topics) for one in own.aggregations]
    if not aggregations:
        raise ConfigError("nothing to sum up: set aggregator.aggregations, for example to [{preset: network}]")
    if own.batch_bytes > settings.kafka.value_max_bytes:
        raise ConfigError(
            f"aggregator.batch_bytes must fit in kafka.message_max_bytes: at most {settings.kafka.value_max_bytes}"
        )
    if any(one.condition is not None for one in aggregations):
        give_back_code("_duckdb")
    results = own.topics_of(topics)
    if taken := set(results) & {name for field, name in topics if not field.startswith("rollups")}:
        raise ConfigError(f"aggregator.aggregations: the topic {min(taken)} is used for something else")
    limits = TopicLimits(settings.kafka, (*results, topics.errors))
    spec = SessionSpec(STAGE, settings.instance.ordinal, (topics.flows,), partners=results)

    def make_session(listener: Listener) -> Session:
        check_partners(settings.kafka, spec.topics, spec.partners)
        return TransactionalSession(settings.kafka, spec, listener, limits)

    return TransformLoop(
        make_session,
        Aggregator(Outlet(topics.errors, own.batch_bytes, own.dead_letter_limit, limits.room), aggregations),
        PollPolicy(own.poll_seconds, own.poll_messages, own.poll_bytes),
        topics.errors,
        stage=STAGE,
    )
