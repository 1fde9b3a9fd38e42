"""Find rows with times that a destination does not have, before it changes or refuses them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

FIRST_SECOND: Final = -62_135_596_800
END_SECOND: Final = 253_402_300_800
"""The years 1 to 9999 in seconds since 1970, the range of most destinations and languages."""

_LARGEST: Final = 2**63 - 1
_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def outside(values: pa.Table, first: int, end: int) -> Mapping[int, str]:
    """Return the rows with a time outside ``[first, end)``, in seconds since 1970, each with the name of the column."""
    found: dict[int, str] = {}
    for field in values.schema:
        if not pa.types.is_timestamp(field.type):
            continue
        ticks = values.column(field.name).cast(pa.int64())
        lowest, highest = (value.as_py() for value in pc.min_max(ticks).values())
        start = max(first * _PER_SECOND[field.type.unit], -_LARGEST - 1)
        last = min(end * _PER_SECOND[field.type.unit] - 1, _LARGEST)
        if lowest is None or start <= lowest <= highest <= last:
            continue
        beyond = pc.or_(pc.less(ticks, start), pc.greater(ticks, last)).fill_null(fill_value=False)
        for row in pc.indices_nonzero(beyond).to_pylist():
            found.setdefault(row, field.name)
    return found


def without(rows: pa.Table, refused: Collection[int]) -> pa.Table:
    """Return `rows` without those whose numbers are in `refused`."""
    if not refused:
        return rows
    kept = np.ones(rows.num_rows, np.bool_)
    kept[list(refused)] = False
    return rows.filter(pa.array(kept))
