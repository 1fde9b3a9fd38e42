"""Composition root of blob_monitor."""

from __future__ import annotations

from collections.abc import Iterable

from libs.common.azure.storage.blobs import open_container
from libs.common.azure.storage.queues import account_name, open_queue, queue_address
from libs.common.errors import ConfigError
from libs.common.kafka.group.membership import Use
from libs.common.kafka.readers.compacted import CompactedTable
from libs.common.kafka.topics.admin import partition_count
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.kafka.transactions.session import SessionSpec, TransactionalSession
from libs.common.process.service import Service
from libs.common.settings import Settings
from libs.common.settings.storage import Environment
from services.blob_monitor.app import Monitor, MonitorParts, utc_clock
from services.blob_monitor.environment import EnvironmentParts
from services.blob_monitor.feed import EventFeed
from services.blob_monitor.sources import Territory, territories


def build(settings: Settings) -> Service:
    """Return the monitor, not yet connected.

    Raises:
        ConfigError: an environment's sources or credentials cannot work.
    """
    kafka, topic = settings.kafka, settings.topics.blob_state
    spec = SessionSpec("blob-monitor", settings.instance.ordinal, (topic,), Use.OWN)
    found = places(settings)
    letters = (settings.topics.errors,) if any(place.feed for place in found) else ()
    limits = TopicLimits(kafka, (settings.topics.blobs, topic, *letters))
    parts = MonitorParts(
        make_session=lambda listener: TransactionalSession(kafka, spec, listener, limits),
        make_table=lambda apply: CompactedTable(kafka, topic, apply),
        partitions=lambda: partition_count(kafka, topic),
        places=found,
    )
    return Monitor(settings.monitor, settings.topics, parts, utc_clock())


def places(settings: Settings) -> tuple[EnvironmentParts, ...]:
    """Return the enabled environments with their containers, without contacting storage."""
    by_alias: dict[str, list[Territory]] = {}
    for territory in territories(settings.subscriptions):
        by_alias.setdefault(territory.alias, []).append(territory)
    environments = {alias: _environment(settings, found) for alias, found in by_alias.items()}
    _check_queues(settings, environments.items())
    return tuple(_place(settings, environments[alias], found) for alias, found in by_alias.items())


def _environment(settings: Settings, found: list[Territory]) -> Environment:
    return settings.subscriptions[found[0].subscription].environments[found[0].environment]


def _place(settings: Settings, environment: Environment, found: list[Territory]) -> EnvironmentParts:
    alias = found[0].alias
    names = {territory.container for territory in found}
    return EnvironmentParts(
        alias=alias,
        interval=environment.interval_seconds or settings.monitor.interval_seconds,
        territories=tuple(found),
        containers={name: open_container(environment.storage, alias, name) for name in sorted(names)},
        feed=_feed(environment, alias),
    )


def _feed(environment: Environment, alias: str) -> EventFeed | None:
    events, storage = environment.events, environment.storage
    if events is None:
        return None
    return EventFeed(events.queue, open_queue(storage, alias, events), account_name(storage, alias))


def _check_queues(settings: Settings, aliases: Iterable[tuple[str, Environment]]) -> None:
    """Refuse configurations that would lose events.

    Raises:
        ConfigError: two environments share a queue, and would delete each other's events, or blobs have a minimum age.
    """
    readers: dict[str, str] = {}
    for alias, environment in aliases:
        if environment.events is None:
            continue
        if settings.monitor.minimum_age_seconds:
            raise ConfigError(
                f"{alias}: events cannot be combined with monitor.minimum_age_seconds; set it to 0, or remove events"
            )
        address = queue_address(environment.storage, alias, environment.events)
        if (other := readers.setdefault(address, alias)) != alias:
            raise ConfigError(
                f"{other} and {alias} read the same queue, {address}: give each its own queue and event subscription"
            )
