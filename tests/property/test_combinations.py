"""Numbering combinations of columns, against a dictionary of tuples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.rows.combinations import Combinations

SMALL = st.tuples(st.integers(0, 3), st.integers(0, 2))
LARGE = st.tuples(*[st.integers(0, 2**31)] * 4)


@given(
    rows=st.lists(SMALL, max_size=60)
    | st.lists(LARGE, min_size=1, max_size=20).flatmap(lambda some: st.lists(st.sampled_from(some))),
    repeat=st.sampled_from([1, 20]),
)
def test_rows_have_one_number_if_they_have_one_combination(rows: list[tuple[int, ...]], repeat: int) -> None:
    """Numbers go up from 0 as combinations first come, also of large values and in long runs."""
    rows = [row for row in rows for _ in range(repeat)]
    width = len(rows[0]) if rows else 2
    found = Combinations.of(list(np.array(rows, np.int64).reshape(-1, width).T))
    expected = {row: number for number, row in enumerate(dict.fromkeys(rows))}
    assert found.of_row.tolist() == [expected[row] for row in rows]
    assert [rows[at] for at in found.row] == list(expected)
    assert len(found) == len(expected)


@pytest.mark.parametrize("values", [[-60_000, 0, -60_000], [2**62, -(2**62)], []])
def test_values_of_a_single_column_may_be_anything(values: list[int]) -> None:
    """Nothing is multiplied then."""
    found = Combinations.of([np.array(values, np.int64)])
    assert [values[at] for at in found.row[found.of_row]] == values
