"""Turn messages into announcements. Any other message becomes a dead letter with its bytes.

Many refusals in a row mean that it is the wrong topic: the service then stops instead of draining it. Announcements of
containers that are not configured are skipped: the environment may have been disabled, removed or renamed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from libs.common.errors import CodecError, DeadLetterLimit
from libs.common.kafka.client.throttle import Throttle
from libs.common.kafka.loops.dead_messages import dead_message
from libs.common.kafka.records import Inbound, TopicPartition
from libs.common.messages.blobs import BlobId
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.messages.events import (
    BlobClosed,
    BlobForgotten,
    BlobObserved,
    BlobReleased,
    BlobReopened,
    BlobsListed,
    Event,
    decode_event,
)
from services.ingest import metrics
from services.ingest.pending.backlog import Arrival, Backlog
from services.ingest.reading.outcome import STAGE
from services.ingest.sources import Sources
from services.ingest.work import Announcement, Skip

log = structlog.get_logger(__name__)

MOST_REFUSED_IN_A_ROW: Final = 1_000
MOST_CONTAINERS_TOLD: Final = 100  # a message may name any


@dataclass(frozen=True, slots=True)
class IntakeParts:
    """Destinations of messages."""

    backlog: Backlog
    sources: Sources
    forget: Callable[[TopicPartition, BlobForgotten], None]


class Intake:
    """Feeds a backlog."""

    def __init__(self, parts: IntakeParts, clock: Callable[[], float]) -> None:
        self._backlog = parts.backlog
        self._sources = parts.sources
        self._forget = parts.forget
        self._clock = clock
        self._refused = 0  # in a row
        self._told: dict[str, Throttle] = {}  # by container that is not configured

    def take(self, record: Inbound) -> DeadLetter | None:
        """Put a message into the backlog, or return a dead letter.

        Raises:
            DeadLetterLimit: too many messages in a row were refused.
        """
        try:
            event = decode_event(record.value or b"")
            metrics.EVENTS.labels(type(event).__name__).inc()
            announcement = self._announcement(record, event)
        except CodecError as error:
            return self._refuse(record, str(error))
        if isinstance(event, BlobForgotten):
            self._forget(record.source, event)
        if announcement is None:
            self._backlog.pass_over(record.source, record.offset)
        elif self._sources.container(announcement.blob) is None:
            self._backlog.pass_over(record.source, record.offset)
            self._tell(announcement.blob)
        else:
            self._refused = 0
            self._backlog.announce(record.source, Arrival(record.offset, record.timestamp_ms / 1000), announcement)
        return None

    def _announcement(self, record: Inbound, event: Event) -> Announcement | None:
        if isinstance(event, BlobsListed | BlobReopened):  # the latter is followed by a `BlobObserved`
            return None
        if not isinstance(event, BlobObserved | BlobReleased | BlobClosed | BlobForgotten):
            raise CodecError(f"{type(event).__name__} is not an announcement")
        blob = BlobId.parse(event.blob)
        if record.key != blob.key:
            raise CodecError("the key is not the blob's id")
        return None if isinstance(event, BlobForgotten) else Announcement.of(blob, event)

    def _tell(self, blob: BlobId) -> None:
        """Log, once a minute per container, that it is not configured."""
        metrics.SKIPPED.labels(Skip.NOT_CONFIGURED).inc()
        place = f"{blob.account}/{blob.container}"
        if place not in self._told and len(self._told) < MOST_CONTAINERS_TOLD:
            self._told[place] = Throttle(self._clock)
        throttle = self._told.get(place)
        if throttle is not None and throttle.admits():
            log.warning(
                "ignoring announced blobs: their container is not in subscriptions, or its environment is disabled",
                container=place,
                more_since_last_line=throttle.take_swallowed(),
            )

    def _refuse(self, record: Inbound, reason: str) -> DeadLetter:
        self._refused += 1
        if self._refused >= MOST_REFUSED_IN_A_ROW:
            raise DeadLetterLimit(f"{self._refused} announcements in a row were refused, the last one because: {reason}")
        self._backlog.pass_over(record.source, record.offset)
        return dead_message(STAGE, ErrorCode.BAD_MESSAGE, reason, record)
