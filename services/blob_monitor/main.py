"""Composition root of blob_monitor."""

from __future__ import annotations

from libs.common.kafka.admin import partition_count
from libs.common.kafka.compacted import CompactedTable
from libs.common.kafka.consumer import Use
from libs.common.kafka.session import SessionSpec, TransactionalSession
from libs.common.kafka.topic_limits import TopicLimits
from libs.common.service import Service
from libs.common.settings import Settings
from libs.common.settings.storage import account_alias
from libs.common.storage.azure import open_container
from services.blob_monitor.app import Monitor, Parts, utc_clock
from services.blob_monitor.environment import Place
from services.blob_monitor.sources import Territory, territories


def build(settings: Settings) -> Service:
    """Return the monitor, nothing connected yet.

    Raises:
        ConfigError: if an environment's sources or credentials cannot work.
    """
    kafka, topic = settings.kafka, settings.topics.blob_state
    spec = SessionSpec("blob-monitor", settings.instance.ordinal, (topic,), Use.OWN)
    limits = TopicLimits(kafka, (settings.topics.blobs, topic))
    parts = Parts(
        make_session=lambda listener: TransactionalSession(kafka, spec, listener, limits),
        make_table=lambda apply: CompactedTable(kafka, topic, apply),
        partitions=lambda: partition_count(kafka, topic),
        places=places(settings),
    )
    return Monitor(settings.monitor, settings.topics, parts, utc_clock())


def places(settings: Settings) -> tuple[Place, ...]:
    """Return the enabled environments with their containers; nothing is asked of storage yet."""
    by_alias: dict[str, list[Territory]] = {}
    for territory in territories(settings.subscriptions):
        by_alias.setdefault(territory.alias, []).append(territory)
    return tuple(_place(settings, found) for found in by_alias.values())


def _place(settings: Settings, found: list[Territory]) -> Place:
    first = found[0]
    environment = settings.subscriptions[first.subscription].environments[first.environment]
    alias = account_alias(first.subscription, first.environment)
    names = {territory.container for territory in found}
    return Place(
        alias=alias,
        interval=environment.interval_seconds or settings.monitor.interval_seconds,
        territories=tuple(found),
        containers={name: open_container(environment.storage, alias, name) for name in sorted(names)},
    )
