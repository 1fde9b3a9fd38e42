"""Sampling by position: the same rows are chosen whenever they arrive and however they are batched.

The position of each row is hashed to a number below 2**64, and the row is kept if that number is below the given share of
2**64. A replay therefore keeps the same rows, and the rows of a smaller share are a subset of those of a larger one, even
across instances. The hashes must not change between versions; a test pins some of them.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import xxhash

from libs.common.rows.row_type import PositionColumns

_Hashes: TypeAlias = "np.ndarray[Any, np.dtype[np.uint64]]"
_Bools: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"

_ALL: Final = 1 << 64
SAMPLE_WEIGHT: Final = "sample_weight"
"""The column of sampled rows that says how many rows each represents (float64)."""

SMALLEST_SHARE: Final = 1 / _ALL
"""A smaller share selects no rows."""

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)


def sampled(rows: pa.Table, position: PositionColumns, share: float) -> _Bools:
    """Return for each row whether it belongs to the sample of about `share` of all rows (at least 0 and less than 1)."""
    below: _Bools = position_hashes(rows, position) < np.uint64(int(share * _ALL))
    return below


def position_hashes(rows: pa.Table, position: PositionColumns) -> _Hashes:
    """Return a hash of each row's position; only distinct texts are hashed."""
    hashes = np.zeros(rows.num_rows, np.uint64)
    for name in (position.source, position.generation):
        hashes = mixed(hashes + _text_hashes(rows.column(name)))
    for name in (position.offset, position.index):
        hashes = mixed(hashes + rows.column(name).to_numpy().astype(np.uint64))
    return hashes


def _text_hashes(column: pa.ChunkedArray) -> _Hashes:
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    words = encoded.unify_dictionaries().combine_chunks()
    hashes = np.array([xxhash.xxh3_64_intdigest((text or "").encode()) for text in words.dictionary.to_pylist()], np.uint64)
    by_row: _Hashes = hashes[words.indices.to_numpy()]
    return by_row


def mixed(hashes: _Hashes) -> _Hashes:
    """Spread every bit over all others: the finalizer of SplitMix64."""
    hashes = hashes + _GOLDEN
    hashes = (hashes ^ (hashes >> np.uint64(30))) * _MIX_1
    hashes = (hashes ^ (hashes >> np.uint64(27))) * _MIX_2
    return hashes ^ (hashes >> np.uint64(31))
