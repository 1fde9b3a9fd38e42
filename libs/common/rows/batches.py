"""Rows as encoded batches of a limited size.

A batch ends where a record ends, so that whoever reads it has all rows of a record together. Only a record that is itself
larger than a batch may be is divided: it is then alone in its batches, and where it is divided depends on its rows and the
limit alone, not on what comes before or after it. So the same record always reaches its reader in the same parts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.row_type import RowType
from libs.common.rows.used_words import used_words_only
from libs.common.rows.wire import encode_rows

Ends = npt.NDArray[np.int64]
"""Row counts after which records end, ascending; the last one is the number of rows."""

_SCHEMA_BYTES: Final = 8_192  # of a batch, whatever its rows


def _whatever(_topic: str) -> int:
    return sys.maxsize


@dataclass(frozen=True, slots=True)
class Outlet:
    """Limits of what a service makes of its input: rows and dead letters.

    Attributes:
        errors_topic: topic of dead letters.
        batch_bytes: maximum size of a batch of rows.
        dead_letter_limit: share of dead letters in one stream of input above which the service stops.
        room: returns the current maximum size of a value for a topic.
    """

    errors_topic: str
    batch_bytes: int
    dead_letter_limit: float
    room: Callable[[str], int] = _whatever


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded batch, with its number of rows."""

    rows: int
    data: pa.Buffer


def slices(row_type: RowType, batch: pa.RecordBatch, limit: int, ends: Ends | None = None) -> Iterator[Encoded]:
    """Encode `batch` as batches of at most `limit` bytes (a single row may be larger); none if it is empty.

    Without `ends`, each row counts as a record.
    """
    rows = batch.num_rows
    ends = np.arange(1, rows + 1) if ends is None else ends
    step = max(1, rows * max(limit - _SCHEMA_BYTES, limit // 2) // max(batch.nbytes, 1))
    start = 0
    while start < rows:
        stop = rows if rows - start <= step else _end_near(ends, start, start + step)
        some = batch.slice(start, stop - start) if stop - start < rows else batch
        yield from _halves(row_type, some, limit, _between(ends, start, stop))
        start = stop


def _end_near(ends: Ends, start: int, wanted: int) -> int:
    """Return the last end up to `wanted`; if the record at `start` ends later, its end."""
    last = int(np.searchsorted(ends, wanted, side="right")) - 1
    return int(ends[max(last, int(np.searchsorted(ends, start, side="right")))])


def _between(ends: Ends, start: int, stop: int) -> Ends:
    first, last = np.searchsorted(ends, (start, stop), side="right").tolist()
    return ends[first:last] - start


def _halves(row_type: RowType, batch: pa.RecordBatch, limit: int, ends: Ends) -> Iterator[Encoded]:
    """Encode whole records, in halves of about as many rows while they are too large."""
    if len(ends) == 1:
        yield from _record(row_type, batch, limit)
        return
    trimmed = pa.RecordBatch.from_arrays([_trimmed(column) for column in batch.columns], schema=batch.schema)
    data = encode_rows(row_type, trimmed)
    rows = batch.num_rows
    if len(data) <= limit:
        yield Encoded(rows, data)
        return
    middle = int(ends[min(int(np.searchsorted(ends, rows // 2)), len(ends) - 2)])
    for start, stop in ((0, middle), (middle, rows)):
        yield from _halves(row_type, batch.slice(start, stop - start), limit, _between(ends, start, stop))


def _record(row_type: RowType, batch: pa.RecordBatch, limit: int) -> Iterator[Encoded]:
    """Encode one record, in halves while it is too large; its size must not depend on words of other records."""
    rows = batch.num_rows
    (alone,) = used_words_only(pa.Table.from_batches([batch])).to_batches()
    data = encode_rows(row_type, alone)
    if len(data) <= limit or rows == 1:
        yield Encoded(rows, data)
        return
    yield from _record(row_type, alone.slice(0, rows // 2), limit)
    yield from _record(row_type, alone.slice(rows // 2), limit)


def _trimmed(column: pa.Array) -> pa.Array:
    """Return a slice of a dictionary column with only the range of the dictionary that it uses."""
    if not pa.types.is_dictionary(column.type) or not len(column.dictionary):
        return column
    if column.null_count == len(column):
        return pa.nulls(len(column), column.type)
    if len(column.dictionary) == 1:
        return column
    indices = column.indices.drop_null().to_numpy()
    low, high = int(indices.min()), int(indices.max())
    if high - low + 1 == len(column.dictionary):
        return column
    shifted = pc.subtract(column.indices, pa.scalar(low, pa.int32()))
    return pa.DictionaryArray.from_arrays(shifted, column.dictionary.slice(low, high - low + 1))
