"""Select the rows that a destination gets: those that meet a condition, or a sample of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
import pyarrow as pa

from libs.common.errors import ConfigError
from libs.common.rows.condition import Condition
from libs.common.rows.row_type import RowType
from libs.common.rows.sampling import SAMPLE_WEIGHT, SMALLEST_SHARE, sampled

_Bools: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"
_Places: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"


@dataclass(frozen=True, slots=True, eq=False)
class Selected:
    """The result of a selection.

    Attributes:
        rows: the selected rows in their original order, with a column `SAMPLE_WEIGHT` if they are a sample.
        filtered: number of rows that were intentionally left out.
        kept: ascending indexes of the selected rows among the given ones; None if all were selected.
    """

    rows: pa.Table
    filtered: int = 0
    kept: _Places | None = None

    def ends(self, ends: tuple[int, ...]) -> tuple[int, ...]:
        """Return where groups of rows that end at `ends` (ascending) end among the selected rows."""
        return ends if self.kept is None else tuple(np.searchsorted(self.kept, ends).tolist())


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """A condition, and the share to keep of the rows that meet it."""

    row_type: RowType
    condition: Condition | None = None
    share: float = 1.0

    @classmethod
    def of(cls, row_type: RowType, where: str | None = None, sample: float | None = None) -> Self:
        """Check a condition and a share as given in settings; None selects all rows.

        Raises:
            ConfigError: if the condition is invalid, or the share is not above 0 and at most 1.
        """
        share = 1.0 if sample is None else sample
        if not 0 < share <= 1:
            raise ConfigError(f"sample: {share} is not a share of the rows; give more than 0 and at most 1")
        if share < SMALLEST_SHARE:
            raise ConfigError(f"sample: {share} is so small that no row would be chosen")
        return cls(row_type, None if where is None else Condition.parse(where, row_type), share)

    @property
    def added(self) -> tuple[str, ...]:
        """Names of the columns that selected rows have in addition to those of their type."""
        return (SAMPLE_WEIGHT,) if self.share < 1 else ()

    def select(self, rows: pa.Table) -> Selected:
        """Return the rows that meet the condition and belong to the sample.

        Raises:
            ConfigError: if the condition exceeds its limit of time or memory.
        """
        chosen = self._chosen(rows)
        if chosen is None or chosen.all():
            return Selected(self._weighted(rows))
        kept = np.flatnonzero(chosen)
        # One take copies the selected rows once; usually far more rows are filtered out than selected.
        return Selected(self._weighted(rows.take(kept)), rows.num_rows - len(kept), kept)

    def _chosen(self, rows: pa.Table) -> _Bools | None:
        chosen = None if self.condition is None else self.condition.mask(rows).to_numpy(zero_copy_only=False)
        if self.share < 1:
            sample = sampled(rows, self.row_type.position, self.share)
            chosen = sample if chosen is None else chosen & sample
        return chosen

    def _weighted(self, rows: pa.Table) -> pa.Table:
        if self.share == 1:
            return rows
        weights = pa.array(np.full(rows.num_rows, 1 / self.share))
        return rows.append_column(pa.field(SAMPLE_WEIGHT, weights.type, nullable=False), weights)
