"""A transaction in the making: the outcomes of steps as Kafka records, grouped by the partition of the announcements.

Segments keep the order in which they were read. Of several steps of a blob, only the last checkpoint is written, to the
partition number of its announcements, where it will be looked up; the completions of a generation are merged. Metrics count a
step when it is committed, because a rewound step is repeated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import partial

from libs.common.kafka.records import Outbound, TopicPartition
from libs.common.messages.dead_letters import DeadLetter
from libs.common.messages.events import (
    QUARANTINED,
    BlobCheckpoint,
    BlobCompletion,
    CheckpointStatus,
    Stream,
    encode_event,
    event_headers,
)
from libs.common.settings.kafka import TopicSettings
from libs.common.settings.streams import raw_topics
from services.ingest import metrics
from services.ingest.counted import Moved, moved_by
from services.ingest.pending.checkpoints import CheckpointPlace
from services.ingest.pending.tries import is_quarantined
from services.ingest.work import Step


@dataclass(slots=True)
class _Share:
    """The outcomes for one partition."""

    records: list[Outbound] = field(default_factory=list)
    checkpoints: dict[bytes, Outbound] = field(default_factory=dict)
    completions: dict[bytes, list[BlobCompletion]] = field(default_factory=dict)
    counted: Counter[Moved] = field(default_factory=Counter)


class Batch:
    """Collects steps. `bytes` is the size of segments and dead letters."""

    def __init__(self, topics: TopicSettings) -> None:
        self._topics = topics
        self._raw = raw_topics(topics)
        self._shares: dict[TopicPartition, _Share] = {}
        self.placed: dict[bytes, CheckpointPlace] = {}  # by key, once the records of this batch are written
        self.bytes = 0

    def __bool__(self) -> bool:
        return bool(self._shares)

    def add(self, source: TopicPartition, key: bytes, stream: Stream, step: Step) -> bytes | None:
        """Add a step; return the encoded checkpoint if it moved."""
        share = self._shares.setdefault(source, _Share())
        share.counted.update(dict(moved_by(stream, step)))
        topic = self._raw[stream]
        share.records += [Outbound(topic, segment.data, key, segment.headers()) for segment in step.segments]
        share.records += [self._dead_letter(letter) for letter in step.dead_letters]
        self.bytes += step.weight
        if step.completion:
            _append(share.completions.setdefault(key, []), step.completion)
        return None if step.checkpoint is None else self.keep(source, key, step.checkpoint)

    def keep(self, source: TopicPartition, key: bytes, checkpoint: BlobCheckpoint | None) -> bytes | None:
        """Add a checkpoint, or None to remove the blob's checkpoint; return it encoded."""
        share = self._shares.setdefault(source, _Share())
        if checkpoint is None:
            note = partial(_note, self.placed, key, (source.partition, None))
            share.checkpoints[key] = Outbound(self._topics.checkpoints, None, key, (), source.partition, note)
            return None
        held = (QUARANTINED,) if is_quarantined(checkpoint) else ()
        value, headers = encode_event(checkpoint), (*event_headers(checkpoint), *held)
        note = partial(_note, self.placed, key, (source.partition, checkpoint.status))
        share.checkpoints[key] = Outbound(self._topics.checkpoints, value, key, headers, source.partition, note)
        return value

    def refuse(self, source: TopicPartition, letter: DeadLetter) -> None:
        """Add a dead letter that belongs to no blob."""
        share = self._shares.setdefault(source, _Share())
        share.records.append(self._dead_letter(letter))
        share.counted[metrics.DEAD_LETTERS, letter.code] += 1
        self.bytes += len(letter.data)

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Drop the outcomes for these partitions."""
        for source in partitions:
            self._shares.pop(source, None)

    def outputs(self) -> list[Outbound]:
        """Return everything as records."""
        records: list[Outbound] = []
        for share in self._shares.values():
            records += share.records
            records += share.checkpoints.values()
            records += [
                Outbound(self._topics.completions, encode_event(event), key, event_headers(event))
                for key, events in share.completions.items()
                for event in events
            ]
        return records

    def count(self) -> None:
        """Update the metrics with what was committed."""
        for share in self._shares.values():
            for (metric, label), count in share.counted.items():
                metric.labels(label).inc(count)

    def _dead_letter(self, letter: DeadLetter) -> Outbound:
        return Outbound(self._topics.errors, letter.data, letter.key, letter.headers())


def _note(placed: dict[bytes, CheckpointPlace], key: bytes, where: tuple[int, CheckpointStatus | None], offset: int) -> None:
    """Record the offset of a checkpoint. Not a method: the batch's records would then refer to the batch, forming a cycle.

    A batch holds megabytes, which must be freed with the last reference, not at the next cycle collection.
    """
    partition, status = where
    placed[key] = CheckpointPlace(partition, offset, status)


def _append(completions: list[BlobCompletion], new: BlobCompletion) -> None:
    """Append `new`, or merge it with the last one if they are contiguous."""
    last = completions[-1] if completions else None
    if last and (last.generation, last.status, last.to_offset) == (new.generation, CheckpointStatus.OPEN, new.from_offset):
        segments, records = last.segments + new.segments, last.records + new.records
        completions[-1] = replace(
            new, from_offset=last.from_offset, segments=segments, records=records, decoded_from=last.decoded_from
        )
    else:
        completions.append(new)
