"""The metrics that a committed step increases, and by how much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import prometheus_client

from libs.common.messages.events import CheckpointStatus, Stream
from services.ingest import metrics
from services.ingest.work import Step

Moved = tuple[prometheus_client.Counter, str]  # with the value of its label


def moved_by(stream: Stream, step: Step) -> Iterator[tuple[Moved, int]]:
    """Yield each metric once, with its increment."""
    yield (metrics.STEPS, stream), 1
    yield (metrics.BYTES, stream), step.bytes
    yield (metrics.SEGMENTS, stream), len(step.segments)
    if step.completion:
        yield (metrics.RECORDS, stream), step.completion.records
        yield (metrics.COMPLETED, stream), int(step.completion.status is CheckpointStatus.COMPLETE)
    if step.skipped:
        yield (metrics.SKIPPED, step.skipped), 1
    if step.ended:
        yield (metrics.ENDED, step.ended), 1
    for code, count in Counter(letter.code for letter in step.dead_letters).items():
        yield (metrics.DEAD_LETTERS, code), count
