"""Points made from columns say what the columns say, to every server, whatever stands in them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.rows.formats.line_protocol import point_columns
from libs.common.rows.row_text import RowText
from tests.line_protocol import Point, field_of, parse, tag_of
from tests.property.test_json_text import TEXT, WORD, column

HOSTILE = TEXT | st.text(st.sampled_from(list(',= \\"\n\t\u2028a#')), max_size=8)
NAMES = st.text(st.sampled_from(list("ab,= .ü")), min_size=1, max_size=4)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
MILLISECONDS = st.integers(-(2**40), 2**40)


@st.composite
def points(draw: st.DrawFn) -> tuple[dict[str, pa.Array], dict[str, pa.Array], Any]:
    """Tags, fields and times of some rows."""
    rows = draw(st.integers(0, 8))
    words = st.one_of(
        column(WORD, HOSTILE, rows), column(pa.string(), HOSTILE, rows), column(pa.uint8(), st.integers(0, 255), rows)
    )
    others = [
        words,
        column(pa.int64(), NUMBERS, rows),
        column(pa.uint16(), st.integers(0, 2**16 - 1), rows),
        column(pa.float64(), st.floats(), rows),
        column(pa.bool_(), st.booleans(), rows),
        column(pa.timestamp("ms", tz="UTC"), MILLISECONDS, rows),
    ]
    names = draw(st.lists(NAMES, unique=True, max_size=8))
    split = draw(st.integers(0, len(names)))
    tags = {name: draw(words) for name in names[:split]}
    fields = {name: draw(st.one_of(others)) for name in names[split:]}
    at = draw(st.integers(0, len(fields)))
    always = pa.array(draw(st.lists(NUMBERS, min_size=rows, max_size=rows)), pa.int64())
    fields = dict([*list(fields.items())[:at], ("always", always), *list(fields.items())[at:]])
    return tags, fields, np.array(draw(st.lists(NUMBERS, min_size=rows, max_size=rows)), np.int64)


def expected(measurement: str, made: tuple[dict[str, pa.Array], dict[str, pa.Array], Any]) -> list[Point]:
    """Return the points row by row."""
    tags, fields, times = made
    return [
        Point(
            measurement,
            {name: text for name, column_ in tags.items() if (text := _tag(column_[row].as_py()))},
            {name: value for name, column_ in fields.items() if (value := _field(column_[row])) is not None},
            int(time),
        )
        for row, time in enumerate(times)
    ]


def _tag(value: Any) -> str:
    return tag_of(value) if isinstance(value, str) else "" if value is None else str(value)


def _field(value: Any) -> Any:
    if pa.types.is_timestamp(value.type):
        return None if value.value is None else value.value * 1_000_000
    plain = value.as_py()
    if isinstance(plain, str):
        return field_of(plain)
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


@pytest.mark.parametrize("escaping", [False, True])
@pytest.mark.parametrize("measurement", ["flows", "my, flows"])
@given(made=points())
def test_points_read_back_as_the_rows(escaping: bool, measurement: str, made: Any) -> None:  # noqa: FBT001
    """Every line is one point with the row's tags, fields and time, for servers that read backslashes either way."""
    text = "".join(
        one for some in RowText(point_columns(measurement, *made), len(made[2])).slices() for one in some.to_pylist()
    )
    assert parse(text, escaping=escaping) == expected(measurement, made)


@given(made=points(), times=st.lists(st.integers(1, 40), min_size=8, max_size=8))
def test_rows_that_seldom_change_are_none_the_less_rows(made: Any, times: list[int]) -> None:
    """However often a row is repeated, each line is that of its own row."""
    tags, fields, at = made
    of_row = np.repeat(np.arange(len(at)), times[: len(at)])
    repeated = [{name: one.take(pa.array(of_row)) for name, one in columns.items()} for columns in (tags, fields)]

    def lines(*columns: Any) -> list[str]:
        return [one for some in RowText(point_columns("m", *columns), len(columns[2])).slices() for one in some.to_pylist()]

    alone = lines(*made)
    assert lines(*repeated, at[of_row]) == [alone[row] for row in of_row]


def test_a_point_without_a_field_is_refused() -> None:
    """Fields that may all be null make no point."""
    for nullable in (pa.array([1, None]), pa.array([math.nan, 1.0]), pa.array(["a", None]).dictionary_encode()):
        with pytest.raises(ValueError, match="never null"):
            point_columns("m", {}, {"a": nullable}, np.zeros(2, np.int64))
