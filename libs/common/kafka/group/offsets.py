"""Offset arithmetic. Offsets are always *next* offsets: the first record that has not been processed."""

from __future__ import annotations

from collections.abc import Iterable

from libs.common.kafka.records import Inbound, TopicPartition


def next_offsets(batch: Iterable[Inbound]) -> dict[TopicPartition, int]:
    """Return, for every partition in `batch`, the offset after its last record, whatever the order of `batch`."""
    return {source: max(offsets) + 1 for source, offsets in _by_source(batch).items()}


def first_offsets(batch: Iterable[Inbound]) -> dict[TopicPartition, int]:
    """Return, for every partition in `batch`, the offset of its first record."""
    return {source: min(offsets) for source, offsets in _by_source(batch).items()}


def _by_source(batch: Iterable[Inbound]) -> dict[TopicPartition, list[int]]:
    found: dict[tuple[str, int], list[int]] = {}
    for record in batch:
        found.setdefault((record.topic, record.partition), []).append(record.offset)
    return {TopicPartition(topic, partition): offsets for (topic, partition), offsets in found.items()}
