"""Times and numbers of logs."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.parser.logs.levels import severity_numbers
from services.parser.logs.numbers import integers, scaled, small_numbers
from services.parser.logs.times import access_times, any_times, iso_times, milliseconds

NOON = 1_777_636_800_000_000_000
SECOND = 1_000_000_000


def number(column: pa.Array) -> int | None:
    """Return the only value of a column."""
    (value,) = column.cast(pa.int64()).to_pylist()
    return value  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-05-01T12:00:00Z", NOON),
        ("2026-05-01 12:00:00", NOON),
        ("2026-05-01T12:00Z", NOON),
        ("2026-05-01", NOON - 43_200 * SECOND),
        ("2026-05-01T14:00:00+02:00", NOON),
        ("2026-05-01T08:30:00-0330", NOON),
        ("2026-05-01T12:00:00,5", NOON + SECOND // 2),
        ("2026-05-01T12:00:00.123456789Z", NOON + 123_456_789),
        ("2026-05-01T12:00:00.1234567899Z", NOON + 123_456_789),
        ("2262-04-11T23:47:16.854775807Z", 2**63 - 1),
        ("2262-04-11T23:47:17Z", None),
        ("1600-01-01T00:00:00Z", None),
        ("2026-02-30T12:00:00Z", None),
        ("2026-05-01T24:00:00Z", None),
        ("2026-05-01T12:00:60Z", None),
        ("\u0662026-05-01T12:00:00Z", None),
        ("", None),
    ],
)
def test_iso_times(text: str, expected: int | None) -> None:
    """Times have nanoseconds and zones; what is none between 1678 and 2262 is null."""
    assert number(iso_times(pa.array([text]))) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1777636800", NOON),
        ("1777636800.123456789", NOON + 123_456_789),
        ("1777636800123", NOON + 123_000_000),
        ("1777636800123456", NOON + 123_456_000),
        ("1777636800123456789", NOON + 123_456_789),
        ("1.7776368e9", NOON),
        ("-1", -SECOND),
        ("9999999999999999999", None),
        ("[01/May/2026:12:00:00 +0000]", NOON),
        ("01/May/2026:14:00:00 +0200", NOON),
        ("2026-05-01 12:00:00", NOON),
        ("noon", None),
    ],
)
def test_any_times(text: str, expected: int | None) -> None:
    """The size of a count says its unit."""
    assert number(any_times(pa.array([text]))) == expected


@pytest.mark.parametrize(("text", "expected"), [("1777636800123", NOON + 123_000_000), ("9223372036855", None), ("1.5", None)])
def test_milliseconds(text: str, expected: int | None) -> None:
    """Counts that no column can hold are null."""
    assert number(milliseconds(pa.array([text]))) == expected


def test_access_times() -> None:
    """Months have English names, and days exist."""
    texts = ["[01/May/2026:12:00:00 +0000]", "[01/Mai/2026:12:00:00 +0000]", "[31/Apr/2026:12:00:00 +0000]", None]
    assert access_times(pa.array(texts)).cast(pa.int64()).to_pylist() == [NOON, None, None, None]


_of_time = st.from_regex(r"\A(\d{4}-\d\d-\d\d([T ]\d\d(:\d\d(:\d\d([.,]\d{1,10})?)?)?( ?(Z|UTC|[+-]\d\d:?\d\d|[+-]\d\d))?)?)\Z")
_in_range = st.datetimes().map(str) | st.datetimes().map(lambda time: f"{time.isoformat()}Z")


@given(st.lists(_of_time | _in_range | st.text(max_size=8) | st.none(), max_size=6))
def test_a_time_depends_on_no_other(texts: list[str | None]) -> None:
    """A column says of each text what a column of this text alone says."""
    for read in (iso_times, any_times):
        together = read(pa.array(texts, pa.string())).cast(pa.int64()).to_pylist()
        assert together == [number(read(pa.array([text], pa.string()))) for text in texts]


@given(st.lists(st.from_regex(r"\A-?\d{1,22}(\.\d{1,3})?(e-?\d{1,3})?\Z") | st.none() | st.text(max_size=4), max_size=6))
def test_a_number_depends_on_no_other(texts: list[str | None]) -> None:
    """The same of numbers, whatever their size."""
    for read in (integers, small_numbers, lambda column: scaled(column, 1_000)):
        together = read(pa.array(texts, pa.string())).to_pylist()
        assert together == [number(read(pa.array([text], pa.string()))) for text in texts]


def test_numbers() -> None:
    """Fractions of a unit are cut off; what does not fit is null, however long it is."""
    texts = ["12", "12.5", "1e3", "-1", "9223372036854775807", "9" * 2_000_000, "1e999", "x"]
    assert scaled(pa.array(texts), 1_000).to_pylist() == [12_000, 12_500, 1_000_000, -1_000, None, None, None, None]
    assert small_numbers(pa.array(["0", "65535", "65536", "-1"])).to_pylist() == [0, 65_535, None, None]


def test_severities() -> None:
    """Levels of all loggers are numbers of OpenTelemetry; unknown ones are null."""
    levels = ["TRACE", "debug", "Information", " warn ", "SEVERE", "CRIT", "fatal", "I", "30", "notice", "loud", None]
    found = severity_numbers(pa.array(levels).dictionary_encode()).to_pylist()
    assert found == [1, 5, 9, 13, 17, 18, 21, 9, 9, 10, None, None]
