"""Dictionary-encoded columns of repeating strings, without a Python object per row. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.row_type import WORD

Rows = npt.NDArray[np.int64]


def recoded(column: pa.DictionaryArray, codes: Mapping[str, str]) -> pa.DictionaryArray:
    """Return `column` with codes replaced by their words; other values are kept, empty strings become null."""
    return mapped(column, [codes.get(value, value) or None for value in column.dictionary.to_pylist()])


def mapped(column: pa.DictionaryArray, targets: Sequence[str | None]) -> pa.DictionaryArray:
    """Return `column` with the i-th value of its dictionary replaced by ``targets[i]``; equal targets become one value."""
    words = {target: None for target in targets if target is not None}
    numbers = {word: number for number, word in enumerate(words)}
    renumbered = [numbers.get(target) if target is not None else None for target in targets]
    indices = column.indices
    if renumbered != list(range(len(targets))):
        indices = pc.take(pa.array(renumbered, pa.int32()), indices, boundscheck=False)
    return _words(indices, pa.array(list(words), pa.string()))


def spread(values: pa.Array, rows: Rows) -> pa.Array:
    """Return a dictionary column with the string ``values[rows[i]]`` in row i."""
    if values.null_count == len(values):
        return pa.nulls(len(rows), WORD)
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    if encoded.null_count:
        return _words(encoded.indices.take(pa.array(rows)), encoded.dictionary)
    if len(encoded.dictionary) == 1:
        return _words(pa.array(np.zeros(len(rows), np.int32)), encoded.dictionary)
    return _words(pa.array(encoded.indices.to_numpy()[rows]), encoded.dictionary)


def spread_words(values: Sequence[str | None], rows: Rows) -> pa.Array:
    """Return a dictionary column with ``values[rows[i]]`` in row i, for values that are few."""
    words = dict.fromkeys(value for value in values if value is not None)
    if not words:
        return pa.nulls(len(rows), WORD)
    numbers = {word: number for number, word in enumerate(words)}
    dictionary = pa.array(list(words), pa.string())
    if None in values:
        indices = pa.array([numbers[value] if value is not None else None for value in values], pa.int32())
        return _words(indices.take(pa.array(rows)), dictionary)
    if len(words) == 1:
        return _words(pa.array(np.zeros(len(rows), np.int32)), dictionary)
    return _words(pa.array(np.array([numbers[value] for value in values if value is not None], np.int32)[rows]), dictionary)


def _words(indices: pa.Array, dictionary: pa.Array) -> pa.DictionaryArray:
    # Indices taken from a dictionary need no bounds check, which would cost as much as creating them.
    return pa.DictionaryArray.from_arrays(indices, dictionary, safe=False)
