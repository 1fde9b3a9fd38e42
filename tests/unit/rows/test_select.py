"""Selections: a condition, a sample, and what is told of the rows that were left out."""

from __future__ import annotations

from itertools import accumulate

import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.errors import ConfigError
from libs.common.rows.select import Selection
from tests.kinds_of_rows import THINGS, things


def test_everything() -> None:
    """Without settings all rows are selected, as they are."""
    rows = things([{}, {}])
    selected = Selection.of(THINGS).select(rows)
    assert selected.rows is rows
    assert (selected.filtered, selected.kept) == (0, None)


def test_condition() -> None:
    """Rows that do not meet the condition are left out and counted; the others keep their order."""
    selected = Selection.of(THINGS, "small > 1").select(things({"small": n} for n in (2, 1, 3, None)))
    assert selected.rows["small"].to_pylist() == [2, 3]
    assert selected.filtered == 2
    assert selected.kept is not None
    assert selected.kept.tolist() == [0, 2]
    assert selected.rows.schema.equals(THINGS.schema, check_metadata=True)


def test_condition_that_all_rows_meet() -> None:
    """If all rows meet the condition, they are passed on without a copy."""
    rows = things([{"small": 2}, {"small": 3}])
    selected = Selection.of(THINGS, "small > 1").select(rows)
    assert selected.rows is rows
    assert selected.kept is None


def test_sample_has_weights() -> None:
    """Sampled rows say how many rows each of them stands for; their weights add up to about all rows."""
    rows = things({"offset": n} for n in range(4_000))
    selected = Selection.of(THINGS, sample=0.25).select(rows)
    assert set(selected.rows["sample_weight"].to_pylist()) == {4.0}
    assert selected.rows.num_rows + selected.filtered == 4_000
    assert sum(selected.rows["sample_weight"].to_pylist()) == pytest.approx(4_000, rel=0.15)


def test_sample_of_a_condition() -> None:
    """A sample is of the rows that meet the condition."""
    rows = things({"offset": n, "small": n % 2} for n in range(2_000))
    both = Selection.of(THINGS, "small = 1", 0.5).select(rows)
    alone = Selection.of(THINGS, sample=0.5).select(rows.filter(pc.equal(rows["small"], 1)))
    assert both.rows.equals(alone.rows)


def test_no_sampled_row_has_weights_too() -> None:
    """The columns of selected rows do not depend on which rows there are."""
    assert "sample_weight" in Selection.of(THINGS, sample=0.5).select(things([])).rows.column_names
    assert Selection.of(THINGS, sample=0.5).added == ("sample_weight",)
    assert Selection.of(THINGS, sample=1).added == ()


def test_chunks() -> None:
    """What came in one chunk a column is selected into one chunk a column."""
    selected = Selection.of(THINGS, "small = 1").select(things({"small": n % 3} for n in range(9)))
    assert {column.num_chunks for column in selected.rows.columns} == {1}


@settings(max_examples=50)
@given(st.lists(st.lists(st.booleans(), max_size=5), max_size=6))
def test_ends(messages: list[list[bool]]) -> None:
    """Where messages end among the selected rows follows from which of their rows were selected."""
    ends = list(accumulate(map(len, messages)))
    selected_ends = list(accumulate(map(sum, messages)))
    rows = things({"flag": flag} for message in messages for flag in message)
    assert _FLAGGED.select(rows).ends(tuple(ends)) == tuple(selected_ends)


_FLAGGED = Selection.of(THINGS, "flag")


@pytest.mark.parametrize("sample", [5e-324, 1e-20])
def test_shares_of_nothing(sample: float) -> None:
    """A share so small that no row would ever be of the sample is refused, before a row would stand for infinitely many."""
    with pytest.raises(ConfigError, match="so small that no row"):
        Selection.of(THINGS, sample=sample)


@pytest.mark.parametrize("sample", [0, -0.1, 1.1, float("nan")])
def test_wrong_shares(sample: float) -> None:
    """A share must be more than nothing and at most everything."""
    with pytest.raises(ConfigError, match=r"sample: .* is not a share"):
        Selection.of(THINGS, sample=sample)
