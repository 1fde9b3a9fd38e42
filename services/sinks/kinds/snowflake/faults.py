"""What Snowflake's errors mean for a write: whose fault they are.

The connector reports a number and, for most statements, an SQLSTATE. Numbers from 100000 are about data, those from 390000
about the sign-in; the SQLSTATE of the others tells rights and names from what passes by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from snowflake.connector.errors import Error, ForbiddenError, NonRetryableTlsError

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.messages.dead_letters import ErrorCode
from libs.common.security.redaction import excerpt
from services.sinks.frame.halving import RowsRefused

NO_OBJECT: Final = frozenset({2003, 2043})
"""Codes for something that does not exist, or that the role may not see."""

_NO_STATE: Final = "n/a"  # as the connector says it
_PREFIX: Final = re.compile(r"\d{6}(?: \(\w{5}\))?: ")
_TEXT_LIMIT: Final = 300
_PAUSE: Final = 1.0
_LONGER_PAUSE: Final = 10.0  # for what ends only if somebody does something, or when others are done


class SnowflakeFault(Enum):
    """Whose fault an error is."""

    ROWS = auto()  # a value that the table does not accept
    OPERATOR = auto()  # rights, names, types, sign-in
    WORLD = auto()  # passes by itself


_DATA: Final = range(100_000, 101_000)
_SIGN_IN: Final = range(390_000, 400_000)
# 22: data exception, 23: integrity constraint.
_ROWS: Final = ("22", "23")
# 02: no such object, 0A: feature not supported, 28: sign-in, 3D: database, 3F: schema, 42: names, rights, types.
_OPERATOR: Final = ("02", "0A", "28", "3D", "3F", "42")
_NO_WAREHOUSE: Final = "57P03"
_REASONS: Final = {
    100035: "a time that it does not have",
    100038: "a text that is no number",
    100046: "a number that is too large",
    100072: "a null in a column that takes none",
    100078: "a text that is too long",
    100145: "bytes that are too long",
}
# Sessions end: by time, with their server, or because the operator ends them. A new one is begun.
_SESSION: Final = frozenset({390104, 390110, 390111, 390112, 390113, 390114, 390115, 390195, 290401})
_KINDS: Final = {
    **dict.fromkeys(_SESSION, "session"),
    604: "timeout",  # cancelled, by the connector or by a person
    625: "busy",  # more statements than allowed wait for the lock of the table
    626: "busy",  # waited too long for it
    630: "timeout",  # the time limit of statements
    90073: "quota",  # a resource monitor keeps the warehouse suspended
}
_OTHER: Final = "server"
_SLOW: Final = frozenset({"busy", "quota"})
_NO_ROLE: Final = "does not give this user the role: GRANT ROLE ... TO USER ..., or check role"
_NO_ACCOUNT: Final = "does not know the account: check account and url"
_LOGIN: Final = "does not accept our sign-in: check username, and the key, password or token that belongs to it"
_OTHER_TABLE: Final = "has another table than this sink writes to: run `blobtide sink-setup`"
_ADVICE: Final[Mapping[int, str]] = {
    606: "has no warehouse for this session: set warehouse, and GRANT USAGE ON WAREHOUSE ... TO ROLE ...",
    2003: "has no such object, or the role may not see it: check database, table and role, or run `blobtide sink-setup`",
    2043: "has no such object, or the role may not see it: check database, table and role, or run `blobtide sink-setup`",
    3001: "does not allow it: the role needs USAGE on the warehouse, the database and the schema, and INSERT and SELECT on the"
    " table; see the permissions on the page of this destination",
    290403: _NO_ACCOUNT,
    290404: _NO_ACCOUNT,
    390186: _NO_ROLE,
    390189: _NO_ROLE,
    390201: "has no such database, schema or warehouse, or the role may not use it",
    390303: "does not accept the OAuth token",
    390318: "says that the OAuth token has expired: something must write a new one to oauth_token_file",
    390422: "does not let this address in: check the network policy",
}


def code_of(error: Error) -> int:
    """Return the number of an error; 0 if it has none."""
    return max(error.errno or 0, 0)


def fault_of(error: Error) -> SnowflakeFault:
    """Return whose fault an error is. What is not known passes: no row is given up for a reason that is not its own."""
    code, state = code_of(error), _state_of(error)
    if code in _DATA and state[:2] in _ROWS:
        return SnowflakeFault.ROWS
    if code in _KINDS:
        return SnowflakeFault.WORLD
    known = code in _ADVICE or code in _SIGN_IN or state == _NO_WAREHOUSE or state[:2] in _OPERATOR
    if known or isinstance(error, ForbiddenError | NonRetryableTlsError):
        return SnowflakeFault.OPERATOR
    return SnowflakeFault.WORLD


def refused(error: Error) -> RowsRefused:
    """Return the exception for a statement that failed because of its rows. Its reason shows no value of a row."""
    what = _REASONS.get(code_of(error), "a value that it does not accept")
    return RowsRefused(ErrorCode.REFUSED, f"snowflake refuses the row: {what} (error {code_of(error)})")


def retry_of(error: Error) -> Retry:
    """Return the exception for an error while writing that is not about rows. What the operator must repair is waited for."""
    if fault_of(error) is SnowflakeFault.OPERATOR:
        return Retry(f"snowflake {advice_on(error)} ({said(error)})", after=_LONGER_PAUSE, kind="operator")
    kind = _KINDS.get(code_of(error))
    if kind is None and not _state_of(error):
        return Retry(f"snowflake does not respond: {said(error)}", after=_PAUSE)
    kind = kind or _OTHER
    return Retry(f"snowflake: {said(error)}", after=_LONGER_PAUSE if kind in _SLOW else _PAUSE, kind=kind)


def refused_too_often(refusal: RowsRefused) -> ConfigError:
    """Return the exception for a batch with too many refused rows."""
    advice = "refuses row after row: change its table, or leave such rows out (`where`)"
    return ConfigError(f"snowflake {advice}. The last one: {refusal.reason}")


def start_error(error: Error) -> ConfigError | ServerUnreachable:
    """Return the exception for an error at the start."""
    if fault_of(error) is SnowflakeFault.WORLD:
        return ServerUnreachable(f"snowflake does not respond: {said(error)}; can it be reached, and is the account right?")
    return ConfigError(f"snowflake {advice_on(error)} ({said(error)})")


def advice_on(error: Error) -> str:
    """Return what the operator should do about an error."""
    if isinstance(error, NonRetryableTlsError):
        return "shows a certificate that is not accepted: is something between us and Snowflake that replaces it?"
    if isinstance(error, ForbiddenError):
        return _NO_ACCOUNT
    return _ADVICE.get(code_of(error)) or (_LOGIN if code_of(error) in _SIGN_IN else _OTHER_TABLE)


def said(error: Error) -> str:
    """Return an error's number and text on one line."""
    text = _PREFIX.sub("", " ".join((error.raw_msg or str(error)).split()))
    return excerpt(f"error {code_of(error)}: {text}" if code_of(error) else text, _TEXT_LIMIT)


def _state_of(error: Error) -> str:
    """Return the SQLSTATE of an error; empty if it has none."""
    state = error.sqlstate or ""
    return "" if state == _NO_STATE else state
