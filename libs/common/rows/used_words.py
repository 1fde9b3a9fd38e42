"""Columns of repeating text cut down to the words that their rows use.

Rows that were taken out of a larger table still carry the words of all of it. Files would store them all: they would be larger,
and would hold names of things that none of their rows is about.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def used_words_only(rows: pa.Table) -> pa.Table:
    """Return `rows` with dictionaries that hold only words in use, in the order they stood in."""
    for at, field in enumerate(rows.schema):
        if pa.types.is_dictionary(field.type):
            column = rows.column(at)
            chunks = [_used(chunk) for chunk in column.chunks]
            rows = rows.set_column(at, field, pa.chunked_array(chunks, field.type))
    return rows


def _used(column: pa.DictionaryArray) -> pa.DictionaryArray:
    used = np.zeros(len(column.dictionary), np.bool_)
    used[column.indices.drop_null().to_numpy()] = True
    if used.all():
        return column
    renumbered = pa.array(np.cumsum(used) - 1).cast(column.type.index_type)
    words = column.dictionary.filter(pa.array(used))
    return pa.DictionaryArray.from_arrays(pc.take(renumbered, column.indices), words, ordered=column.type.ordered)
