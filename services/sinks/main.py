"""Assemble a sink process: each sink has its own consumer group, so that a dead destination delays only itself."""

from __future__ import annotations

from functools import partial

from libs.common.kafka.loops.sink_loop import PollPolicy, SinkLoop, SinkLoopSpec
from libs.common.kafka.topics.topic_ids import TopicIds
from libs.common.process.memory import give_back_code
from libs.common.process.service import Service
from libs.common.rows.reading import reader_of
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.settings import Settings
from services.sinks.frame.handler import RowHandler, SinkFeed
from services.sinks.frame.letters import OtherLetters
from services.sinks.frame.registry import ConfiguredSink, check_memory, configured_sink


def build(settings: Settings, name: str) -> Service:
    """Build the sink `name`.

    Raises:
        ConfigError: if the sink is unknown, its library is missing, one of its options is wrong, or another sink shares its
            memory.
    """
    check_memory(settings.sinks, name)
    configured = configured_sink(settings.sinks, name, settings)
    if configured.selection.condition is not None:
        give_back_code("_duckdb")
    batch = configured.settings.batch
    spec = SinkLoopSpec(
        group=f"{settings.kafka.group_prefix}.sink.{name}",
        topics=(configured.settings.source_topic(configured.row_type, settings.topics),),
        errors_topic=settings.topics.errors,
        policy=PollPolicy(seconds=batch.seconds, messages=batch.messages, bytes=configured.settings.poll_bytes),
        dead_letter_limit=configured.settings.dead_letter_limit,
    )
    return SinkLoop(settings.kafka, spec, RowHandler(configured.sink, _feed(settings, configured)))


def _feed(settings: Settings, configured: ConfiguredSink) -> SinkFeed:
    row_type, topic_ids = configured.row_type, TopicIds(settings.kafka)
    others = (OtherLetters(configured.name, settings.topics.errors).select,) if row_type is DEAD_LETTERS else ()
    select = (*others, *configured.steps)
    moved = partial(topic_ids.forget, (configured.settings.source_topic(row_type, settings.topics),))
    return SinkFeed(configured.name, row_type, reader_of(row_type, topic_ids), select, moved)
