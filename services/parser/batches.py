"""Rows of segments as the batches of their partitions: batches end between records, and between the pieces of a record.

So a batch has all rows of a record, or of a piece of it, that can be in one message, and which these are depends on the record
alone: not on the segments and polls that brought it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from libs.common.rows.batches import Encoded, Ends, slices
from services.parser.dictionary_columns import Rows
from services.parser.extraction import TypedRows


def encoded(rows: TypedRows, partitions: Sequence[int], limit: int) -> Iterator[tuple[int, Encoded]]:
    """Encode rows as batches of at most `limit` bytes, each with its partition, given the `partitions` of the segments."""
    segment_ends = np.cumsum(rows.segment_rows)
    is_last = np.append(np.diff(np.asarray(partitions)) != 0, True) | _goes_on(rows, segment_ends)
    ends = _record_ends(rows, segment_ends)
    start = 0
    for segment in np.flatnonzero(is_last).tolist():
        stop = int(segment_ends[segment])
        first, last = np.searchsorted(ends, (start, stop), side="right").tolist()
        batch = rows.batch.slice(start, stop - start)
        for part in slices(rows.row_type, batch, limit, ends[first:last] - start):
            yield partitions[segment], part
        start = stop


def _record_ends(rows: TypedRows, segment_ends: Rows) -> Ends:
    """Return where records end: with their segments, or where the next row has another offset."""
    count = rows.batch.num_rows
    offsets = rows.batch.column(rows.row_type.position.offset).to_numpy()
    is_end = np.zeros(count + 1, np.bool_)
    is_end[1:count] = offsets[1:] != offsets[:-1]
    is_end[segment_ends] = True
    is_end[0] = False
    return np.flatnonzero(is_end)


def _goes_on(rows: TypedRows, segment_ends: Rows) -> npt.NDArray[np.bool_]:
    """Return for each segment whether its last record goes on in the next row: the segment is a piece of it."""
    position, count = rows.row_type.position, rows.batch.num_rows
    goes_on: npt.NDArray[np.bool_] = (segment_ends > 0) & (segment_ends < count)
    for name in (position.offset, position.source, position.generation):
        candidates = np.flatnonzero(goes_on)
        if not len(candidates):
            break
        column, before = rows.batch.column(name), segment_ends[candidates] - 1
        same = [a == b for a, b in zip(*(column.take(at).to_pylist() for at in (before, before + 1)), strict=True)]
        goes_on[candidates] = same
    return goes_on
