"""Build ingest from the settings."""

from __future__ import annotations

from functools import partial
from typing import Final

from libs.common.azure.storage.blobs import open_container
from libs.common.errors import ConfigError
from libs.common.kafka.group.partners import TOGETHER
from libs.common.kafka.readers.compacted import CompactedTable, patience_for
from libs.common.kafka.readers.lookup import Lookup
from libs.common.kafka.records import Listener, Session
from libs.common.kafka.topics.admin import partition_count
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.kafka.transactions.session import SessionSpec, TransactionalSession
from libs.common.process.service import Service
from libs.common.settings import Settings
from libs.common.settings.streams import raw_topics
from services.ingest.app import Ingest, IngestParts
from services.ingest.limits import check_sizes, cutting
from services.ingest.pending.checkpoints import Checkpoints, LoadingTimes, Topic
from services.ingest.reading.decoders import Decoders
from services.ingest.reading.reader import BlobReader
from services.ingest.sources import Sources

ROLE: Final = "ingest"


def build(settings: Settings) -> Service:
    """Return the service; nothing is contacted yet.

    Raises:
        ConfigError: there is nothing to read, or sizes are inconsistent.
    """
    ingest, topics = settings.ingest, settings.topics
    check_sizes(settings)
    written = (*raw_topics(topics).values(), topics.checkpoints, topics.completions, topics.errors)
    limits = TopicLimits(settings.kafka, written)
    parts = IngestParts(
        settings=ingest,
        topics=topics,
        sources=Sources(settings.subscriptions, open_container),
        reader=BlobReader(partial(cutting, settings, limits), Decoders(ingest.decoder_bytes)),
        checkpoints=_checkpoints(settings),
        check=partial(_check_topics, settings),
    )
    return Ingest(parts, partial(_session, settings, limits))


def _checkpoints(settings: Settings) -> Checkpoints:
    pace = LoadingTimes(patience_for(settings.kafka), settings.kafka.max_poll_interval_ms / 1000)
    topic = settings.topics.checkpoints
    return Checkpoints(Topic(partial(CompactedTable, settings.kafka, topic), Lookup(settings.kafka, topic)), pace)


def _session(settings: Settings, limits: TopicLimits, listener: Listener) -> Session:
    topics = settings.topics
    spec = SessionSpec(ROLE, settings.instance.ordinal, (topics.blobs,), partners=(topics.checkpoints,))
    return TransactionalSession(settings.kafka, spec, listener, limits)


def _check_topics(settings: Settings) -> None:
    """Raise ConfigError if the checkpoint topic has fewer partitions than the topic of announcements."""
    blobs, checkpoints = settings.topics.blobs, settings.topics.checkpoints
    counts = {name: partition_count(settings.kafka, name) for name in (blobs, checkpoints)}
    if counts[blobs] > counts[checkpoints]:
        raise ConfigError(f"{TOGETHER}: {counts}")
