"""What errors of Snowflake mean, and calls that take too long."""

from __future__ import annotations

import threading

import pytest
from snowflake.connector.errors import (
    DatabaseError,
    Error,
    ForbiddenError,
    HttpError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
)

from libs.common.errors import ConfigError, ServerUnreachable
from services.sinks.kinds.snowflake.faults import SnowflakeFault, fault_of, refused, retry_of, said, start_error
from services.sinks.kinds.snowflake.patience import GaveUp, Patience
from tests.clock import Clock

ROWS, OPERATOR, WORLD = SnowflakeFault.ROWS, SnowflakeFault.OPERATOR, SnowflakeFault.WORLD


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (ProgrammingError("Numeric value 'secret' is not recognized", 100038, "22018"), ROWS),
        (ProgrammingError("String 'secret' is too long and would be truncated", 100078, "22000"), ROWS),
        (ProgrammingError("NULL result in a non-nullable column", 100072, "22000"), ROWS),
        (ProgrammingError("Warehouse 'W' cannot be resumed because resource monitor ...", 90073, "22000"), WORLD),
        (ProgrammingError("JavaScript execution error", 100132, "P0000"), WORLD),
        (ProgrammingError("invalid identifier 'RULE'", 904, "42000"), OPERATOR),
        (ProgrammingError("Object does not exist or not authorized.", 2003, "42S02"), OPERATOR),
        (ProgrammingError("Insufficient privileges", 3001, "42501"), OPERATOR),
        (ProgrammingError("No active warehouse selected in the current session.", 606, "57P03"), OPERATOR),
        (DatabaseError("Role 'R' specified in the connect string does not exist", 390189, "08001"), OPERATOR),
        (DatabaseError("Incorrect username or password was specified.", 390100, "28000"), OPERATOR),
        (DatabaseError("an error of the sign-in that is not known yet", 394_399, "08001"), OPERATOR),
        (ForbiddenError(msg="403 Forbidden", errno=250001, sqlstate="08001"), OPERATOR),
        (DatabaseError("Authentication token has expired.", 390114, "08001"), WORLD),
        (HttpError(msg="401 Unauthorized", errno=290401, sqlstate="08001"), WORLD),
        (ProgrammingError("SQL execution internal error", 603, "XX000"), WORLD),
        (OperationalError("Could not connect to Snowflake backend after 2 attempt(s)", 250001), WORLD),
        (OperationalError("no response in 300 s"), WORLD),
        (InterfaceError("never heard of", 999_999), WORLD),
    ],
)
def test_whose_fault_an_error_is(error: Error, fault: SnowflakeFault) -> None:
    """A row is given up only for its own values; what the operator must repair is told from what passes by itself."""
    assert fault_of(error) is fault
    if fault is not ROWS:
        assert isinstance(start_error(error), ConfigError if fault is OPERATOR else ServerUnreachable)
        assert (retry_of(error).kind == "operator") is (fault is OPERATOR)


def test_a_dead_letter_quotes_no_value() -> None:
    """The reason says what is wrong with a row, and the row itself is in the letter."""
    error = ProgrammingError("String 'secret' is too long and would be truncated", 100078, "22000")
    assert refused(error).reason == "snowflake refuses the row: a text that is too long (error 100078)"
    error = ProgrammingError("'secret' is of a kind that nobody knows", 100999, "22000")
    assert refused(error).reason == "snowflake refuses the row: a value that it does not accept (error 100999)"


def test_an_error_is_one_line_with_its_number() -> None:
    """What the connector puts before a text is left out."""
    assert said(ProgrammingError("001003 (42000): SQL compilation error:\nsyntax error", 1003, "42000")) == (
        "error 1003: SQL compilation error: syntax error"
    )
    assert said(OperationalError("no response in 3 s")) == "no response in 3 s"


def test_a_call_that_returns_is_waited_for() -> None:
    """What a call returns or raises is passed on."""
    patience = Patience()
    assert patience.call(lambda: 42, 60) == 42
    with pytest.raises(ZeroDivisionError):
        patience.call(lambda: 1 // 0, 60)


def test_a_call_that_takes_too_long_is_left_after_beats() -> None:
    """The process beats while it waits, and goes on without the call."""
    clock, end, beats = Clock(), threading.Event(), []

    def beat() -> None:
        beats.append(clock.now)
        clock.now += 2.0

    patience = Patience(clock)
    patience.beat = beat
    with pytest.raises(GaveUp, match="no response in 3 s"):
        patience.call(end.wait, 3)
    assert beats == [0.0, 2.0]
    end.set()
