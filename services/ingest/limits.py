"""How blobs are cut, and how much of one is read at once: what follows from the settings and from the limits of topics."""

from __future__ import annotations

from typing import Final

from libs.common.errors import ConfigError
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.messages.events import BlobCheckpoint, Stream
from libs.common.settings import Settings
from libs.common.settings.streams import raw_topics
from services.ingest.cutting.window import SizeLimits

MOST_RECORD_BYTES: Final = 16_777_216
SMALLEST_GRANT: Final = 65_536
MOST_TEXT: Final = 16  # bytes per compressed byte for which room is made; more takes another step


def check_sizes(settings: Settings) -> None:
    """Raise ConfigError if a segment may be too large for a message."""
    ingest, room = settings.ingest, settings.kafka.value_max_bytes
    if max(ingest.segment_bytes, ingest.max_line_bytes) > room:
        raise ConfigError(f"ingest.segment_bytes and ingest.max_line_bytes must fit in kafka.message_max_bytes: at most {room}")


def cutting(settings: Settings, limits: TopicLimits, stream: Stream) -> SizeLimits:
    """Return how `stream` is cut: so that its topic takes each segment, and the errors topic too."""
    ingest, topics = settings.ingest, settings.topics
    room = min(limits.room(raw_topics(topics)[stream]), limits.room(topics.errors))
    at_once = min(ingest.read_bytes, ingest.commit_bytes)
    return SizeLimits(min(ingest.segment_bytes, room), min(ingest.max_line_bytes, room), MOST_RECORD_BYTES, at_once)


def allowance(size: int, checkpoint: BlobCheckpoint | None, most: int) -> int:
    """Return how many bytes the next step may read of a blob of `size` bytes: what is likely to be there, at most `most`."""
    unread = size - (checkpoint.read_to if checkpoint else 0)
    if checkpoint is not None and checkpoint.encoding:
        unread *= MOST_TEXT  # what is granted bounds the text
    return max(SMALLEST_GRANT, min(most, unread))
