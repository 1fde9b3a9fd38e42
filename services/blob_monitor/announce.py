"""Turn decisions into Kafka records: the events of a blob in order, and its new state under the same key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from libs.common.azure.storage.api import ListedBlob
from libs.common.kafka.records import Outbound
from libs.common.messages.blobs import BlobId
from libs.common.messages.dead_letters import DeadLetter
from libs.common.messages.events import (
    BlobClosed,
    BlobForgotten,
    BlobObserved,
    BlobReopened,
    BlobsListed,
    BlobState,
    BlobStatus,
    Event,
    Stream,
    encode_event,
    event_headers,
)
from libs.common.messages.labels import Labels
from libs.common.settings.kafka import TopicSettings
from services.blob_monitor.evaluate import AnnouncementKind, Known
from services.blob_monitor.memory import FULL_LISTING
from services.blob_monitor.sources import Scope, Territory


@dataclass(frozen=True, slots=True)
class Seen:
    """A listed blob with its scope, stream and labels."""

    scope: Scope
    stream: Stream
    labels: Labels
    blob: ListedBlob


def seen_in(scope: Scope, blob: ListedBlob) -> Seen:
    """Return a blob of `scope` with what the source that accepts it says about its name."""
    rule = scope.territory.rule_of(blob.name)
    if rule is None:
        raise ValueError(f"no source accepts {blob.name!r}")
    return Seen(scope, rule.stream, rule.labels(blob.name, scope.territory.place), blob)


@dataclass(frozen=True, slots=True)
class Announcer:
    """Builds records."""

    topics: TopicSettings
    timeout_seconds: int

    def state(self, seen: Seen, known: Known, now: datetime) -> Outbound:
        """Return the state record that remembers `known`."""
        territory, blob = seen.scope.territory, seen.blob
        blob_id = seen.scope.blob(blob.name)
        state = BlobState(
            blob=str(blob_id),
            subscription=territory.subscription,
            environment=territory.environment,
            stream=seen.stream,
            status=BlobStatus.CLOSED if known.closed else BlobStatus.OPEN,
            etag=known.etag,
            size=known.size,
            blob_type=blob.blob_type,
            last_modified=known.modified,
            creation_time=blob.creation_time,
            first_observed_at=known.first_seen,
            last_observed_at=now,
            baseline_offset=known.baseline,
            replay_id=known.replay_id,
            labels=seen.labels,
        )
        return _record(self.topics.blob_state, blob_id.key, state)

    def step(self, step: AnnouncementKind, seen: Seen, known: Known, now: datetime) -> Outbound:
        """Return the event of one step."""
        blob = seen.scope.blob(seen.blob.name)
        match step:
            case AnnouncementKind.OBSERVED:
                return _record(self.topics.blobs, blob.key, _observed(str(blob), seen, known, now))
            case AnnouncementKind.REOPENED:
                reopened = BlobReopened(str(blob), known.etag, known.size, known.modified, now)
                return _record(self.topics.blobs, blob.key, reopened)
            case AnnouncementKind.CLOSED:
                return self.closed(seen.scope, seen.blob.name, known, now)

    def closed(self, scope: Scope, name: str, known: Known, now: datetime) -> Outbound:
        """Return the event that closes a blob."""
        blob, rule = scope.blob(name), scope.territory.rule_of(name)
        event = BlobClosed(
            blob=str(blob),
            etag=known.etag,
            size=known.size,
            last_modified=known.modified,
            closed_at=now,
            timeout_seconds=self.timeout_seconds,
            stream=rule.stream if rule else None,
            baseline_offset=known.baseline,
            labels=rule.labels(name, scope.territory.place) if rule else {},
        )
        return _record(self.topics.blobs, blob.key, event)

    def forgotten(self, blob: BlobId, now: datetime) -> Outbound:
        """Return the event that tells others to forget a blob."""
        return _record(self.topics.blobs, blob.key, BlobForgotten(str(blob), now))

    def removal(self, blob: BlobId) -> Outbound:
        """Return the record that removes a blob from the state topic."""
        return Outbound(self.topics.blob_state, None, blob.key)

    def listed(self, event: BlobsListed) -> Outbound:
        """Return the record of a finished listing."""
        return _record(self.topics.blobs, _prefix_key(event), event)

    def dead(self, letter: DeadLetter) -> Outbound:
        """Return the dead letter for a message that cannot be handled."""
        return Outbound(self.topics.errors, letter.data, letter.key, letter.headers())

    def first_look(self, territory: Territory, at: datetime) -> Outbound:
        """Return the record of the first look at a territory."""
        return _record(self.topics.blob_state, territory.key.encode(), _look(Scope(territory, territory.prefix), at))

    def full_listing(self, scope: Scope, started_at: datetime) -> Outbound:
        """Return the record of a scope's full listing."""
        return _record(self.topics.blob_state, f"{FULL_LISTING}{scope.key}".encode(), _look(scope, started_at))


def _observed(blob_id: str, seen: Seen, known: Known, now: datetime) -> BlobObserved:
    territory, blob = seen.scope.territory, seen.blob
    return BlobObserved(
        blob=blob_id,
        subscription=territory.subscription,
        environment=territory.environment,
        stream=seen.stream,
        etag=blob.etag,
        size=blob.size,
        blob_type=blob.blob_type,
        last_modified=blob.last_modified,
        creation_time=blob.creation_time,
        observed_at=now,
        baseline_offset=known.baseline,
        replay_id=known.replay_id,
        labels=seen.labels,
    )


def _look(scope: Scope, at: datetime) -> BlobsListed:
    territory = scope.territory
    return BlobsListed(
        account=territory.alias,
        container=territory.container,
        prefix=scope.prefix,
        subscription=territory.subscription,
        environment=territory.environment,
        listing_started_at=at,
        listing_ended_at=at,
        blob_count=0,
        total_bytes=0,
        selector=territory.selector,
    )


def _prefix_key(event: BlobsListed) -> bytes:
    return f"{event.account}/{event.container}/{event.prefix}".encode()


def _record(topic: str, key: bytes, event: Event) -> Outbound:
    return Outbound(topic, encode_event(event), key, event_headers(event))
