"""The minimum rights that each service, and each command that people run, needs in Kafka.

Tests verify the table by running each service with exactly these rights (`tests/integration/test_secured_kafka.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from libs.common.errors import ConfigError
from libs.common.kafka.client.configs import reader_group
from libs.common.kafka.topics.acls import On, Operation, Right
from libs.common.rows.types import row_type
from libs.common.rows.types.flows import FLOWS
from libs.common.settings import Settings
from libs.common.settings.kafka import TopicSettings
from libs.common.settings.streams import parsed_topics, raw_topics
from services.sinks.frame.contract import KafkaUse
from services.sinks.frame.registry import configured_sink

SINK: Final = "sink-"


@dataclass(frozen=True, slots=True)
class _Uses:
    """Topics by name; `role` is the part of group and transactional ids after the prefix."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    role: str = ""
    is_transactional: bool = False
    looks_up: bool = True  # also reads topics without joining a group; the client still asks the broker about the group's name
    declares: tuple[str, ...] = ()


def known(settings: Settings) -> tuple[str, ...]:
    """Return everything that needs rights, in pipeline order: services, the configured sinks, commands."""
    fixed = ("blob-monitor", "ingest", "parser", "aggregator", "collector", "recorder")
    return (*fixed, *(f"{SINK}{name}" for name in settings.sinks), "tail", "collect", "quarantine", "topics")


def rights_of(settings: Settings, names: Iterable[str], principals: Mapping[str, str]) -> list[Right]:
    """Return the rights of `names`. A name without an entry in `principals` maps to the user of that name.

    Raises:
        ConfigError: a name is unknown.
    """
    found = (right for name in names for right in _rights(settings, name, principals.get(name, f"User:{name}")))
    return list(dict.fromkeys(found))  # several names may share a user


def _rights(settings: Settings, name: str, principal: str) -> Iterator[Right]:
    uses, prefix = _uses(settings, name), settings.kafka.group_prefix
    for topic in uses.reads:
        yield Right(principal, Operation.READ, On.TOPIC, topic)
    for topic in uses.writes:
        yield Right(principal, Operation.WRITE, On.TOPIC, topic)
        yield Right(principal, Operation.DESCRIBE_CONFIGS, On.TOPIC, topic)  # to learn its maximum message size
    if uses.role:
        yield Right(principal, Operation.READ, On.GROUP, f"{prefix}.{uses.role}")
    if uses.looks_up:
        yield Right(principal, Operation.DESCRIBE, On.GROUP, reader_group(settings.kafka))
    if uses.is_transactional:
        yield Right(principal, Operation.WRITE, On.TRANSACTIONAL_IDS, f"{prefix}.{uses.role}.")
    for topic in uses.declares:
        for operation in (Operation.CREATE, Operation.ALTER, Operation.ALTER_CONFIGS, Operation.DESCRIBE_CONFIGS):
            yield Right(principal, operation, On.TOPIC, topic)


def _uses(settings: Settings, name: str) -> _Uses:
    topics = settings.topics
    if name.startswith(SINK):
        return _uses_of_sink(settings, name.removeprefix(SINK))
    fixed = _fixed(topics)
    fixed["blob-monitor"] = _uses_of_monitor(settings)
    fixed["parser"] = _uses_of_parser(settings)
    fixed["aggregator"] = _uses_of_aggregator(settings)
    fixed["collector"] = _uses_of_collector(settings)
    if name not in fixed:
        raise ConfigError(f"unknown service or command {name}: give one of {', '.join(known(settings))}, or {SINK}NAME")
    return fixed[name]


def _uses_of_sink(settings: Settings, name: str) -> _Uses:
    """Return what a sink uses: it reads the topic of its rows (flows if it is not configured), and may refuse any of them.

    Raises:
        ConfigError: if there are no such rows.
    """
    topics = settings.topics
    try:
        rows = row_type(str(settings.sinks.get(name, {}).get("rows", FLOWS.name)))
    except ConfigError as error:
        raise ConfigError(f"sinks.{name}.rows: {error}") from error
    own = _own_use(settings, name)
    read = str(settings.sinks.get(name, {}).get("read_topic") or getattr(topics, rows.topic))
    reads, writes = (read, *own.reads), (topics.errors, *own.writes)
    return _Uses(reads, writes, f"sink.{name}", own.is_transactional, looks_up=bool(own.reads))


def _own_use(settings: Settings, name: str) -> KafkaUse:
    if name in settings.sinks:
        with suppress(ConfigError):  # `config check` says what is wrong with it; here its library may be missing, too
            return configured_sink(settings.sinks, name, settings).sink.kafka_use()
    return KafkaUse()


def _uses_of_monitor(settings: Settings) -> _Uses:
    topics = settings.topics
    environments = (each for subscription in settings.subscriptions.values() for each in subscription.environments.values())
    # A queue may hold messages that are not events: those go to the errors topic.
    letters = (topics.errors,) if any(each.events is not None for each in environments if each.enabled) else ()
    return _Uses((topics.blob_state,), (topics.blobs, topics.blob_state, *letters), "blob-monitor", is_transactional=True)


def _uses_of_parser(settings: Settings) -> _Uses:
    topics = settings.topics
    raw, rows = parsed_topics(topics, settings.parser)
    return _Uses((*raw, topics.quarantine), (*rows, topics.quarantine, topics.errors), "parser", is_transactional=True)


def _uses_of_aggregator(settings: Settings) -> _Uses:
    topics = settings.topics
    # Before anything is configured: the rights for what is usual.
    results = settings.aggregator.topics_of(topics) or (topics.rollups,)
    return _Uses((topics.flows,), (*results, topics.errors), "aggregator", is_transactional=True)


def _uses_of_collector(settings: Settings) -> _Uses:
    topics = settings.topics
    reads = (topics.collection_requests, topics.collection_state, topics.resources)
    # Messages of a queue, schedules, and what the API takes become requests like any others.
    own = settings.collector
    is_sender = own.queue is not None or own.api is not None or bool(own.schedules)
    requests = (topics.collection_requests,) if is_sender else ()
    resources = (topics.resources, topics.resource_changes)
    writes = (topics.collection_results, topics.collection_state, *resources, topics.errors, *requests)
    return _Uses(reads, writes, "collector", is_transactional=True)


def _fixed(topics: TopicSettings) -> dict[str, _Uses]:
    everything = tuple(topics.model_dump().values())
    raw = tuple(raw_topics(topics).values())
    return {
        "ingest": _Uses(
            (topics.blobs, topics.checkpoints),
            (*raw, topics.checkpoints, topics.completions, topics.errors),
            "ingest",
            is_transactional=True,
        ),
        "recorder": _Uses(
            (topics.recorder_state,),
            (topics.snapshots, topics.recorder_state, topics.errors),
            "recorder",
            is_transactional=True,
        ),
        "tail": _Uses(everything),
        "collect": _Uses(writes=(topics.collection_requests,), looks_up=False),
        "quarantine": _Uses((topics.blob_state, topics.checkpoints, topics.quarantine), (topics.blobs, topics.quarantine)),
        "topics": _Uses(looks_up=False, declares=everything),
    }
