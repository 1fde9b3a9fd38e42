"""What answers of InfluxDB mean, version by version, and whose fault they are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from libs.common.errors import ConfigError, Retry
from libs.common.http.client import Answer
from services.sinks.kinds.influxdb.faults import AllWritten, NamedLines, SomeLines, TooLarge, is_missing, read_answer

CONFLICT = 'field type conflict: input field "bytes" on measurement "m" is type float, already exists as type integer'


def answer(status: int, body: Any = b"", retry_after: float | None = None) -> Answer:
    """Return an answer; a body that is no bytes is JSON."""
    return Answer(status, body if isinstance(body, bytes) else json.dumps(body).encode(), retry_after)


@pytest.mark.parametrize("status", [200, 204])
def test_success_is_all_lines(status: int) -> None:
    """Without an error everything is written."""
    assert read_answer(answer(status), 3) == AllWritten()
    assert read_answer(answer(413), 3) == TooLarge()


@pytest.mark.parametrize(
    ("body", "dropped", "reason", "is_own"),
    [
        ({"error": f"partial write: {CONFLICT} dropped=2"}, 2, CONFLICT, False),
        ({"error": "partial write: points beyond retention policy dropped=1"}, 1, "points beyond retention policy", False),
        ({"error": "partial write: unable to parse 'm secret=1': bad timestamp dropped=0"}, 0, "cannot be parsed", True),
        ({"code": "invalid", "message": "unable to parse 'm secret=1': missing fields"}, 0, "cannot be parsed", True),
        (
            {
                "code": "unprocessable entity",
                "message": f"failure writing points to database: partial write: {CONFLICT} dropped=3",
            },
            3,
            CONFLICT,
            False,
        ),
    ],
)
def test_versions_1_and_2_say_at_most_how_many_lines_are_refused(body: Any, dropped: int, reason: str, is_own: bool) -> None:  # noqa: FBT001
    """A partial write has a number and a reason, which never quotes a line."""
    for status in (400, 422):
        found = read_answer(answer(status, body), 10)
        assert isinstance(found, SomeLines)
        assert (found.dropped, found.is_own_fault) == (dropped, is_own)
        assert reason in found.reason
        assert "secret" not in found.reason


def test_version_3_names_the_lines() -> None:
    """A partial write of version 3 has the number of each line, from 1; a number that was not sent is not believed."""
    message = (
        "invalid column type for column 'b', expected iox::column_type::field::integer, got iox::column_type::field::float"
    )
    line = {"line_number": 2, "error_message": message, "original_line": "x"}
    body = {"error": "partial write of line protocol occurred", "data": [line]}
    found = read_answer(answer(400, body), 3)
    assert found == NamedLines({1: f"influxdb refuses the point: {message}"})
    assert isinstance(read_answer(answer(400, body), 1), SomeLines)


@pytest.mark.parametrize(
    "error",
    [
        "partial write: max-series-per-database limit exceeded: (1000000) dropped=7",
        "partial write: max-values-per-tag limit exceeded (100000/100000): measurement=m dropped=1",
        "engine: cache-max-memory-size exceeded: (1/1)",
    ],
)
def test_a_limit_of_the_server_is_waited_out(error: str) -> None:
    """What the operator has to raise costs no row: it is said, and the same rows come again."""
    with pytest.raises(Retry, match="has reached a limit of its own") as raised:
        read_answer(answer(400, {"error": error}), 10)
    assert raised.value.kind == "limit"
    line = [{"line_number": 1, "error_message": "adding a new column would exceed the limit of columns"}]
    with pytest.raises(Retry, match="limit of its own"):
        read_answer(answer(400, {"error": "partial write of line protocol occurred", "data": line}), 10)


@pytest.mark.parametrize("status", [401, 403])
def test_a_denied_right_is_the_operators_business(status: int) -> None:
    """The sign-in and the right to write are named."""
    with pytest.raises(ConfigError, match=f"answers {status}: check the sign-in, and that it has the right to write"):
        read_answer(answer(status, {"error": "authorization failed"}), 1)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, {"error": 'database not found: "x"'}, "database not found"),
        (404, {"code": "not found", "message": 'bucket "x" not found'}, "bucket .* not found"),
        (429, {"error": "too many"}, "too many"),
        (500, {"error": "timeout"}, "timeout"),
        (302, b"", "is the URL correct"),
    ],
)
def test_everything_else_is_waited_out(status: int, body: Any, said: str) -> None:
    """No row is at fault for what the server or its operator lacks; the server says how long to wait."""
    with pytest.raises(Retry, match=f"answers {status}: .*{said}") as raised:
        read_answer(answer(status, body, retry_after=7.0), 1)
    assert (raised.value.kind, raised.value.after) == (f"status_{status}", 7.0)


def test_a_missing_database_is_told_from_a_wrong_address() -> None:
    """A 404 of InfluxDB says what is missing; one of something else does not."""
    assert is_missing(answer(404, {"error": 'database not found: "x"'}))
    assert not is_missing(answer(404, b"<html>nothing here</html>"))
    assert not is_missing(answer(400, {"error": "not found"}))
