"""Write rows to a table in transactions, and find by halving the rows that the table refuses without saying which ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from libs.common.errors import ConfigError
from libs.common.messages.dead_letters import ErrorCode
from services.sinks.frame.table import TableOutcome, UnfitRow
from services.sinks.frame.times import without

MOST_REFUSED: Final = 100
"""How many rows of a batch a table may refuse: finding each takes about fifteen transactions."""


class RowsRefused(Exception):
    """A transaction failed because of its rows, and nothing of it is stored; with code and reason for a dead letter."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


@dataclass(frozen=True, slots=True)
class Transactions:
    """How rows get into a table.

    Attributes:
        store: stores rows, or none of them, and returns how many are new; may raise `RowsRefused`.
        most_rows: of one transaction.
        too_many: the exception for a batch of which too many rows are refused.
        beat: called after each transaction.
    """

    store: Callable[[pa.Table], int]
    most_rows: int
    too_many: Callable[[RowsRefused], ConfigError]
    beat: Callable[[], None]

    def write(self, values: pa.Table, unfit: Sequence[UnfitRow] = ()) -> TableOutcome:
        """Store the rows of `values`; those already known to be `unfit` are left out.

        Raises:
            ConfigError: if the table refuses too many of them. What `store` raises is passed on.
        """
        left_out = {bad.row for bad in unfit}
        fit = without(values, left_out)
        written, refused = 0, dict[int, RowsRefused]()
        for at in range(0, fit.num_rows, self.most_rows):
            written += self._store(fit, (at, min(self.most_rows, fit.num_rows - at)), refused)
        numbers = np.delete(np.arange(values.num_rows), list(left_out))
        found = [UnfitRow(int(numbers[row]), why.code, why.reason) for row, why in refused.items()]
        known = fit.num_rows - written - len(found)
        return TableOutcome(written, known, sorted((*unfit, *found), key=lambda bad: bad.row))

    def _store(self, fit: pa.Table, some: tuple[int, int], refused: dict[int, RowsRefused]) -> int:
        """Store a range of rows (start, count), add those that are refused, and return how many are new."""
        written, left = 0, [some]
        while left:
            start, count = left.pop()
            try:
                written += self.store(fit.slice(start, count))
            except RowsRefused as error:
                if count > 1:
                    half = count // 2
                    left += [(start + half, count - half), (start, half)]
                elif len(refused) < MOST_REFUSED:
                    refused[start] = error
                else:
                    raise self.too_many(error) from error
            self.beat()
        return written
