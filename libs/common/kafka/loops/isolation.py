"""Find the bad record in a batch that cannot be processed, by halving until it is alone.

A batch may fail because our code raises on one record, because Kafka refuses one output, or because the world is at fault. Only
the first two condemn a record; a range that keeps aborting is tried in smaller transactions, but never discarded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from libs.common.kafka.group.offsets import first_offsets
from libs.common.kafka.records import Inbound, TopicPartition

ABORTS_BEFORE_HALVING: Final = 2


class Isolation:
    """Decides how many of the next records go into one transaction, and which record is given up."""

    def __init__(self) -> None:
        self._suspects = 0  # number of next records that contain the failure
        self._size: int | None = None
        self._condemned: set[tuple[TopicPartition, int]] = set()
        self._aborted: dict[TopicPartition, int] = {}
        self._aborts = 0

    def next_part(self, batch: Sequence[Inbound]) -> Sequence[Inbound]:
        """Return the first records of `batch` that may be tried together."""
        return batch if self._size is None else batch[: self._size]

    def is_condemned(self, part: Sequence[Inbound]) -> bool:
        """Return whether `part` is the one record to give up."""
        return len(part) == 1 and (part[0].source, part[0].offset) in self._condemned

    def failed(self, part: Sequence[Inbound]) -> None:
        """Record that `part` contains a bad record: try half of it next, or give up the record."""
        if len(part) == 1:
            self._condemned.add((part[0].source, part[0].offset))
        self._halve(part)

    def aborted(self, part: Sequence[Inbound]) -> None:
        """Record that the transaction of `part` aborted, with no record known to be at fault."""
        start = first_offsets(part)
        self._aborts = self._aborts + 1 if start == self._aborted else 1
        self._aborted = start
        if self._aborts >= ABORTS_BEFORE_HALVING:
            self._aborts = 0
            self._halve(part)

    def succeeded(self, part: Sequence[Inbound]) -> None:
        """Record that `part` is done; continue with the remaining suspects, then with whole batches."""
        if self._condemned:
            self._condemned.difference_update((record.source, record.offset) for record in part)
        self._aborted, self._aborts = {}, 0
        self._suspects = max(0, self._suspects - len(part))
        self._size = max(1, self._suspects // 2) if self._suspects else None

    def _halve(self, part: Sequence[Inbound]) -> None:
        self._suspects = len(part)
        self._size = max(1, len(part) // 2)
