"""Columns of documents that are made from dictionary values, once per value and never once per row. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.row_type import WORD

# Made once: pyarrow looks for an optional module each time it makes a scalar, which costs as much as a column of a small batch.
_NO_WORD: Final = pa.scalar(None, WORD.index_type)


def constant(value: Any, rows: int, kind: pa.DataType = WORD.value_type) -> pa.Array:
    """Return a column with the same value in every row."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value], kind))


def mapped(column: pa.Array, function: Callable[[Any], Any], kind: pa.DataType = WORD.value_type) -> pa.Array:
    """Apply a function to each dictionary value; nulls stay null."""
    values = [function(value) for value in column.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(column.indices, pa.array(values, kind))


def mapped_pairs(
    pair: tuple[pa.Array, pa.Array], function: Callable[[Any, Any], Any], kind: pa.DataType = WORD.value_type
) -> pa.Array:
    """Apply a function to each pair of dictionary values of two columns; null counts as a value."""
    words = [[*column.dictionary.to_pylist(), None] for column in pair]
    first, second = (column.indices.fill_null(len(column.dictionary)) for column in pair)
    values = [function(one, other) for one in words[0] for other in words[1]]
    indices = pc.add(pc.multiply(first, pa.scalar(len(words[1]), first.type)), second)
    return pa.DictionaryArray.from_arrays(indices, pa.array(values, kind))


def where(column: pa.Array, other: pa.Array, value: str) -> pa.Array:
    """Keep the words of a column in rows in which another column has the given value."""
    code = other.dictionary.index(value).as_py()
    indices = pc.if_else(pc.equal(other.indices, code), column.indices, _NO_WORD)
    return pa.DictionaryArray.from_arrays(indices, column.dictionary)
