"""Write new rows to a table, in inserts that end where messages end, and without the rows that the server refuses.

Three safety nets prevent duplicates, each behind the previous one:

1. `presence`: rows that the table contains are not inserted again.
2. Tokens: an insert is a run of complete messages, and its token is made from the positions of its rows. Batches begin where
   the last committed one ended, so a repeated insert has the same token, except for the last one of a batch that ends
   elsewhere. The server drops an insert with a known token, even if the first insert is still in progress.
3. Merges: duplicates that slip through both, such as rows of two processes that both believe they own a shard, become one row
   when parts are merged, since the position is part of the sorting key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.row_text import Ints
from services.sinks.frame.table import TableOutcome, UnfitRow
from services.sinks.frame.times import outside
from services.sinks.kinds.clickhouse.client import ClickHouse, InsertRefused
from services.sinks.kinds.clickhouse.places import RowPlaces
from services.sinks.kinds.clickhouse.presence import Presence

MOST_REFUSED: Final = 100
"""How many rows of a batch the server may refuse: finding each takes about twenty requests and leaves as many small parts."""

# The range of DateTime64 in seconds: 1900 to 2299; for nanoseconds, as far as 64 bits reach.
_FIRST: Final = -2_208_988_800
_END: Final = 10_413_792_000


@dataclass(frozen=True, slots=True)
class TableBatch:
    """Rows of one shard.

    Attributes:
        shard: the shard of the rows.
        places: the position of each row in its source.
        times: of each row, for the table's partitions.
        values: the values to write; columns have the table's names.
        ends: where messages end.
    """

    shard: int
    places: RowPlaces
    times: pa.ChunkedArray
    values: pa.Table
    ends: Sequence[int]


class TableWriter:
    """Writes to one table. `beat` is called after each request."""

    def __init__(self, client: ClickHouse, table: str, presence: Presence, insert_rows: int) -> None:
        self._client = client
        self._table = table
        self._presence = presence
        self._insert_rows = insert_rows
        self.beat: Callable[[], None] = lambda: None

    def write(self, batch: TableBatch) -> TableOutcome:
        """Write the rows that the table does not contain yet.

        Raises:
            Retry: if the server does not respond or cannot do it now; some rows may have been stored.
            ConfigError: if it will not do it until something is reconfigured.
        """
        try:
            return self._write(batch)
        except BaseException:  # the result of the last insert is unknown, so the table must be queried
            self._presence.forget({batch.shard})
            raise

    def _write(self, batch: TableBatch) -> TableOutcome:
        refused = untimely(batch.values)
        batch = replace(batch, times=_timely(batch.times, refused)) if refused else batch
        absent = self._presence.absent(batch.shard, batch.places, batch.times)
        self.beat()
        if refused:
            absent = np.setdiff1d(absent, [bad.row for bad in refused], assume_unique=True)
        written = 0
        for rows in cut(batch.ends, absent, self._insert_rows):
            bad = self._insert(batch, rows, MOST_REFUSED - len(refused))
            refused += bad
            written += len(rows) - len(bad)
        self._presence.wrote(batch.shard, batch.places)
        return TableOutcome(written, len(batch.places) - written - len(refused), sorted(refused, key=lambda bad: bad.row))

    def _insert(self, batch: TableBatch, rows: Ints, most_refused: int) -> list[UnfitRow]:
        """Insert rows; if the server refuses some, find them by halving."""
        refused: list[UnfitRow] = []
        left = [rows]
        while left:
            some = left.pop()
            try:
                values = _taken(batch.values, some)
                self._client.insert(self._table, values, batch.places.token(some, "\0".join(values.column_names)))
            except InsertRefused as error:
                if len(refused) >= most_refused:
                    raise error.error.exception() from error
                # A view may have refused rows that the table has accepted.
                some = self._presence.missing(batch.places, some, batch.times)
                if len(some) == 1:
                    refused.append(UnfitRow(int(some[0]), *error.error.refusal))
                elif len(some):
                    left += [some[len(some) // 2 :], some[: len(some) // 2]]
            self.beat()
        return refused


def _taken(values: pa.Table, rows: Ints) -> pa.Table:
    """Return some rows of a table (at least one), without copying if they are consecutive."""
    first, last = int(rows[0]), int(rows[-1])
    together = last - first + 1 == len(rows)
    return values.slice(first, len(rows)) if together else values.take(pa.array(rows))


def cut(ends: Sequence[int], rows: Ints, most: int) -> Iterator[Ints]:
    """Divide ascending row numbers where messages end, into runs of complete messages with up to `most` rows.

    The divisions depend only on the messages, not on which of their rows are given. A message larger than `most` is divided
    after every `most` rows.
    """
    start = 0
    for end in _boundaries(ends, most):
        inside = rows[np.searchsorted(rows, start) : np.searchsorted(rows, end)]
        if len(inside):
            yield inside
        start = end


def _boundaries(ends: Sequence[int], most: int) -> Iterator[int]:
    start = 0
    for number, end in enumerate(ends):
        while end - start > most:
            start += most
            yield start
        if end - start == most or number == len(ends) - 1 or ends[number + 1] - start > most:
            yield end
            start = end


def _timely(times: pa.ChunkedArray, refused: Sequence[UnfitRow]) -> pa.ChunkedArray:
    """Return `times` with one in range for rows that are refused: a query for others would compute beyond it."""
    is_refused = np.zeros(len(times), np.bool_)
    is_refused[[bad.row for bad in refused]] = True
    first = pc.min(times.filter(pa.array(~is_refused)))
    return pc.if_else(pa.array(is_refused), first if first.is_valid else pa.scalar(0, times.type), times)


def untimely(values: pa.Table) -> list[UnfitRow]:
    """Return the rows with a time outside the range of the table's types, which would be clamped to their first or last."""
    reason = "the time in column {} is outside the years that clickhouse has (1900 to 2299)"
    return [UnfitRow(row, ErrorCode.REFUSED, reason.format(name)) for row, name in outside(values, _FIRST, _END).items()]
