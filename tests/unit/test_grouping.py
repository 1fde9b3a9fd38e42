"""Groups that fit into a message."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from libs.common.grouping import groups_within

SIZES = st.lists(st.integers(0, 20), max_size=40)


@given(SIZES, st.integers(0, 30))
def test_groups_hold_everything_in_order_and_as_much_as_fits(sizes: list[int], most: int) -> None:
    """None is empty, none is too large unless it is one item, and none could have taken the first item of the next."""
    groups = list(groups_within(sizes, lambda size: size, most))
    assert [size for group in groups for size in group] == sizes
    assert all(group and (sum(group) <= most or len(group) == 1) for group in groups)
    assert all(sum(group) + after[0] > most for group, after in pairwise(groups))
