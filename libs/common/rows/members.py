"""Which values of a column are in a list of constants: one lookup per value or distinct word, however long the list is.

The engine of conditions compares a value with one constant after another, which takes about ten nanoseconds for each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """A set of texts or integers, in the type of the column's values."""

    values: pa.Array

    @classmethod
    def of_texts(cls, texts: Iterable[str], kind: pa.DataType) -> Self:
        """Return a set for a column of text, or of words."""
        return cls(pa.array(texts, kind.value_type if pa.types.is_dictionary(kind) else kind))

    @classmethod
    def of_integers(cls, numbers: Iterable[int], kind: pa.DataType) -> Self:
        """Return a set for a column of integers; numbers outside the range of `kind` are in no column of it."""
        bounds = np.iinfo(kind.to_pandas_dtype())
        return cls(pa.array([number for number in numbers if bounds.min <= number <= bounds.max], kind))

    def contain(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return for each row whether its value is in the set; null for null."""
        return pa.chunked_array(map(self._contain, column.chunks), pa.bool_())

    def _contain(self, values: pa.Array) -> pa.BooleanArray:
        if pa.types.is_dictionary(values.type):
            return self._contain(values.dictionary).take(values.indices)
        found = pc.is_in(values, value_set=self.values)
        return pc.if_else(pc.is_valid(values), found, None) if values.null_count else found
