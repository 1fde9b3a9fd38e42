"""Reduce dictionary columns to the words that their rows use.

Rows taken from a larger table still carry all of its words. Files would store them all, which would make them larger and put
names into them that none of their rows refers to.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def used_words_only(rows: pa.Table) -> pa.Table:
    """Return `rows` with dictionaries that hold only the words in use, in their original order."""
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
