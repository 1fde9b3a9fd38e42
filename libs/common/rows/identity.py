"""The identity of rows as text: document ids, key names, message ids.

A row stands at (blob, generation, record_offset, tuple_index), and that is its identity. Its id is a 128-bit hash of the blob
generation, computed once a generation, and the two numbers as they are:

    5f0c3a8e9d1b4c62a7f4e0d9c8b7a695-40960-17

No hash a row: it would cost as much as the rest of the document, and the numbers are already unique within a generation. Ids of
one generation share their beginning, which keeps id indexes compact. An id has at most 32 + 1 + 19 + 1 + 10 characters of
``[0-9a-f-]``, so it may stand in URLs and in any store's key.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xxhash

from libs.common.rows.row_text import Ints, Piece, RowText, Words, numbers


@dataclass(frozen=True, slots=True)
class Identities:
    """The identities of the rows of a table, in columns."""

    generations: pa.Array  # the distinct blob generations: 32 hex digits each
    generation: Ints  # by row: index into `generations`
    record_offset: Ints
    tuple_index: Ints

    @classmethod
    def of(cls, flows: pa.Table) -> Identities:
        """Read the identity columns of a table of the flow schema."""
        blob, names = (_combined(flows, name) for name in ("blob", "generation"))
        width = max(len(names.dictionary), 1)
        pairs = pa.array(_integers(blob.indices) * width + _integers(names.indices)).dictionary_encode()
        of_blob, of_name = map(pa.array, np.divmod(pairs.dictionary.to_numpy(), width))
        distinct = zip(blob.dictionary.take(of_blob).to_pylist(), names.dictionary.take(of_name).to_pylist(), strict=True)
        return cls(
            generations=pa.array([xxhash.xxh128_hexdigest(f"{blob}\0{name}".encode()) for blob, name in distinct], pa.string()),
            generation=_integers(pairs.indices),
            record_offset=_integers(_combined(flows, "record_offset")),
            tuple_index=_integers(_combined(flows, "tuple_index")),
        )

    def pieces(self) -> list[Piece]:
        """Return the pieces of the rows' ids, to be put into a longer text a row."""
        all_rows = np.ones(len(self.generation), np.bool_)
        sources = Words([f"{generation}-" for generation in self.generations.to_pylist()], self.generation.astype(np.uint32))
        return [sources, *numbers("", self.record_offset, all_rows), "-", *numbers("", self.tuple_index, all_rows)]

    def document_ids(self) -> pa.ChunkedArray:
        """Return the id of each row."""
        return pa.chunked_array(RowText(self.pieces(), len(self.generation)).slices(), type=pa.string())


def _combined(flows: pa.Table, name: str) -> pa.Array:
    """Return a column as one array, with one dictionary if it has dictionaries."""
    return flows.column(name).unify_dictionaries().combine_chunks()


def _integers(values: pa.Array) -> Ints:
    integers: Ints = values.to_numpy().astype(np.int64)
    return integers
