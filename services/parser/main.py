"""Build the parser from the settings."""

from __future__ import annotations

from functools import partial

from libs.common.errors import ConfigError
from libs.common.kafka.group.partners import TOGETHER
from libs.common.kafka.loops.transform_loop import PollPolicy, TransformLoop
from libs.common.kafka.readers.compacted import CompactedTable, patience_for
from libs.common.kafka.records import Listener, Session
from libs.common.kafka.topics.admin import partition_count
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.kafka.transactions.session import SessionSpec, TransactionalSession
from libs.common.process.service import Service
from libs.common.settings import Settings
from services.parser.app import FlowParser, ResultTopics
from services.parser.quarantine import Quarantine, Register
from services.parser.suspicion import Suspicion, Threshold
from services.parser.triage import Triage


def build(settings: Settings) -> Service:
    """Build the parser; nothing is connected yet.

    Raises:
        ConfigError: if a flow batch may be larger than a message.
    """
    topics, parser = settings.topics, settings.parser
    if parser.batch_bytes > settings.kafka.value_max_bytes:
        raise ConfigError(f"parser.batch_bytes must fit in kafka.message_max_bytes: at most {settings.kafka.value_max_bytes}")
    limits = TopicLimits(settings.kafka, (topics.flows, topics.errors))
    partners = (topics.flows, topics.quarantine)
    spec = SessionSpec("parser", settings.instance.ordinal, (topics.raw_flow_logs,), partners=partners)

    def make_session(listener: Listener) -> Session:
        _check_topics(settings)
        return TransactionalSession(settings.kafka, spec, listener, limits)

    return TransformLoop(
        make_session,
        FlowParser(
            ResultTopics(topics.flows, topics.errors, parser.batch_bytes, parser.dead_letter_limit, limits.room),
            _triage(settings),
        ),
        PollPolicy(parser.poll_seconds, parser.poll_messages, parser.poll_bytes),
        topics.errors,
        stage="parser",
    )


def _triage(settings: Settings) -> Triage:
    topic = settings.topics.quarantine
    register = Register(topic, partial(CompactedTable, settings.kafka, topic), patience_for(settings.kafka))
    rule = Threshold(settings.parser.quarantine_share, settings.parser.quarantine_records)
    return Triage(Suspicion(rule), Quarantine(register))


def _check_topics(settings: Settings) -> None:
    """Raise ConfigError if the topics of flows or quarantine have fewer partitions than that of segments."""
    topics = settings.topics
    counts = {name: partition_count(settings.kafka, name) for name in (topics.raw_flow_logs, topics.flows, topics.quarantine)}
    if counts[topics.raw_flow_logs] > min(counts.values()):
        raise ConfigError(f"{TOGETHER}: {counts}")
