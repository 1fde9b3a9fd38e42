"""JSON text made from columns says what the columns say, whatever they hold."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.rows.formats.json import json_documents, json_lines
from libs.common.rows.row_text import SLICE_ROWS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WORD = pa.dictionary(pa.int32(), pa.string())
TEXT = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ['"', "\\", "\n\t", "\x00\x1f", "a\\u0041", "ü\U0001f600", ""]
)
NAMES = ("plain", "a.word", "a.count", "a.b.word", "a.b.flag", "c.small", "c.d.list", "when", 'we"ird')


def column(kind: pa.DataType, values: st.SearchStrategy[Any], rows: int) -> st.SearchStrategy[pa.Array]:
    """Columns of one type with any mix of nulls, sometimes as a slice of a longer one."""
    lists = st.lists(st.none() | values, min_size=rows + 2, max_size=rows + 2) | st.lists(
        values, min_size=rows + 2, max_size=rows + 2
    )
    return lists.map(lambda items: pa.array(items, kind).slice(1, rows))


@st.composite
def tables(draw: st.DrawFn) -> dict[str, pa.Array]:
    """A few columns of all types that are taken, under names that nest."""
    rows = draw(st.integers(0, 8))
    numbers = st.integers(-(2**63), 2**63 - 1)
    kinds = [
        column(pa.string(), TEXT, rows),
        column(WORD, TEXT, rows),
        column(WORD, st.sampled_from(["in", "out"]), rows),
        column(pa.int64(), numbers, rows),
        column(pa.uint64(), st.integers(0, 2**64 - 1), rows),
        column(pa.uint8(), st.integers(0, 255), rows),
        column(pa.float64(), st.floats(), rows),
        column(pa.bool_(), st.booleans(), rows),
        column(pa.list_(pa.string()), st.lists(st.none() | TEXT, max_size=3), rows),
    ]
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
    return {name: draw(st.one_of(kinds)) for name in names}


def expected(row: dict[str, Any], *, nest: bool) -> dict[str, Any]:
    """The row's dictionary without nulls, dotted names nested; an object stands where its first name does."""
    out: dict[str, Any] = {}
    for name, value in row.items():
        *parents, last = name.split(".") if nest else [name]
        place = out
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return without_nulls(out)


def without_nulls(members: dict[str, Any]) -> dict[str, Any]:
    """Leave out nulls, numbers that JSON has no text for, and objects in which nothing is left."""
    inside = {name: without_nulls(value) if isinstance(value, dict) else value for name, value in members.items()}
    odd = [name for name, value in inside.items() if isinstance(value, float) and not math.isfinite(value)]
    return {name: value for name, value in inside.items() if value is not None and value != {} and name not in odd}


def in_order(document: str | bytes | dict[str, Any]) -> Any:
    """A document with its objects as lists of members, whose order counts."""
    text = json.dumps(document) if isinstance(document, dict) else document
    return json.loads(text, object_pairs_hook=list)


@given(tables())
def test_documents_read_back_as_the_rows(columns: dict[str, pa.Array]) -> None:
    """Every document has the row's values, nested by the dots of the names, without nulls and in the order of the columns."""
    rows = pa.table(list(columns.values()), names=list(columns)).to_pylist()
    documents = json_documents(columns).to_pylist()
    assert [in_order(document) for document in documents] == [in_order(expected(row, nest=True)) for row in rows]


@given(tables(), st.integers(1, 3))
def test_lines_read_back_as_the_rows(columns: dict[str, pa.Array], times: int) -> None:
    """Every line has the row's values under the columns' own names and in their order, whatever chunks the table has."""
    table = pa.concat_tables([pa.table(list(columns.values()), names=list(columns))] * times)
    lines = json_lines(table).split(b"\n")
    assert lines.pop() == b""
    assert [in_order(line) for line in lines] == [in_order(expected(row, nest=False)) for row in table.to_pylist()]


@given(tables(), st.lists(st.integers(1, 40), min_size=8, max_size=8), st.sampled_from([1, SLICE_ROWS // 100]))
def test_rows_that_seldom_change_are_none_the_less_rows(columns: dict[str, pa.Array], times: list[int], again: int) -> None:
    """However often a row is repeated, and whatever repeats with it, each document is that of its own row."""
    rows = len(next(iter(columns.values())))
    of_row = np.tile(np.repeat(np.arange(rows), times[:rows]), again)
    documents = json_documents(columns).to_pylist()
    repeated = {name: column.take(pa.array(of_row)) for name, column in columns.items()}
    assert json_documents(repeated).to_pylist() == [documents[row] for row in of_row]


@given(st.lists(st.none() | st.integers(-62_135_596_800_000, 253_402_300_799_999), min_size=1, max_size=8))
def test_times_are_iso_8601_in_utc(milliseconds: list[int | None]) -> None:
    """A millisecond time reads back exactly and has three digits and a Z."""
    documents = json_documents({"t": pa.array(milliseconds, pa.timestamp("ms", tz="UTC"))}).to_pylist()
    for value, document in zip(milliseconds, documents, strict=True):
        text = json.loads(document).get("t")
        assert (text is None) == (value is None)
        if value is not None:
            assert text[-5] == "."
            assert text[-1] == "Z"
            assert datetime.fromisoformat(text) - EPOCH == timedelta(milliseconds=value)


def test_nanoseconds_have_seven_digits_and_zones_do_not_shift() -> None:
    """A nanosecond time is cut to 100 ns, and is in UTC whatever zone the column names."""
    column_ = pa.array([1_767_225_600_123_456_700], pa.timestamp("ns", tz="Europe/Amsterdam"))
    assert json_documents({"t": column_}).to_pylist() == ['{"t":"2026-01-01T00:00:00.1234567Z"}']


def test_years_of_five_digits_are_still_split_by_a_t() -> None:
    """A time far away is written with its longer year instead of being garbled."""
    column_ = pa.array([253_402_300_800_000, 0], pa.timestamp("ms", tz="UTC"))
    assert json_documents({"t": column_}).to_pylist() == [
        '{"t":"10000-01-01T00:00:00.000Z"}',
        '{"t":"1970-01-01T00:00:00.000Z"}',
    ]


@pytest.mark.parametrize("names", [("a", "a.b"), ("a.b", "a"), ("a.b.c", "a.b")])
def test_a_name_is_a_value_or_an_object(names: tuple[str, ...]) -> None:
    """Columns that contradict each other are refused by name."""
    with pytest.raises(ValueError, match="a"):
        json_documents({name: pa.array([1]) for name in names})


def test_other_types_are_refused() -> None:
    """A column that has no JSON text is an error, not a surprise."""
    with pytest.raises(TypeError, match="binary"):
        json_documents({"a": pa.array([b"x"])})


def test_many_wide_words_do_not_overflow() -> None:
    """Combinations of many large dictionaries are told apart, though their product exceeds 64 bits."""
    rows = 300
    columns = {
        f"w{i}": pa.array([f"{i}-{(row * (i + 1)) % 251}" for row in range(rows)]).dictionary_encode() for i in range(12)
    }
    documents = [json.loads(text) for text in json_documents(columns).to_pylist()]
    assert documents == pa.table(columns).to_pylist()
