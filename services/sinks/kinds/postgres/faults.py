"""What PostgreSQL's SQLSTATE codes mean for a write: whose fault it is."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

import psycopg

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.messages.dead_letters import ErrorCode
from libs.common.security.redaction import excerpt
from services.sinks.frame.halving import RowsRefused

_TEXT_LIMIT: Final = 300
_PAUSE: Final = 1.0
_LONGER_PAUSE: Final = 5.0  # for what ends only if somebody does something


class PostgresFault(Enum):
    """Whose fault an error is."""

    ROWS = auto()  # a value that the table does not accept
    OPERATOR = auto()  # rights, names, types, sign-in
    WORLD = auto()  # passes by itself


# Classes are the first two characters. 22: data exception, 23: integrity constraint, 54: a limit such as the size of an index
# entry, 44: the check of a view.
_ROWS: Final = ("22", "23", "44", "54")
# 0A: feature not supported, 28: sign-in, 2F/38/39: a function of the operator's, 3D: database, 3F: schema, 42: names, rights,
# types, F0: the server's configuration file, P0: an exception raised in a trigger.
_OPERATOR: Final = ("0A", "28", "2F", "38", "39", "3D", "3F", "42", "F0")
_RAISED: Final = "P0001"  # RAISE in a trigger: how triggers refuse rows
_NO_PARTITION: Final = "23514"  # a check constraint has a name; a missing partition has none
_KINDS: Final = {
    "25006": "read_only",
    "40001": "conflict",
    "40P01": "conflict",
    "53100": "disk",
    "53200": "memory",
    "53300": "busy",
    "55P03": "busy",
    "57014": "timeout",
}
_OTHER: Final = "server"
_SLOW: Final = frozenset({"read_only", "disk", "memory", "busy"})
_ADVICE: Final = {
    "28": "does not accept our sign-in: check username, password and pg_hba.conf",
    "3D": "has no such database: check the sink's database",
    "3F": "has no such schema: run `blobtide sink-setup`",
    "42501": "does not allow it: the user needs INSERT and SELECT on the table and TEMPORARY on the database; for the layout "
    "daily it must own the table",
    "42P10": "has no unique key on the columns by which rows are told apart: run `blobtide sink-setup`",
    "23514": "has no partition for the day of a row: with layout daily the sink makes them",
}
_OTHER_ADVICE: Final = "has another table than this sink writes to: run `blobtide sink-setup`"
# A refused connection has no code, only text, which the server may have translated.
_CONNECT: Final = (
    (re.compile(r"password authentication failed|no password supplied|role \S+ does not exist|no pg_hba\.conf entry|"
                r"authentication failed|certificate authentication", re.IGNORECASE), _ADVICE["28"]),
    (re.compile(r"database \S+ does not exist", re.IGNORECASE), _ADVICE["3D"]),
    (re.compile(r"permission denied for database", re.IGNORECASE), "does not let this user connect to the database"),
    (re.compile(r"certificate verify failed|signature failure|server certificate for|root certificate", re.IGNORECASE),
     "shows a certificate that is not accepted: check ca_file and the names in the certificate"),
    (re.compile(r"server does not support SSL", re.IGNORECASE), "does not offer TLS"),
)  # fmt: skip


def fault_of(error: psycopg.Error) -> PostgresFault:
    """Return whose fault an error is. One without a code is about the connection."""
    state = error.sqlstate or ""
    if state == _NO_PARTITION and not error.diag.constraint_name:
        return PostgresFault.OPERATOR
    if state[:2] in _ROWS or state == _RAISED:
        return PostgresFault.ROWS
    return PostgresFault.OPERATOR if state[:2] in _OPERATOR else PostgresFault.WORLD


def refused(error: psycopg.Error) -> RowsRefused:
    """Return the exception for a transaction that failed because of its rows. Its reason shows no value of a row."""
    where = "".join(
        f", {what} {name}"
        for what, name in (("column", error.diag.column_name), ("constraint", error.diag.constraint_name))
        if name
    )
    return RowsRefused(ErrorCode.REFUSED, f"postgres refuses the row: {type(error).__name__} ({error.sqlstate}){where}")


def retry_of(error: psycopg.Error) -> Retry:
    """Return the exception for an error while writing that is not about rows. What the operator must repair is waited for."""
    if error.sqlstate is None:
        return Retry(f"postgres does not respond: {said(error)}", after=_PAUSE)
    if fault_of(error) is PostgresFault.OPERATOR:
        return Retry(f"postgres {advice_on(error)} ({said(error)})", after=_LONGER_PAUSE, kind="operator")
    kind = _KINDS.get(error.sqlstate, _OTHER)
    return Retry(f"postgres: {said(error)}", after=_LONGER_PAUSE if kind in _SLOW else _PAUSE, kind=kind)


def refused_too_often(refusal: RowsRefused) -> ConfigError:
    """Return the exception for a batch with too many refused rows."""
    advice = "refuses row after row: change its table, or leave such rows out (`where`)"
    return ConfigError(f"postgres {advice}. The last one: {refusal.reason}")


def start_error(error: psycopg.Error) -> ConfigError | ServerUnreachable:
    """Return the exception for an error at the start."""
    if error.sqlstate is None:
        text = str(error)
        for pattern, advice in _CONNECT:
            if pattern.search(text):
                return ConfigError(f"postgres {advice} ({said(error)})")
        return ServerUnreachable(f"postgres does not respond: {said(error)}; is it running, and are the sink's hosts right?")
    if fault_of(error) is PostgresFault.WORLD:
        return ServerUnreachable(f"postgres: {said(error)}")
    return ConfigError(f"postgres {advice_on(error)} ({said(error)})")


def advice_on(error: psycopg.Error) -> str:
    """Return what the operator should do about an error."""
    state = error.sqlstate or ""
    return _ADVICE.get(state) or _ADVICE.get(state[:2]) or _OTHER_ADVICE


def said(error: psycopg.Error) -> str:
    """Return an error's code and text on one line."""
    text = " ".join((error.diag.message_primary or str(error)).split())
    return excerpt(f"{error.sqlstate}: {text}" if error.sqlstate else text, _TEXT_LIMIT)
