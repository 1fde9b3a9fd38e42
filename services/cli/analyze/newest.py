"""The newest rows of several topics, while their messages arrive in any order; older ones are forgotten as soon as possible."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush, heappushpop

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.row_type import RowType


class NewestRows:
    """Keeps the newest messages that together have at least `most` rows: memory for these, and for one message more.

    Args:
        most: rows.
        messages: so many of the newest messages are certainly among those that are added, and perhaps older ones.
    """

    def __init__(self, most: int, messages: int) -> None:
        self._most = most
        self._messages = messages
        self._held: list[tuple[int, int, RowType, pa.Table]] = []
        self._times: list[int] = []  # of the newest messages
        self._added = 0
        self._rows = 0

    def add(self, timestamp_ms: int, row_type: RowType, table: pa.Table) -> None:
        """Add a message, which Kafka got at a time in milliseconds since 1970; it may have no rows."""
        self._added += 1  # so that two messages of the same millisecond can be compared
        (heappushpop if len(self._times) == self._messages else heappush)(self._times, timestamp_ms)
        if not table.num_rows:
            return
        # Also copies the rows, which would otherwise keep the whole message in memory.
        ordered = table.take(pc.sort_indices(table, [("time", "ascending")]))
        heappush(self._held, (timestamp_ms, self._added, row_type, ordered))
        self._rows += table.num_rows
        while self._rows - self._held[0][-1].num_rows >= self._most:
            self._rows -= heappop(self._held)[-1].num_rows

    @property
    def is_certain(self) -> bool:
        """Whether no rows are missing that are newer: all that are held are in the newest messages, or there are no more."""
        if self._added < self._messages:
            return True
        return self._rows >= self._most and self._held[0][0] >= self._times[0]

    def tables(self) -> Iterator[tuple[RowType, pa.Table]]:
        """Yield the newest rows, at most `most`, the oldest message first."""
        surplus = max(0, self._rows - self._most)
        for _, _, row_type, table in sorted(self._held, key=lambda held: held[:2]):
            yield row_type, table.slice(surplus)
            surplus = max(0, surplus - table.num_rows)
