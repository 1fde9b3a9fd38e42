"""The rows that are kept of a record that gives too many: a sample of fixed size, the same in every replay. Pure.

Of *m* rows of a record, the *k* with the smallest hashes of their positions are kept, and each stands for *m / k*. Each row is
kept with the same probability, so sums of weighted values are right on average. The hashes are not those by which sinks sample
rows: a sink would otherwise choose among rows that were chosen by the same number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from libs.common.rows.sampling import mixed, position_hashes
from libs.common.rows.types.rollups import ROLLUPS
from services.aggregator.flow_rows import Ints

_Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"


@dataclass(frozen=True, slots=True, eq=False)
class KeptRollups:
    """The numbers of the rows that are kept, ascending, and how many rows each stands for."""

    rows: Ints
    weights: _Floats


def kept_of(rows: pa.RecordBatch, records: Ints, most_rows: int) -> KeptRollups:
    """Choose at most `most_rows` of each record, given the number of the record of each row, which ascends."""
    hashes = mixed(position_hashes(pa.Table.from_batches([rows]), ROLLUPS.position))
    order = np.lexsort((hashes, records))
    _, starts, sizes = np.unique(records, return_index=True, return_counts=True)
    rank = np.arange(len(records)) - np.repeat(starts, sizes)
    weights = np.repeat(np.maximum(sizes / most_rows, 1.0), sizes)
    kept = np.sort(order[rank < most_rows])
    return KeptRollups(kept, weights[kept])
