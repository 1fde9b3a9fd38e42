"""Composition root of the recorder."""

from __future__ import annotations

from libs.common.kafka.group.membership import Use
from libs.common.kafka.readers.compacted import CompactedTable
from libs.common.kafka.topics.admin import partition_count
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.kafka.transactions.session import SessionSpec, TransactionalSession
from libs.common.process.service import Service
from libs.common.settings import Settings
from services.recorder.app import Recorder, RecorderParts
from services.recorder.asking import HttpPoller, PollClock
from services.recorder.rows import SnapshotWriter


def build(settings: Settings) -> Service:
    """Return the recorder, not yet connected.

    Raises:
        ConfigError: the settings of a source cannot work.
    """
    kafka, topics = settings.kafka, settings.topics
    spec = SessionSpec("recorder", settings.instance.ordinal, (topics.recorder_state,), Use.OWN)
    limits = TopicLimits(kafka, (topics.snapshots, topics.recorder_state, topics.errors))
    parts = RecorderParts(
        make_session=lambda listener: TransactionalSession(kafka, spec, listener, limits),
        make_table=lambda apply: CompactedTable(kafka, topics.recorder_state, apply),
        partitions=lambda: partition_count(kafka, topics.recorder_state),
        pollers=pollers(settings, PollClock()),
        writer=SnapshotWriter(topics, limits.room),
        threads=settings.recorder.concurrency,
    )
    return Recorder(topics, parts)


def pollers(settings: Settings, clock: PollClock) -> dict[str, HttpPoller]:
    """Return what asks each source, by the source's name. Nothing is sent yet. Raises `ConfigError`."""
    return {source.name: HttpPoller(source, clock) for source in settings.recorder.sources}
