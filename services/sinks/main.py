"""Put a sink process together: one consumer group a sink, so that a dead destination delays only itself."""

from __future__ import annotations

from libs.common.kafka.loops.sink_loop import PollPolicy, SinkLoop, SinkLoopSpec
from libs.common.process.service import Service
from libs.common.settings import Settings
from services.sinks.frame.handler import FlowHandler
from services.sinks.frame.registry import configured_sink


def build(settings: Settings, name: str) -> Service:
    """Build the sink `name`.

    Raises:
        ConfigError: if the sink is unknown, its library is missing, or one of its options is wrong.
    """
    configured = configured_sink(settings.sinks, name)
    batch = configured.settings.batch
    spec = SinkLoopSpec(
        group=f"{settings.kafka.group_prefix}.sink.{name}",
        topics=(settings.topics.flows,),
        errors_topic=settings.topics.errors,
        policy=PollPolicy(seconds=batch.seconds, messages=batch.messages, bytes=batch.bytes),
        dead_letter_limit=configured.settings.dead_letter_limit,
    )
    return SinkLoop(settings.kafka, spec, FlowHandler(configured.sink, name))
