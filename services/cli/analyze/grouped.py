"""Counts by group that stay small: rows are counted a batch at a time, in columns, and batches are merged."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

_COUNT: Final = "count"
_MERGED_ROWS: Final = 20_000  # of counts of single batches, before they are merged


class GroupedCounts:
    """Counts of rows by the values of some columns.

    Values come from strangers, and there may be any number of them. Of more than `most` groups, half as many are kept, those
    with the highest counts; `lost` says how many rows are then not in any group.
    """

    def __init__(self, keys: tuple[str, ...], most: int) -> None:
        self.lost = 0
        self._keys = keys
        self._most = most
        self._parts: list[pa.Table] = []
        self._rows = 0

    def add(self, table: pa.Table) -> None:
        """Count the rows of `table`, which has the key columns."""
        if not table.num_rows:
            return
        ones = table.select(self._keys).append_column(_COUNT, pa.repeat(pa.scalar(1, pa.int64()), table.num_rows))
        self._parts.append(self._summed(ones))
        self._rows += self._parts[-1].num_rows
        if self._rows > _MERGED_ROWS + self._most:
            self._merge()

    def table(self) -> pa.Table | None:
        """Return the key columns and ``count``, highest counts first; None if nothing was counted."""
        self._merge()
        return self._parts[0] if self._parts else None

    def _merge(self) -> None:
        if not self._parts:
            return
        merged = self._summed(pa.concat_tables(self._parts))
        if merged.num_rows > self._most:
            kept = merged.slice(0, self._most // 2)
            self.lost += (pc.sum(merged[_COUNT]).as_py() or 0) - (pc.sum(kept[_COUNT]).as_py() or 0)
            merged = kept
        self._parts, self._rows = [merged], merged.num_rows

    def _summed(self, table: pa.Table) -> pa.Table:
        summed = table.group_by(list(self._keys), use_threads=False).aggregate([(_COUNT, "sum")])
        summed = summed.select([*self._keys, f"{_COUNT}_sum"]).rename_columns([*self._keys, _COUNT])
        order = [(_COUNT, "descending"), *((key, "ascending") for key in self._keys)]
        return summed.sort_by(order)
