"""Distinct peers of groups, as hashes that can be merged anywhere: the smallest ones of each group (a KMV sketch). Pure.

The hashes of a union are the smallest of all; if they are fewer than `MOST_PEERS`, their number is that of the peers, apart
from two with the same hash. Hashes must not change between versions; a test pins some of them.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

from libs.common.rows.sampling import mixed
from libs.common.rows.types.rollups import MOST_PEERS, PEER_DIGITS
from services.aggregator.flow_rows import Coded, Ints

_Bytes: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"

_WORD: Final = 8  # bytes that are hashed at once
_HASH_BITS: Final = np.uint64(32)
_DIGITS: Final[_Bytes] = np.array([list(f"{byte:02x}".encode()) for byte in range(256)], np.uint8)


def address_hashes(addresses: pa.Array) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Return 32 bits for each address, a string that is not null, without a Python object per address."""
    _, offsets_buffer, data = addresses.buffers()
    count = len(addresses)
    offsets = np.frombuffer(offsets_buffer, np.int32)[addresses.offset : addresses.offset + count + 1]
    text = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]] if data is not None else np.zeros(0, np.uint8)
    lengths = np.diff(offsets)
    words = -(-int(lengths.max(initial=0)) // _WORD)
    padded = np.zeros((count, words * _WORD), np.uint8)
    row = np.repeat(np.arange(count), lengths)
    padded[row, np.arange(len(text)) - (offsets[:-1] - offsets[0])[row]] = text
    hashes = lengths.astype(np.uint64)
    for number, word in enumerate(padded.view("<u8").T):
        hashes = np.where(lengths > number * _WORD, mixed(hashes + word), hashes)
    return hashes >> _HASH_BITS


def sketches(remote: Coded, groups: Ints, count: int) -> pa.Array:
    """Return the hashes of the distinct remote addresses of each group as text; null for a group without any."""
    known = remote.codes >= 0
    hashes = address_hashes(remote.values)[remote.codes[known]]
    distinct = np.unique((groups[known].astype(np.uint64) << _HASH_BITS) | hashes)
    group = (distinct >> _HASH_BITS).astype(np.int64)
    counts = np.bincount(group, minlength=count)
    rank = np.arange(len(distinct)) - (np.cumsum(counts) - counts)[group]
    smallest = distinct[rank < MOST_PEERS].astype(">u4")  # the lower half
    text = _DIGITS[smallest.view(np.uint8)]
    ends = np.cumsum(np.minimum(counts, MOST_PEERS)) * PEER_DIGITS
    offsets = np.concatenate(([0], ends)).astype(np.int32)
    validity = np.packbits(counts > 0, bitorder="little")
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(text.tobytes()), pa.py_buffer(validity))
