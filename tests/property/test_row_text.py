"""Text built from columns is what Python would build row by row, however many rows there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.rows import row_text
from libs.common.rows.row_text import CodedTexts, Numbers, RowText, TextColumn, distinct

INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 300) | st.sampled_from([32_767, 32_768, 65_535, 65_536])


def texts(columns: Sequence[TextColumn], rows: int) -> list[str]:
    """Return the text of each row."""
    return [text for some in RowText(columns, rows).slices() for text in some.to_pylist()]


@given(st.lists(st.tuples(INTEGERS, st.booleans()), min_size=1, max_size=20), st.sampled_from([1, 300, 2_000]))
def test_numbers_are_decimal(values: list[tuple[int, bool]], times: int) -> None:
    """A number of any size is its decimal text, and nothing where it is not valid, also where many are looked up."""
    numbers = np.tile(np.array([value for value, _ in values], np.int64), times)
    valid = np.tile(np.array([present for _, present in values], np.bool_), times)
    found = texts(["<", Numbers(numbers, valid), "|", Numbers(numbers[::-1], valid[::-1]), ">"], len(numbers))
    one = [str(value) if present else "" for value, present in values] * times
    assert found == [f"<{first}|{second}>" for first, second in zip(one, reversed(one), strict=True)]


@pytest.mark.parametrize("most", [0, 100, 16_777_216])
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["", "x", "yyy"])), min_size=1, max_size=6), st.data())
def test_words_are_joined_where_they_seldom_change(most: int, rows: list[tuple[str, str]], data: st.DataObject) -> None:
    """Words of rows in runs of any length are the same text, whether or not the texts of runs are few enough to be joined."""
    repeated = [row for row in rows for _ in range(data.draw(st.integers(1, 60)))]
    words = [
        CodedTexts(("a", "b"), _codes(repeated, 0, "ab")),
        CodedTexts(("", "x", "yyy"), _codes(repeated, 1, ("", "x", "yyy"))),
    ]
    each = pa.array([str(at) for at in range(len(repeated))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_text, "_MOST_JOINED", most)
        found = texts(["[", words[0], "-", words[1], "]", each, words[1]], len(repeated))
    assert found == [f"[{one}-{other}]{at}{other}" for at, (one, other) in enumerate(repeated)]


def _codes(rows: list[tuple[str, str]], place: int, words: Sequence[str]) -> row_text.Codes:
    return np.array([words.index(row[place]) for row in rows], np.uint32)


@given(st.lists(INTEGERS, min_size=1, max_size=200))
def test_distinct_values_are_those_of_the_rows(values: list[int]) -> None:
    """Each row has the index of its own value, also where values lie close together or come in runs."""
    few, codes = distinct(np.array(values, np.int64))
    assert few[codes].tolist() == values


@pytest.mark.parametrize("most", [1, 7, 10_000])
@given(st.lists(st.text(max_size=12) | st.none(), max_size=30))
def test_slices_have_at_most_so_many_bytes(most: int, values: list[str | None]) -> None:
    """Text is made in slices of bounded size, however long each row is; only a row that is longer alone exceeds it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_text, "SLICE_BYTES", most)
        slices = [some.to_pylist() for some in RowText(["<", pa.array(values, pa.string())], len(values)).slices()]
    assert [text for some in slices for text in some] == [f"<{value or ''}" for value in values]
    assert all(len(some) == 1 or sum(len(text.encode()) for text in some) <= most for some in slices)
