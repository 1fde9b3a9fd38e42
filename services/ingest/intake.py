"""From messages to announcements. What is no announcement of a configured blob becomes a dead letter with its bytes.

Many refusals in a row mean that the configuration is wrong, not the messages: then the service stops instead of draining the
topic.
"""

from __future__ import annotations

from typing import Final

from libs.common.blobs import BlobId
from libs.common.dead_letters import DeadLetter, ErrorCode
from libs.common.errors import CodecError, DeadLetterLimit
from libs.common.events import BlobClosed, BlobObserved, BlobReopened, BlobsListed, Event, decode_event
from libs.common.kafka.dead_messages import dead_message
from libs.common.kafka.records import Inbound
from services.ingest import metrics
from services.ingest.backlog import Backlog
from services.ingest.outcome import STAGE
from services.ingest.sources import Sources
from services.ingest.work import Announcement

MOST_REFUSED_IN_A_ROW: Final = 1_000


class Intake:
    """Feeds a backlog."""

    def __init__(self, backlog: Backlog, sources: Sources) -> None:
        self._backlog = backlog
        self._sources = sources
        self._refused = 0  # in a row

    def take(self, record: Inbound) -> DeadLetter | None:
        """Put a message into the backlog, or return a dead letter.

        Raises:
            DeadLetterLimit: if too many messages in a row were refused.
        """
        try:
            event = decode_event(record.value or b"")
            metrics.EVENTS.labels(type(event).__name__).inc()
            announcement = self._announcement(record, event)
        except CodecError as error:
            return self._refuse(record, str(error))
        if announcement is None:
            self._backlog.pass_over(record.source, record.offset)
        else:
            self._refused = 0
            self._backlog.announce(record.source, record.offset, announcement)
        return None

    def _announcement(self, record: Inbound, event: Event) -> Announcement | None:
        if isinstance(event, BlobsListed | BlobReopened):  # a `BlobObserved` follows on the latter
            return None
        if not isinstance(event, BlobObserved | BlobClosed):
            raise CodecError(f"{type(event).__name__} is no announcement")
        blob = BlobId.parse(event.blob)
        if record.key != blob.key:
            raise CodecError("the key is not the id of the blob")
        if self._sources.container(blob) is None:
            raise CodecError(f"no container {blob.container!r} of account {blob.account!r} in subscriptions")
        return Announcement.of(blob, event)

    def _refuse(self, record: Inbound, reason: str) -> DeadLetter:
        self._refused += 1
        if self._refused >= MOST_REFUSED_IN_A_ROW:
            raise DeadLetterLimit(f"{self._refused} announcements in a row were refused, the last one since: {reason}")
        self._backlog.pass_over(record.source, record.offset)
        return dead_message(STAGE, ErrorCode.BAD_MESSAGE, reason, record)
