"""Flows of one poll, column by column, as numbers to group by. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.condition import Condition
from libs.common.rows.types.flows import FLOWS
from services.aggregator.aggregation import SIDES

Ints: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
Bools: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"

_UNKNOWN: Final = -1
_POSITION: Final = FLOWS.position


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """A column as numbers: row i has the value ``values[codes[i]]``, or none if the code is -1."""

    codes: Ints
    values: pa.Array

    def at(self, rows: Ints) -> pa.Array:
        """Return the values of some rows."""
        return self.values.take(pa.array(self.codes[rows], mask=self.codes[rows] == _UNKNOWN))

    def words_at(self, rows: Ints) -> pa.DictionaryArray:
        """Return the values of some rows, which are words."""
        codes = self.codes[rows]
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=codes == _UNKNOWN), self.values)


class FlowRows:
    """Flows as columns.

    Args:
        flows: in the order of their messages; each column is one chunk.
        records: for each row the number of its record; the parts of a record that are in several messages have different ones.
        rows: for each row its number in the poll.
    """

    def __init__(self, flows: pa.Table, records: Ints, rows: Ints) -> None:
        self.flows = flows
        self.records = records
        self.rows = rows
        self._coded: dict[str, Coded] = {}

    @classmethod
    def of(cls, tables: Sequence[pa.Table], columns: Collection[str]) -> Self:
        """Take some columns of messages, which includes those of the position."""
        names = [name for name in FLOWS.names if name in columns]
        flows = pa.concat_tables([table.select(names) for table in tables]).unify_dictionaries().combine_chunks()
        return cls(flows, _records(flows, [table.num_rows for table in tables]), np.arange(flows.num_rows))

    def __len__(self) -> int:
        return len(self.records)

    def where(self, condition: Condition | None) -> FlowRows:
        """Return the rows that meet a condition. Raises `ConfigError` if it takes too long."""
        if condition is None:
            return self
        kept = np.flatnonzero(condition.mask(self.flows).to_numpy(zero_copy_only=False))
        return FlowRows(self.flows.take(kept).combine_chunks(), self.records[kept], self.rows[kept])

    def column(self, name: str) -> pa.Array:
        """Return a column of flows as one array."""
        column = self.flows.column(name)
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()

    def coded(self, name: str) -> Coded:
        """Return a column of flows, or a side, as numbers."""
        if name not in self._coded:
            self._coded[name] = self._side(name) if name in SIDES else _coded(self.column(name))
        return self._coded[name]

    def has_word(self, name: str, word: str) -> Bools:
        """Return which rows have this word in a column of words."""
        found = self.coded(name)
        code = pc.index(found.values, word).as_py()
        same: Bools = found.codes == code if code >= 0 else np.zeros(len(self), np.bool_)
        return same

    def _side(self, name: str) -> Coded:
        source, destination, addresses = self._addresses
        outbound, inbound = (self.has_word("direction", word) for word in ("outbound", "inbound"))
        if name != SIDES[0]:
            outbound, inbound = inbound, outbound
        return Coded(np.where(outbound, source, np.where(inbound, destination, _UNKNOWN)), addresses)

    @cached_property
    def _addresses(self) -> tuple[Ints, Ints, pa.Array]:
        both = _coded(pa.concat_arrays([self.column("src_ip"), self.column("dst_ip")]))
        return both.codes[: len(self)], both.codes[len(self) :], both.values


def _records(flows: pa.Table, sizes: Sequence[int]) -> Ints:
    """Number the records: each ends with its message, or where the next row has another position."""
    begins = np.zeros(flows.num_rows, np.int64)
    for name in (_POSITION.offset, _POSITION.source, _POSITION.generation):
        column = flows.column(name).combine_chunks()
        codes = (column.indices if pa.types.is_dictionary(column.type) else column).to_numpy()
        begins[1:] |= codes[1:] != codes[:-1]
    ends = np.cumsum(sizes)
    begins[ends[ends < flows.num_rows]] = 1
    records: Ints = np.cumsum(begins)
    return records


def _coded(column: pa.Array) -> Coded:
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    codes = pc.fill_null(encoded.indices, _UNKNOWN) if encoded.null_count else encoded.indices
    return Coded(codes.to_numpy().astype(np.int64), encoded.dictionary)
