"""Build the collector from the settings."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from libs.common.azure.arm.opening import open_arm
from libs.common.azure.storage.queues import open_queue
from libs.common.azure.vault.opening import open_vaults
from libs.common.kafka.readers.compacted import CompactedTable, patience_for
from libs.common.kafka.readers.lookup import Lookup
from libs.common.kafka.records import Listener, Session
from libs.common.kafka.topics.admin import partition_count
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.kafka.transactions.session import SessionSpec, TransactionalSession
from libs.common.process.service import Service
from libs.common.settings import Settings

if TYPE_CHECKING:
    from services.collector.api.api import CollectionApi
    from services.collector.defaults import CallDefaults
    from services.collector.queue_feed import QueueFeed

ROLE: Final = "collector"


def build(settings: Settings) -> Service:
    """Return the service; nothing is contacted yet.

    Raises:
        ConfigError: if the settings cannot work, or the extra ``azure`` is not installed.
    """
    client = open_arm(settings.collector)  # before the imports that need the extra
    from services.collector.app import CollectorParts, CollectorService
    from services.collector.comparing import Comparison
    from services.collector.history import ResourceHistory
    from services.collector.inventory import Inventory, InventoryRules
    from services.collector.progress import KnownRequests
    from services.collector.schedules import CollectionSchedules

    topics = settings.topics
    resources, changes = topics.resources, topics.resource_changes
    collection = (topics.collection_requests, topics.collection_results, topics.collection_state)
    written = (*collection, resources, changes, topics.errors)
    limits, patience = TopicLimits(settings.kafka, written), patience_for(settings.kafka)
    known = KnownRequests(partial(CompactedTable, settings.kafka, topics.collection_state), patience)
    table = partial(CompactedTable, settings.kafka, resources)
    inventory = Inventory(table, patience, InventoryRules.of(settings.collector))
    comparison = Comparison.of(settings.collector.ignore_changes_of)
    history = ResourceHistory(topics, Lookup(settings.kafka, resources, many=True), comparison, patience)
    partitions = partial(partition_count, settings.kafka, topics.collection_requests)
    schedules = CollectionSchedules(settings.collector.schedules, topics.collection_requests, partitions)
    feed, defaults, api = _feed(settings), defaults_of(settings), _api(settings, limits)
    requests = Lookup(settings.kafka, topics.collection_requests, many=True)
    parts = CollectorParts(
        settings.collector, topics, client, known, inventory, history, requests, feed, schedules, limits, defaults, api=api
    )
    return CollectorService(parts, partial(_session, settings, limits))


def _api(settings: Settings, limits: TopicLimits) -> CollectionApi | None:
    """Return the API, with the secrets that it needs."""
    from services.collector.api.building import build_api

    own = settings.collector.api
    return None if own is None else build_api(settings, own, ROLE, limits)


def _feed(settings: Settings) -> QueueFeed | None:
    from services.collector.queue_feed import QueueFeed, QueuePlace

    place = settings.collector.queue
    if place is None:
        return None
    requests, poison = open_queue(place.storage, ROLE, place), open_queue(place.storage, ROLE, place.poison)
    return QueueFeed(QueuePlace(requests, poison, place, settings.topics))


def defaults_of(settings: Settings) -> CallDefaults:
    """Return where values for open placeholders come from; nothing is contacted yet."""
    from services.collector.defaults import NoDefaults, VaultDefaults

    place = settings.collector.key_vault
    return NoDefaults() if place is None else VaultDefaults(place, open_vaults(settings.azure))


def _session(settings: Settings, limits: TopicLimits, listener: Listener) -> Session:
    topics = settings.topics
    spec = SessionSpec(ROLE, settings.instance.ordinal, (topics.collection_requests,), partners=(topics.collection_state,))
    return TransactionalSession(settings.kafka, spec, listener, limits)
