"""Build the parser from the settings."""

from __future__ import annotations

from functools import partial

from libs.common.errors import ConfigError
from libs.common.kafka.loops.transform_loop import PollPolicy, TransformLoop
from libs.common.kafka.readers.compacted import CompactedTable, patience_for
from libs.common.kafka.records import Listener, Session
from libs.common.kafka.topics.admin import check_partners
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.kafka.transactions.session import SessionSpec, TransactionalSession
from libs.common.messages.events import Stream
from libs.common.process.service import Service
from libs.common.rows.batches import Outlet
from libs.common.settings import Settings
from libs.common.settings.streams import parsed_topics, raw_topics, row_topics
from services.parser.app import Parser
from services.parser.extraction import Kernel
from services.parser.log_options import log_options
from services.parser.logs.kernel import LogKernel
from services.parser.quarantine import Quarantine, Register
from services.parser.streams import FlowKernel, InputStream
from services.parser.suspicion import Suspicion, Threshold
from services.parser.triage import Triage


def build(settings: Settings) -> Service:
    """Build the parser; nothing is connected yet.

    Raises:
        ConfigError: if a batch of rows may be larger than a message, or a setting of logs names no column or no pattern.
    """
    topics, parser = settings.topics, settings.parser
    if parser.batch_bytes > settings.kafka.value_max_bytes:
        raise ConfigError(f"parser.batch_bytes must fit in kafka.message_max_bytes: at most {settings.kafka.value_max_bytes}")
    streams = _streams(settings)
    _, rows = parsed_topics(topics, parser)
    limits = TopicLimits(settings.kafka, (*rows, topics.errors))
    partners = (*rows, topics.quarantine)
    spec = SessionSpec("parser", settings.instance.ordinal, tuple(streams), partners=partners)

    def make_session(listener: Listener) -> Session:
        check_partners(settings.kafka, spec.topics, spec.partners)
        return TransactionalSession(settings.kafka, spec, listener, limits)

    return TransformLoop(
        make_session,
        Parser(Outlet(topics.errors, parser.batch_bytes, parser.dead_letter_limit, limits.room), streams, _triage(settings)),
        PollPolicy(parser.poll_seconds, parser.poll_messages, parser.poll_bytes),
        topics.errors,
        stage="parser",
    )


def _streams(settings: Settings) -> dict[str, InputStream]:
    """Return the streams that are read, by the topics of their segments."""
    options, raw = log_options(settings.parser.logs), raw_topics(settings.topics)
    kernels: dict[Stream, Kernel] = {
        Stream.FLOW_LOGS: FlowKernel(),
        Stream.APPLICATION_LOGS: LogKernel(options, is_proxy_stream=False),
        Stream.PROXY_LOGS: LogKernel(options, is_proxy_stream=True),
    }
    return {
        raw[stream]: InputStream(kernels[stream], row_topics(settings.topics, stream, settings.parser))
        for stream in Stream
        if stream in settings.parser.streams
    }


def _triage(settings: Settings) -> Triage:
    topic = settings.topics.quarantine
    register = Register(topic, partial(CompactedTable, settings.kafka, topic), patience_for(settings.kafka))
    rule = Threshold(settings.parser.quarantine_share, settings.parser.quarantine_records)
    return Triage(Suspicion(rule), Quarantine(register))
