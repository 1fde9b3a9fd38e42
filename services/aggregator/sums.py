"""Sums, counts and extremes of groups. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.aggregator.flow_rows import Bools, Ints

_LARGEST: Final = 2**63 - 1


class Groups:
    """Rows in groups that are numbered from 0 in the order of their first rows."""

    def __init__(self, of_row: Ints, count: int) -> None:
        self.of_row = of_row
        self.count = count

    def first_rows(self) -> Ints:
        """Return the first row of each group."""
        return self.smallest(np.arange(len(self.of_row)))

    def smallest(self, values: Ints) -> Ints:
        """Return the smallest value of each group."""
        found = np.full(self.count, _LARGEST, np.int64)
        np.minimum.at(found, self.of_row, values)
        return found

    def largest(self, values: Ints) -> Ints:
        """Return the largest value of each group."""
        found = np.full(self.count, -_LARGEST, np.int64)
        np.maximum.at(found, self.of_row, values)
        return found

    def number_of(self, chosen: Bools) -> pa.Array:
        """Return how many rows of each group are chosen."""
        return pa.array(np.bincount(self.of_row[chosen], minlength=self.count).astype(np.int64))

    def total(self, counters: pa.Array) -> pa.Array:
        """Return the sum of counters, which are not negative; null if all are, the largest number if it does not fit."""
        if counters.null_count == len(counters):
            return pa.nulls(self.count, pa.int64())
        values = pc.fill_null(counters, 0).to_numpy()
        sums = np.zeros(self.count, np.int64)
        np.add.at(sums, self.of_row, values)
        if float(values.max(initial=0)) * len(values) >= _LARGEST:
            about = np.bincount(self.of_row, values.astype(np.float64), self.count)
            sums = np.where((sums < 0) | (about >= _LARGEST), _LARGEST, sums)
        if not counters.null_count:
            return pa.array(sums)
        stated = np.bincount(self.of_row[counters.is_valid().to_numpy(zero_copy_only=False)], minlength=self.count)
        return pa.array(sums, mask=stated == 0)
