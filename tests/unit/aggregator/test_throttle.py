"""Records that give too many rows."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from libs.common.rows.select import Selection
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.types.rollups import ROLLUPS
from services.aggregator.flow_rows import FlowRows
from services.aggregator.kernel import roll_up
from tests.flows import Spot, row, table
from tests.unit.aggregator.test_kernel import aggregation

RECORDS, GROUPS, MOST = 400, 20, 5
VALUES = np.arange(GROUPS) ** 2
FLOWS_OF_MANY = table(
    row(Spot(blob=0, record=record, tuple_index=at), dst_port=at, bytes_sent=int(VALUES[at]))
    for record in range(RECORDS)
    for at in range(GROUPS)
)


def summed(content: pa.Table, **settings: Any) -> list[dict[str, Any]]:
    """Return the rollups of flows by port."""
    found = roll_up(aggregation(dimensions=["dst_port"], **settings), FlowRows.of([content], FLOWS.names))
    assert found.throttled == content.num_rows - found.rows.num_rows
    assert found.first.tolist() == sorted(found.first.tolist())
    rows: list[dict[str, Any]] = found.rows.to_pylist()
    return rows


def test_what_is_kept_of_a_record_depends_on_the_record_alone() -> None:
    """The same rows are kept whether records come together or one by one, at most so many, in order; none if all fit."""
    together = summed(FLOWS_OF_MANY, most_rows=MOST)
    alone = [one for at in range(0, 5 * GROUPS, GROUPS) for one in summed(FLOWS_OF_MANY.slice(at, GROUPS), most_rows=MOST)]
    assert together[: len(alone)] == alone
    sizes = [len(list(group)) for _, group in groupby(together, key=itemgetter("record_offset"))]
    assert sizes == [MOST] * RECORDS
    assert {one["weight"] for one in together} == {GROUPS / MOST}
    assert summed(FLOWS_OF_MANY, most_rows=GROUPS) == summed(FLOWS_OF_MANY)


@pytest.mark.parametrize("sample", [None, 0.5])
def test_weighted_sums_are_right_on_average(sample: float | None) -> None:
    """The mean over many records is the true sum, with the variance of a random sample; also where a sink samples the rest."""
    rows = pa.Table.from_pylist(summed(FLOWS_OF_MANY, most_rows=MOST), schema=ROLLUPS.schema)
    if sample is not None:
        rows = Selection.of(ROLLUPS, sample=sample).select(rows).rows
    weights = rows["weight"].to_numpy() * (rows["sample_weight"].to_numpy() if sample else 1.0)
    offsets = np.unique(FLOWS_OF_MANY["record_offset"].to_numpy())
    of_record = np.searchsorted(offsets, rows["record_offset"].to_numpy())
    sums = np.bincount(of_record, weights * rows["bytes_sent"].to_numpy(), minlength=RECORDS)
    # Of a sample of k of m values without replacement: m**2 / k * (1 - k / m) * their variance.
    deviation = (GROUPS**2 / MOST * (1 - MOST / GROUPS) * VALUES.var(ddof=1)) ** 0.5
    error = (deviation if sample is None else sums.std()) / RECORDS**0.5
    assert abs(sums.mean() - VALUES.sum()) < 4 * error
    if sample is None:
        assert sums.std() == pytest.approx(deviation, rel=0.2)
