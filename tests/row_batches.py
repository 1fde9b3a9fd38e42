"""Hypothesis strategies for rows of any row type."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from libs.common.rows.row_type import Column, RowType

_WORDS = st.sampled_from(["", "allow", "x\0y", 'quoted "word"', "zwei\nZeilen", "ä€😀", "Errors/3"])
_TEXT = st.text(max_size=12)
_LAST_MS = 253_402_300_799_999


def values_of(column: Column) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a column, as Python values."""
    kind = column.type
    values: st.SearchStrategy[Any]
    if pa.types.is_dictionary(kind):
        values = _WORDS
    elif pa.types.is_string(kind):
        values = _TEXT
    elif pa.types.is_timestamp(kind):
        # In nanoseconds whole microseconds, since Python's times have no more digits.
        values = st.integers(0, _LAST_MS) if kind.unit == "ms" else st.integers(0, 2**52).map(lambda us: us * 1_000)
    elif pa.types.is_integer(kind):
        bits = kind.bit_width
        values = (
            st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
            if pa.types.is_signed_integer(kind)
            else st.integers(0, 2**bits - 1)
        )
    elif pa.types.is_floating(kind):
        values = st.floats(0, 2**40)
    else:
        raise TypeError(f"no strategy for {kind}")
    return st.none() | values if column.nullable else values


def batches(row_type: RowType, max_rows: int = 20) -> st.SearchStrategy[pa.RecordBatch]:
    """Return a strategy for batches of that row type."""
    row = st.fixed_dictionaries({column.name: values_of(column) for column in row_type.columns})
    return st.lists(row, max_size=max_rows).map(lambda rows: pa.RecordBatch.from_pylist(rows, schema=row_type.schema))
