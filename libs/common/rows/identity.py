"""The identity of rows as text: document ids, key names, message ids.

The identity of a row is its position in its source: (source, generation, offset, index), the position columns of its row type.
Its id consists of a 128-bit hash of source and generation, computed once per generation, and the two numbers as they are:

    5f0c3a8e9d1b4c62a7f4e0d9c8b7a695-40960-17

Rows are not hashed one by one: that would cost as much as the rest of the document, and the numbers are already unique within a
generation. Ids of one generation share a prefix, which keeps id indexes compact. An id has at most 32 + 1 + 19 + 1 + 10
characters of ``[0-9a-f-]``, so it is safe in URLs and in the keys of any store.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xxhash

from libs.common.rows.combinations import Combinations
from libs.common.rows.row_text import CodedTexts, Ints, RowText, TextColumn, numbers
from libs.common.rows.row_type import PositionColumns


@dataclass(frozen=True, slots=True)
class Identities:
    """The identities of the rows of a table, as columns."""

    generations: pa.Array  # the distinct generations of sources: 32 hex digits each
    generation: Ints  # for each row: index into `generations`
    offset: Ints
    index: Ints

    @classmethod
    def of(cls, rows: pa.Table, position: PositionColumns) -> Identities:
        """Read the identity of `rows` from its position columns."""
        source, names = (_words(rows, name) for name in (position.source, position.generation))
        pairs = Combinations.of((_integers(source.indices), _integers(names.indices)))
        distinct = zip(source.take(pairs.row).to_pylist(), names.take(pairs.row).to_pylist(), strict=True)
        return cls(
            generations=pa.array([xxhash.xxh128_hexdigest(f"{of}\0{name}".encode()) for of, name in distinct], pa.string()),
            generation=pairs.of_row,
            offset=_integers(_combined(rows, position.offset)),
            index=_integers(_combined(rows, position.index)),
        )

    def text_columns(self) -> list[TextColumn]:
        """Return the rows' ids as text columns, to embed in a longer text per row."""
        all_rows = np.ones(len(self.generation), np.bool_)
        sources = CodedTexts(
            [f"{generation}-" for generation in self.generations.to_pylist()], self.generation.astype(np.uint32)
        )
        return [sources, *numbers("", self.offset, all_rows), "-", *numbers("", self.index, all_rows)]

    def document_ids(self) -> pa.ChunkedArray:
        """Return the id of each row."""
        return pa.chunked_array(RowText(self.text_columns(), len(self.generation)).slices(), type=pa.string())


def _words(rows: pa.Table, name: str) -> pa.DictionaryArray:
    """Return a column of text as one array with one dictionary."""
    column = _combined(rows, name)
    return column if pa.types.is_dictionary(column.type) else column.dictionary_encode()


def _combined(rows: pa.Table, name: str) -> pa.Array:
    """Return a column as one array, with one dictionary if it has dictionaries."""
    return rows.column(name).unify_dictionaries().combine_chunks()


def _integers(values: pa.Array) -> Ints:
    integers: Ints = values.to_numpy().astype(np.int64)
    return integers
