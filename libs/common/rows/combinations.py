"""Number the distinct combinations of column values, so that anything derived from one is computed only once. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

_Ints: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
_AnyInts: TypeAlias = "np.ndarray[Any, np.dtype[np.integer[Any]]]"

_LARGEST: Final = 2**63 - 1
_ROWS_A_RUN: Final = 16  # with fewer, finding the runs costs more than it saves


@dataclass(frozen=True, slots=True)
class Combinations:
    """Combinations, numbered from 0 in the order in which they first appear."""

    of_row: _Ints  # for each row: the number of its combination
    row: _Ints  # for each number: a row that has the combination

    @classmethod
    def of(cls, columns: Sequence[_AnyInts]) -> Combinations:
        """Number the combinations of columns of equal length. Several columns may hold only numbers from 0 to 2**31."""
        rows = len(columns[0])
        starts = _run_starts(columns)
        in_runs = len(starts) * _ROWS_A_RUN <= rows
        codes, *others = [(column[starts] if in_runs else column).astype(np.int64) for column in columns]
        for column in others:
            span = int(column.max(initial=0)) + 1
            if int(codes.max(initial=0)) >= _LARGEST // span:
                codes, _ = _numbered(codes)
            codes = codes * span + column
        of_row, count = _numbered(codes)
        row = np.empty(count, np.int64)
        row[of_row] = starts if in_runs else np.arange(rows)
        return cls(np.repeat(of_row, np.diff(starts, append=rows)) if in_runs else of_row, row)

    def __len__(self) -> int:
        return len(self.row)


def _run_starts(columns: Sequence[_AnyInts]) -> _Ints:
    """Return the first row, and each row that differs from the one before it."""
    changes = np.zeros(max(0, len(columns[0]) - 1), np.bool_)
    for column in columns:
        changes |= column[1:] != column[:-1]
    return np.concatenate(([0], np.flatnonzero(changes) + 1))[: len(columns[0])]


def _numbered(codes: _Ints) -> tuple[_Ints, int]:
    """Return the number of each row's code and the count of distinct codes."""
    encoded = pa.array(codes, pa.int64()).dictionary_encode()
    numbers: _Ints = encoded.indices.to_numpy().astype(np.int64)
    return numbers, len(encoded.dictionary)
