"""The positions of a batch's rows, compared with what a table contains: they identify the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xxhash

from libs.common.rows.identity import RowPositions
from libs.common.rows.row_text import Bools, Ints

Source = tuple[str, str]  # source and generation


@dataclass(frozen=True, slots=True, eq=False)
class RowPlaces(RowPositions):
    """Positions that can be compared with those in a table."""

    def first_times(self) -> Bools:
        """Return which rows are the first with their position."""
        order = np.argsort(self.source, kind="stable")
        source, offset, index = self.source[order], self.offset[order], self.index[order]
        rises = (
            (source[1:] > source[:-1]) | (offset[1:] > offset[:-1]) | ((offset[1:] == offset[:-1]) & (index[1:] > index[:-1]))
        )
        first = np.ones(len(self), np.bool_)
        if not rises.all():  # rows of a source ascend, unless an earlier range is repeated
            order = np.lexsort((self.index, self.offset, self.source))  # stable: the first of equal ones stays first
            columns = (self.source[order], self.offset[order], self.index[order])
            first[order[1:]] = np.logical_or.reduce([values[1:] != values[:-1] for values in columns])
        return first

    def above(self, reached: Sequence[tuple[int, int]]) -> Bools:
        """Return which rows are above the position given for their source; `reached` has one for each of `sources`."""
        limits = np.array(reached, np.int64).reshape(-1, 2)[self.source]
        above: Bools = (self.offset > limits[:, 0]) | ((self.offset == limits[:, 0]) & (self.index > limits[:, 1]))
        return above

    def highest(self) -> Iterator[tuple[Source, tuple[int, int]]]:
        """Yield each source with its highest position."""
        order = np.lexsort((self.index, self.offset, self.source))
        last = order[np.flatnonzero(np.diff(self.source[order], append=-1))]
        positions = zip(self.offset[last].tolist(), self.index[last].tolist(), strict=True)
        yield from zip((self.sources[number] for number in self.source[last].tolist()), positions, strict=True)

    def take(self, rows: Ints) -> pa.Table:
        """Return the positions of some rows as columns s, g (text) and o, i (numbers)."""
        names = (
            pa.array([name for name, _ in self.sources], pa.string()),
            pa.array([name for _, name in self.sources], pa.string()),
        )
        source = pa.array(self.source[rows])
        numbers = pa.array(self.offset[rows]), pa.array(self.index[rows])
        return pa.table({"s": names[0].take(source), "g": names[1].take(source), "o": numbers[0], "i": numbers[1]})

    def token(self, rows: Ints, salt: str) -> str:
        """Return a name for these rows, which depends on their positions and order but not on the batch they are in."""
        digest = xxhash.xxh3_128(salt.encode())
        names = np.array([xxhash.xxh3_64_intdigest("\0".join(source).encode()) for source in self.sources], np.uint64)
        for column in (names[self.source[rows]], self.offset[rows], self.index[rows]):
            digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()
