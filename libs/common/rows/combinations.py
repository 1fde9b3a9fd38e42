"""Number the distinct combinations of column values, so that anything derived from one is computed only once. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

_Ints: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"

_LARGEST: Final = 2**63 - 1
_ROWS_A_RUN: Final = 16  # with fewer, finding the runs costs more than it saves


@dataclass(frozen=True, slots=True)
class Combinations:
    """Combinations, numbered from 0 in the order in which they first appear."""

    of_row: _Ints  # for each row: the number of its combination
    row: _Ints  # for each number: a row that has the combination

    @classmethod
    def of(cls, columns: Sequence[_Ints]) -> Combinations:
        """Number the combinations of columns of equal length. Several columns may hold only numbers from 0 to 2**31."""
        codes = columns[0]
        for column in columns[1:]:
            span = int(column.max(initial=0)) + 1
            if int(codes.max(initial=0)) >= _LARGEST // span:
                codes, _ = _numbered(codes)
            codes = codes * span + column
        of_row, count = _numbered(codes)
        row = np.empty(count, np.int64)
        row[of_row] = np.arange(len(of_row))
        return cls(of_row, row)

    def __len__(self) -> int:
        return len(self.row)


def _numbered(codes: _Ints) -> tuple[_Ints, int]:
    """Return the number of each row's code and the count of distinct codes."""
    starts = np.concatenate(([0], np.flatnonzero(codes[1:] != codes[:-1]) + 1))[: len(codes)]
    in_runs = len(starts) * _ROWS_A_RUN <= len(codes)
    encoded = pa.array(codes[starts] if in_runs else codes, pa.int64()).dictionary_encode()
    numbers: _Ints = encoded.indices.to_numpy().astype(np.int64)
    return (np.repeat(numbers, np.diff(starts, append=len(codes))) if in_runs else numbers), len(encoded.dictionary)
