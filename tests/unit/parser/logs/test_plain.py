"""Plain text."""

from __future__ import annotations

from tests.log_rows import OBSERVED, outcomes, parse, rows


def test_a_line_with_a_time() -> None:
    """The whole line is the message; time and level are taken from it."""
    assert rows(parse("2026-05-01 12:00:00,123 ERROR [main] it failed", "\tat a.B", "Caused by: c")) == [
        {
            "type": "application",
            "time": "2026-05-01T12:00:00.123000000Z",
            "observed_time": OBSERVED,
            "severity_text": "ERROR",
            "severity_number": 17,
            "body": "2026-05-01 12:00:00,123 ERROR [main] it failed\n\tat a.B\nCaused by: c",
            "format": "text",
            "line_offset": 4096,
        }
    ]


def test_times_in_front() -> None:
    """Zones and brackets are understood, nanoseconds are kept; dates that are none are not."""
    texts = (
        "2026-05-01T12:00:00.123456789Z a", "[2026-05-01T14:00:00+02:00] b", "2026/05/01 12:00:00 c",
        "2026-05-01 12:00:00.5-0330 d",
    )  # fmt: skip
    assert [row["time"] for row in rows(parse(*texts))] == [
        "2026-05-01T12:00:00.123456789Z",
        "2026-05-01T12:00:00.000000000Z",
        "2026-05-01T12:00:00.000000000Z",
        "2026-05-01T15:30:00.500000000Z",
    ]


def test_lines_without_a_time_have_that_of_the_line_before() -> None:
    """The first lines of a segment have the time at which they were observed."""
    found = rows(parse("a", "2026-05-01T12:00:00Z b", "c", "2026-13-01T12:00:00Z d"))
    time = "2026-05-01T12:00:00.000000000Z"
    assert [row["time"] for row in found] == [OBSERVED, time, time, time]


def test_blank_lines_are_counted() -> None:
    """Lines of nothing but blanks are no rows; carriage returns before line feeds are no text."""
    assert outcomes(parse("", "\r", "  \t")) == [("skipped", "blank_line")] * 3
    (row,) = rows(parse("a\r"))
    assert row["body"] == "a"
