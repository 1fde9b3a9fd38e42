"""Offset arithmetic. Offsets are always *next* offsets: the first record that has not been processed."""

from __future__ import annotations

from collections.abc import Iterable

from libs.common.kafka.records import Inbound, TopicPartition


def next_offsets(batch: Iterable[Inbound]) -> dict[TopicPartition, int]:
    """Return, for every partition in `batch`, the offset after its last record, whatever the order of `batch`."""
    found: dict[TopicPartition, int] = {}
    for record in batch:
        source = record.source
        found[source] = max(found.get(source, 0), record.offset + 1)
    return found


def first_offsets(batch: Iterable[Inbound]) -> dict[TopicPartition, int]:
    """Return, for every partition in `batch`, the offset of its first record."""
    found: dict[TopicPartition, int] = {}
    for record in batch:
        source = record.source
        found[source] = min(found.get(source, record.offset), record.offset)
    return found
