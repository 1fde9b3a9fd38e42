"""Rows as encoded batches of a limited size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.row_type import RowType
from libs.common.rows.wire import encode_rows

_SCHEMA_BYTES: Final = 8_192  # of a batch, whatever its rows


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded batch, with its number of rows."""

    rows: int
    data: pa.Buffer


def slices(row_type: RowType, batch: pa.RecordBatch, limit: int) -> Iterator[Encoded]:
    """Encode `batch` as batches of at most `limit` bytes (a single row may be larger); none if it is empty."""
    rows = batch.num_rows
    step = max(1, rows * max(limit - _SCHEMA_BYTES, limit // 2) // max(batch.nbytes, 1))
    for start in range(0, rows, step):
        yield from _halves(row_type, batch.slice(start, step) if step < rows else batch, limit)


def _halves(row_type: RowType, batch: pa.RecordBatch, limit: int) -> Iterator[Encoded]:
    rows = batch.num_rows
    trimmed_batch = pa.RecordBatch.from_arrays([_trimmed(column) for column in batch.columns], schema=batch.schema)
    data = encode_rows(row_type, trimmed_batch)
    if len(data) <= limit or rows == 1:
        yield Encoded(rows, data)
        return
    yield from _halves(row_type, batch.slice(0, rows // 2), limit)
    yield from _halves(row_type, batch.slice(rows // 2), limit)


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
