"""A table of many small rows by key in little memory: 16 bytes of hash and a fixed-size row each, without Python objects.

Rows are sorted by the hash of their keys; recent rows wait in a dictionary until they are a certain share of the whole, so that
`put` costs a few microseconds on average. Rows that are there already are replaced in place. Keys cannot be read back. Among a
million keys, the probability that any two have the same 128-bit hash is 1 in 10**26.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import xxhash
from numpy.typing import NDArray

_SHARE: Final = 32
_HASH = np.dtype([("high", "<u8"), ("low", "<u8")])
_NONE: Final = -1

Rows = NDArray[Any]


def digest_of(key: bytes) -> bytes:
    """Return the 16-byte hash by which `key` is found."""
    return xxhash.xxh3_128_digest(key)


class PackedTable:
    """Rows of one `dtype`, by key. Not thread-safe.

    At least `at_least` rows, at 200 bytes each, accumulate before they are merged; use fewer if there are thousands of tables.
    """

    def __init__(self, dtype: np.dtype[Any], at_least: int = 4_096) -> None:
        self._dtype = dtype
        self._at_least = at_least
        self._high = np.empty(0, "<u8")  # a separate array, because it is searched
        self._low = np.empty(0, "<u8")
        self._rows: Rows = np.empty(0, dtype)
        self._fresh: dict[bytes, bytes | None] = {}  # by digest; None: removed

    def __len__(self) -> int:
        """Return the exact number of rows, after merging recent ones."""
        self._merge()
        return len(self._rows)

    @property
    def approximate_length(self) -> int:
        """An upper bound on the number of rows: recently replaced ones count twice."""
        return len(self._rows) + len(self._fresh)

    @property
    def nbytes(self) -> int:
        """Bytes of the merged rows."""
        return int(self._high.nbytes + self._low.nbytes + self._rows.nbytes)

    def put(self, key: bytes, row: bytes) -> None:
        """Add or replace a row."""
        self._fresh[digest_of(key)] = row
        self._merge_if_many()

    def remove(self, key: bytes) -> None:
        """Remove a row, if it exists."""
        self._fresh[digest_of(key)] = None
        self._merge_if_many()

    def get(self, key: bytes) -> bytes | None:
        """Return a row."""
        digest = digest_of(key)
        if digest in self._fresh:
            return self._fresh[digest]
        (place,) = self._places([digest])
        return None if place == _NONE else self._rows[place].tobytes()

    def find(self, keys: Sequence[bytes]) -> tuple[Rows, NDArray[np.intp]]:
        """Return all rows, which are writable, and the index of each key among them, or -1 if it is missing.

        Both are valid until the next `put` or `remove`.
        """
        digests = [digest_of(key) for key in keys]
        if any(digest in self._fresh for digest in digests):
            self._merge()
        return self._rows, self._places(digests)

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        """Remove all rows except the `chosen` ones, in the order of `rows`."""
        self._high, self._low, self._rows = self._high[chosen], self._low[chosen], self._rows[chosen]

    def digests(self, chosen: NDArray[np.bool_]) -> list[bytes]:
        """Return the digests of the `chosen` rows, in the order of `rows`."""
        found = np.empty(int(chosen.sum()), _HASH)
        found["high"], found["low"] = self._high[chosen], self._low[chosen]
        return [one.tobytes() for one in found]

    def rows(self) -> Rows:
        """Return all rows; valid until the next `put` or `remove`."""
        self._merge()
        return self._rows

    def _places(self, digests: Iterable[bytes]) -> NDArray[np.intp]:
        wanted = np.frombuffer(b"".join(digests), _HASH)
        if not len(self._high):
            return np.full(len(wanted), _NONE, np.intp)
        places = np.searchsorted(self._high, wanted["high"])
        places[places == len(self._high)] = 0
        is_there = (self._high[places] == wanted["high"]) & (self._low[places] == wanted["low"])
        return np.where(is_there, places, _NONE)

    def _merge_if_many(self) -> None:
        if len(self._fresh) >= max(self._at_least, len(self._rows) // _SHARE):
            self._merge()

    def _merge(self) -> None:
        """Merge recent rows into the sorted ones."""
        if not self._fresh:
            return
        places = self._places(self._fresh)
        gone = self._replace(places)
        new = {
            digest: row
            for (digest, row), place in zip(self._fresh.items(), places.tolist(), strict=True)
            if place == _NONE and row is not None
        }
        self._fresh = {}
        if len(gone) or new:
            self._insert(gone, new)

    def _replace(self, places: NDArray[np.intp]) -> NDArray[np.intp]:
        """Overwrite rows that exist already, in place, by recent ones; return the indexes of those that are removed."""
        rows = self._fresh.values()
        is_there = places != _NONE
        is_kept = np.fromiter((row is not None for row in rows), np.bool_, len(places))
        kept = [row for row, chosen in zip(rows, (is_there & is_kept).tolist(), strict=True) if chosen and row is not None]
        self._rows[places[is_there & is_kept]] = np.frombuffer(b"".join(kept), self._dtype)
        gone: NDArray[np.intp] = places[is_there & ~is_kept]
        return gone

    def _insert(self, gone: NDArray[np.intp], new: Mapping[bytes, bytes]) -> None:
        """Remove the rows at the indexes `gone`, and add `new` ones by their digests."""
        hashes, rows = np.frombuffer(b"".join(new), _HASH), np.frombuffer(b"".join(new.values()), self._dtype)
        order = np.argsort(hashes["high"], kind="stable")
        hashes, rows = hashes[order], rows[order]
        kept = np.delete(self._high, gone) if len(gone) else self._high
        places = np.searchsorted(kept, hashes["high"]) + np.arange(len(hashes))
        # One column at a time, because each exists twice for a moment.
        del kept
        self._high = _replaced(self._high, gone, places, hashes["high"])
        self._low = _replaced(self._low, gone, places, hashes["low"])
        self._rows = _replaced(self._rows, gone, places, rows)


def _replaced(column: Rows, gone: NDArray[np.intp], places: NDArray[np.intp], new: Rows) -> Rows:
    """Return `column` without the indexes `gone`, and with `new` at the indexes `places` of the result."""
    if len(gone):
        column = np.delete(column, gone)
    merged = np.empty(len(column) + len(new), column.dtype)
    is_old = np.ones(len(merged), np.bool_)
    is_old[places] = False
    merged[is_old], merged[places] = column, new
    return merged
