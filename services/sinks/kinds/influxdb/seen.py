"""How far this process has written each source: only to count which rows were written before.

A server does not say whether a point was there. Rows at or below the highest position that this process has written of their
source, and not below the lowest, are taken for written before; they are written again all the same, which changes nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import numpy as np

from libs.common.rows.identity import Identities

MOST_SOURCES: Final = 50_000
"""Sources remembered; the one that was written longest ago is forgotten first."""

_INDEX_BITS: Final = 21  # an index beyond that counts as the largest
_LARGEST_INDEX: Final = 2**_INDEX_BITS - 1
_LARGEST_OFFSET: Final = 2 ** (63 - _INDEX_BITS) - 1


class WrittenBefore:
    """What has been written, by source."""

    def __init__(self, most: int = MOST_SOURCES) -> None:
        self._most = most
        self._written: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def count(self, rows: Identities) -> int:
        """Return how many of the rows have been written before, and remember all of them."""
        if not len(rows.generation):
            return 0
        names = rows.generations.to_pylist()
        known = [self._written.get(name, (1, 0)) for name in names]
        lowest, highest = np.array(known, np.int64).T
        place = (np.minimum(rows.offset, _LARGEST_OFFSET) << _INDEX_BITS) + np.minimum(rows.index, _LARGEST_INDEX)
        before = (place >= lowest[rows.generation]) & (place <= highest[rows.generation])
        least, most = np.full(len(names), np.iinfo(np.int64).max), np.full(len(names), -1, np.int64)
        np.minimum.at(least, rows.generation, place)
        np.maximum.at(most, rows.generation, place)
        for name, old, low, high in zip(names, known, least.tolist(), most.tolist(), strict=True):
            is_new = old == (1, 0)
            self._written[name] = (low, high) if is_new else (min(low, old[0]), max(high, old[1]))
            self._written.move_to_end(name)
        while len(self._written) > self._most:
            self._written.popitem(last=False)
        return int(before.sum())

    def forget(self) -> None:
        """Forget everything: other processes may write these sources now."""
        self._written.clear()
