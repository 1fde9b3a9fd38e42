"""CSV text of flow tables."""

import csv
import io
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.rows.formats.csv import csv_lines


def test_fields_are_quoted_only_where_needed_and_null_differs_from_empty() -> None:
    """Quotes appear around separators, quotes, line breaks and empty strings; a null is an empty field."""
    table = pa.table({"a,b": ["x", None, "", 'p"q', "r\ns"], "n": [1, None, -3, 4, 5]})
    assert csv_lines(table) == b'"a,b",n\nx,1\n,\n"",-3\n"p""q",4\n"r\ns",5\n'


def test_formula_safe_puts_an_apostrophe_before_what_a_spreadsheet_would_run() -> None:
    """Text starting with = + - @ TAB CR is defused, numbers and other text are left alone."""
    values = ["=1", "+1", "-1", "@x", "\tx", "\rx", "1=1", None]
    words = pa.array(values).dictionary_encode()
    text = csv_lines(pa.table({"w": words, "n": [-1] * 8}), header=False, formula_safe=True)
    rows = list(csv.reader(io.StringIO(text.decode(), newline="")))
    assert rows == [[v, "-1"] for v in ("'=1", "'+1", "'-1", "'@x", "'\tx", "'\rx", "1=1", "")]


def test_times_are_iso_8601_with_three_or_seven_digits() -> None:
    """Milliseconds have three digits, nanoseconds seven, both end in Z."""
    moment = datetime(2022, 9, 14, 9, 0, 52, 562508, tzinfo=UTC)
    times = pa.array([moment, None])
    table = pa.table({"ms": times.cast(pa.timestamp("ms", "UTC"), safe=False), "ns": times.cast(pa.timestamp("ns", "UTC"))})
    assert csv_lines(table, header=False) == b"2022-09-14T09:00:52.562Z,2022-09-14T09:00:52.5625080Z\n,\n"


def test_a_column_without_a_text_form_is_refused() -> None:
    """A nested column raises TypeError instead of printing something unreadable."""
    with pytest.raises(TypeError, match="list"):
        csv_lines(pa.table({"x": [[1]]}))


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.integers(-(2**63), 2**63 - 1)), min_size=1))
def test_the_csv_module_reads_back_what_was_written(rows: list[tuple[str, int]]) -> None:
    """Any text and any number survive a round trip through another CSV reader."""
    table = pa.table({"text": [text for text, _ in rows], "number": [number for _, number in rows]})
    read = list(csv.reader(io.StringIO(csv_lines(table, header=False).decode(), newline="")))
    assert read == [[text, str(number)] for text, number in rows]
