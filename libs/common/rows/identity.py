"""The identity of rows: their positions as arrays, and as text for document ids, key names and message ids.

The identity of a row is its position in its source: (source, generation, offset, index), the position columns of its row type.
As text, its id consists of a 128-bit hash of source and generation, computed once per generation, and the two numbers as they
are:

    5f0c3a8e9d1b4c62a7f4e0d9c8b7a695-40960-17

Rows are not hashed one by one: that would cost as much as the rest of the document, and the numbers are already unique within a
generation. Ids of one generation share a prefix, which keeps id indexes compact. An id has at most 32 + 1 + 19 + 1 + 10
characters of ``[0-9a-f-]``, so it is safe in URLs and in the keys of any store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import xxhash

from libs.common.rows.column_values import combined, integers
from libs.common.rows.combinations import Combinations
from libs.common.rows.row_text import CodedTexts, Ints, Numbers, Pieces, RowText, TextColumn, decimals, numbers
from libs.common.rows.row_type import PositionColumns


@dataclass(frozen=True, slots=True, eq=False)
class RowPositions:
    """The positions of the rows of a table, as arrays.

    Attributes:
        sources: the distinct (source, generation), in the order in which they first appear.
        source: for each row, an index into `sources`.
        offset, index: for each row.
    """

    sources: list[tuple[str, str]]
    source: Ints
    offset: Ints
    index: Ints

    @classmethod
    def of(cls, rows: pa.Table, columns: PositionColumns) -> Self:
        """Read the position columns of a table."""
        source, generation = (_words(rows, name) for name in (columns.source, columns.generation))
        pairs = Combinations.of((integers(source.indices), integers(generation.indices)))
        sources = list(zip(source.take(pairs.row).to_pylist(), generation.take(pairs.row).to_pylist(), strict=True))
        offset, index = (integers(combined(rows, name)) for name in (columns.offset, columns.index))
        return cls(sources, pairs.of_row, offset, index)

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True, slots=True)
class Identities:
    """The identities of the rows of a table, as columns of which text is made."""

    generations: pa.Array  # the distinct generations of sources: 32 hex digits each
    generation: Ints  # for each row: index into `generations`
    offset: Ints
    index: Ints

    @classmethod
    def of(cls, rows: pa.Table, position: PositionColumns) -> Identities:
        """Read the identity of `rows` from its position columns."""
        positions = RowPositions.of(rows, position)
        generations = [xxhash.xxh128_hexdigest("\0".join(source).encode()) for source in positions.sources]
        return cls(pa.array(generations, pa.string()), positions.source, positions.offset, positions.index)

    def text_columns(self) -> list[TextColumn]:
        """Return the rows' ids as text columns, to embed in a longer text per row."""
        all_rows = np.ones(len(self.generation), np.bool_)
        sources = CodedTexts(
            [f"{generation}-" for generation in self.generations.to_pylist()], self.generation.astype(np.uint32)
        )
        return [sources, *numbers("", self.offset, all_rows), "-", *numbers("", self.index, all_rows)]

    def pieces(self) -> Pieces:
        """Return the rows' ids in pieces."""
        columns = [decimals(one.values) if isinstance(one, Numbers) else one for one in self.text_columns()]
        return Pieces(columns, len(self.generation))

    def document_ids(self) -> pa.ChunkedArray:
        """Return the id of each row."""
        return pa.chunked_array(RowText(self.text_columns(), len(self.generation)).slices(), type=pa.string())


def _words(rows: pa.Table, name: str) -> pa.DictionaryArray:
    """Return a column of text as one array with one dictionary."""
    column = combined(rows, name)
    return column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
