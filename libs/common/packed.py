"""Very many small rows by key in little memory: 16 bytes of hash and a fixed row each, no Python object.

Rows are sorted by the hash of their keys; what was put lately waits in a dictionary until it is a share of the whole, so that
putting costs a few microseconds on average. Keys cannot be read back. Two keys of one table have the same hash of 128 bits with
a chance of 1 to 10**26 among a million.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import xxhash
from numpy.typing import NDArray

_SHARE: Final = 32
_HASH = np.dtype([("high", "<u8"), ("low", "<u8")])
_NONE: Final = -1

Rows = NDArray[Any]


def digest_of(key: bytes) -> bytes:
    """Return the 16 bytes by which `key` is found."""
    return xxhash.xxh3_128_digest(key)


class PackedTable:
    """Rows of one `dtype` by key. Used from one thread.

    `at_least` so many rows wait before they are merged, at 200 bytes each; fewer where there are thousands of small tables.
    """

    def __init__(self, dtype: np.dtype[Any], at_least: int = 4_096) -> None:
        self._dtype = dtype
        self._at_least = at_least
        self._high = np.empty(0, "<u8")  # of its own, since it is searched
        self._low = np.empty(0, "<u8")
        self._rows: Rows = np.empty(0, dtype)
        self._fresh: dict[bytes, bytes | None] = {}  # by digest; None: removed

    def __len__(self) -> int:
        """Return how many rows there are, not looking at what was put lately for keys that are there."""
        self._merge()
        return len(self._rows)

    @property
    def approximate_length(self) -> int:
        """At least the number of rows; one that was put again lately counts twice."""
        return len(self._rows) + len(self._fresh)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows that do not wait."""
        return int(self._high.nbytes + self._low.nbytes + self._rows.nbytes)

    def put(self, key: bytes, row: bytes) -> None:
        """Put a row, in place of the one that is there."""
        self._fresh[digest_of(key)] = row
        self._merge_if_many()

    def remove(self, key: bytes) -> None:
        """Take a row away, if it is there."""
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
        """Return all rows, which may be written to, and the place of each key among them, -1 where it has none.

        Both are valid until the next `put` or `remove`.
        """
        digests = [digest_of(key) for key in keys]
        if any(digest in self._fresh for digest in digests):
            self._merge()
        return self._rows, self._places(digests)

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        """Take all rows away but those, as `rows` gives them, that are `chosen`."""
        self._high, self._low, self._rows = self._high[chosen], self._low[chosen], self._rows[chosen]

    def digests(self, chosen: NDArray[np.bool_]) -> list[bytes]:
        """Return the digests of the rows, as `rows` gives them, that are `chosen`."""
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
        """Bring what waits into the sorted rows."""
        if not self._fresh:
            return
        old = self._places(self._fresh)
        gone = old[old != _NONE]
        new = {digest: row for digest, row in self._fresh.items() if row is not None}
        self._fresh = {}
        hashes, rows = np.frombuffer(b"".join(new), _HASH), np.frombuffer(b"".join(new.values()), self._dtype)
        order = np.argsort(hashes["high"], kind="stable")
        hashes, rows = hashes[order], rows[order]
        kept = np.delete(self._high, gone) if len(gone) else self._high
        places = np.searchsorted(kept, hashes["high"]) + np.arange(len(hashes))
        # One column after the other: each is there twice for a moment.
        del kept
        self._high = _replaced(self._high, gone, places, hashes["high"])
        self._low = _replaced(self._low, gone, places, hashes["low"])
        self._rows = _replaced(self._rows, gone, places, rows)


def _replaced(column: Rows, gone: NDArray[np.intp], places: NDArray[np.intp], new: Rows) -> Rows:
    """Return `column` without the places `gone`, and with `new` at `places` of the result."""
    if len(gone):
        column = np.delete(column, gone)
    merged = np.empty(len(column) + len(new), column.dtype)
    is_old = np.ones(len(merged), np.bool_)
    is_old[places] = False
    merged[is_old], merged[places] = column, new
    return merged
