"""What is known of one blob: which source takes it, and what the topics of the monitor and of ingest say about it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from libs.common.errors import CodecError
from libs.common.settings import Settings

if TYPE_CHECKING:
    from libs.common.kafka.records import Inbound
    from libs.common.messages.blobs import BlobId
    from libs.common.messages.events import BlobCheckpoint, BlobCompletion, BlobState, Event
    from services.blob_monitor.names import NameRule
    from services.blob_monitor.sources import Territory

_E = TypeVar("_E")


@dataclass(slots=True)
class InTopics:
    """What the topics say about a blob."""

    state: BlobState | None = None
    checkpoint: BlobCheckpoint | None = None
    completions: list[BlobCompletion] = field(default_factory=list)


def rule_of(settings: Settings, blob: BlobId) -> tuple[Territory, NameRule] | None:
    """Return which source, and which of its rules, takes a blob; None if the settings do not cover it."""
    from services.blob_monitor.sources import Atlas, territories

    found = Atlas(territories(settings.subscriptions)).find(str(blob))
    rule = found[0].territory.rule_of(blob.name) if found is not None else None
    return None if found is None or rule is None else (found[0].territory, rule)


def known_of(settings: Settings, blob: BlobId) -> InTopics:
    """Read the partitions that a blob is on. Raises ServerUnreachable, ConfigError."""
    from libs.common.messages.events import BlobCheckpoint, BlobCompletion, BlobState

    topics = settings.topics
    states = events_about(settings, topics.blob_state, blob, BlobState)
    checkpoints = events_about(settings, topics.checkpoints, blob, BlobCheckpoint)
    completions = events_about(settings, topics.completions, blob, BlobCompletion)
    return InTopics(
        next(reversed(states), None), next(reversed(checkpoints), None), [one for one in completions if one is not None]
    )


def events_about(settings: Settings, topic: str, blob: BlobId, kind: type[_E]) -> list[_E | None]:
    """Return the events about a blob in a topic, oldest first; None for a tombstone. Raises ServerUnreachable, ConfigError."""
    from libs.common.kafka.readers.compacted import CompactedTable
    from libs.common.kafka.topics.admin import partition_count
    from libs.common.messages.blobs import partition_of
    from libs.common.messages.events import decode_event

    found: list[_E | None] = []

    def apply(record: Inbound) -> None:
        if record.key != blob.key:
            return
        try:
            event: Event | None = decode_event(record.value) if record.value is not None else None
        except CodecError:
            return
        if event is None or isinstance(event, kind):
            found.append(event)

    with closing(CompactedTable(settings.kafka, topic, apply)) as table:
        table.open([partition_of(blob.key, partition_count(settings.kafka, topic))])
        table.catch_up()
    return found
