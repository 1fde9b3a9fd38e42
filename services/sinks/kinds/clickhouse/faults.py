"""What ClickHouse's exception codes mean for a write: whose fault it is.

The server reports an error as ``Code: N. DB::Exception: text (NAME)``. The numbers never change their meaning; a test compares
this table with the engine's own list, `errorCodeToName`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Final

from libs.common.errors import ConfigError, Retry
from libs.common.http.client import Answer
from libs.common.messages.dead_letters import ErrorCode
from libs.common.security.redaction import excerpt

_ERROR: Final = re.compile(r"Code: (\d+)\. DB::Exception: (?:Code: \d+\. DB::Exception: )?(.*)", re.DOTALL)
_NAMED: Final = re.compile(r"\b(column|constraint) `([^`]{1,100})`", re.IGNORECASE)
_TEXT_LIMIT: Final = 300
_PAUSE: Final = 1.0
_LONGER_PAUSE: Final = 5.0  # for conditions that end only through work of the server's own, such as merges


class ClickHouseFault(Enum):
    """Whose fault an error is."""

    ROWS = auto()  # a value that the server does not accept
    OPERATOR = auto()  # rights, names, settings, types
    WORLD = auto()  # passes by itself


# Values that Arrow's types allow: the table may have narrower types, constraints and views.
_OF_ROWS: Final = {
    6: "CANNOT_PARSE_TEXT",
    27: "CANNOT_PARSE_INPUT_ASSERTION_FAILED",
    38: "CANNOT_PARSE_DATE",
    41: "CANNOT_PARSE_DATETIME",
    69: "ARGUMENT_OUT_OF_BOUND",
    72: "CANNOT_PARSE_NUMBER",
    131: "TOO_LARGE_STRING_SIZE",
    321: "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
    349: "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN",
    376: "CANNOT_PARSE_UUID",
    395: "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO",
    407: "DECIMAL_OVERFLOW",
    441: "CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING",
    467: "CANNOT_PARSE_BOOL",
    469: "VIOLATED_CONSTRAINT",
    675: "CANNOT_PARSE_IPV4",
    676: "CANNOT_PARSE_IPV6",
    691: "UNKNOWN_ELEMENT_OF_ENUM",
    760: "UNICODE_ERROR",
}
_SIGN_IN: Final = {
    192: "UNKNOWN_USER",
    193: "WRONG_PASSWORD",
    194: "REQUIRED_PASSWORD",
    195: "IP_ADDRESS_NOT_ALLOWED",
    516: "AUTHENTICATION_FAILED",
    720: "USER_EXPIRED",
    767: "REQUIRED_SECOND_FACTOR",
}
_RIGHTS: Final = {
    164: "READONLY",
    291: "DATABASE_ACCESS_DENIED",
    452: "SETTING_CONSTRAINT_VIOLATION",
    472: "READONLY_SETTING",
    497: "ACCESS_DENIED",
}
_TABLE: Final = {
    8: "THERE_IS_NO_COLUMN",
    10: "NOT_FOUND_COLUMN_IN_BLOCK",
    16: "NO_SUCH_COLUMN_IN_TABLE",
    44: "ILLEGAL_COLUMN",
    47: "UNKNOWN_IDENTIFIER",
    53: "TYPE_MISMATCH",
    60: "UNKNOWN_TABLE",
    70: "CANNOT_CONVERT_TYPE",
    81: "UNKNOWN_DATABASE",
    218: "TABLE_IS_DROPPED",
}
_SERVER: Final = {
    48: "NOT_IMPLEMENTED",
    50: "UNKNOWN_TYPE",
    62: "SYNTAX_ERROR",
    73: "UNKNOWN_FORMAT",
    115: "UNKNOWN_SETTING",
    344: "SUPPORT_IS_DISABLED",
    701: "CLUSTER_DOESNT_EXIST",
}
_ADVICE: Final = (
    (_SIGN_IN, "does not accept our sign-in: check username and password"),
    (_RIGHTS, "does not allow it: the user needs INSERT and SELECT on the table, and may set settings (no readonly profile)"),
    (_TABLE, "has another table than this sink writes to: run `blobtide sink-setup`"),
    (_SERVER, "does not know what this sink asks for: use ClickHouse 23.8 or newer"),
)
# All other codes count as passing, too: a row is never given up for a reason that is not its own.
_PASSING: Final = {
    159: "timeout",  # TIMEOUT_EXCEEDED
    209: "timeout",  # SOCKET_TIMEOUT
    173: "memory",  # CANNOT_ALLOCATE_MEMORY
    241: "memory",  # MEMORY_LIMIT_EXCEEDED
    243: "disk",  # NOT_ENOUGH_SPACE
    201: "busy",  # QUOTA_EXCEEDED
    202: "busy",  # TOO_MANY_SIMULTANEOUS_QUERIES
    252: "busy",  # TOO_MANY_PARTS
    439: "busy",  # CANNOT_SCHEDULE_TASK
    692: "busy",  # TOO_MANY_MUTATIONS
    700: "busy",  # USER_SESSION_LIMIT_EXCEEDED
    745: "busy",  # SERVER_OVERLOADED
    225: "replication",  # NO_ZOOKEEPER
    242: "replication",  # TABLE_IS_READ_ONLY
    285: "replication",  # TOO_FEW_LIVE_REPLICAS
    286: "replication",  # UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
    319: "replication",  # UNKNOWN_STATUS_OF_INSERT
    999: "replication",  # KEEPER_EXCEPTION
}
_OTHER: Final = "server"
_SLOW: Final = frozenset({"memory", "disk", "busy"})


# Whatever is in front of the server, such as a proxy, responds without a code.
_UNCODED: Final[Mapping[int, str]] = {
    HTTPStatus.UNAUTHORIZED: _ADVICE[0][1],
    HTTPStatus.FORBIDDEN: _ADVICE[0][1],
    HTTPStatus.NOT_FOUND: "is not what answers there: check the sink's hosts",
    HTTPStatus.METHOD_NOT_ALLOWED: "is not what answers there: check the sink's hosts",
}


@dataclass(frozen=True, slots=True)
class ServerError:
    """A server error: its code (0 if it gave none) and its text, which may quote values of rows."""

    status: int
    code: int
    text: str

    @classmethod
    def of(cls, answer: Answer) -> ServerError:
        """Read an unsuccessful response."""
        body = answer.body.decode(errors="replace").strip()
        match = _ERROR.search(body)
        code, text = (int(match[1]), match[2]) if match else (0, body)
        return cls(answer.status, code, excerpt(text, _TEXT_LIMIT))

    @property
    def fault(self) -> ClickHouseFault:
        """Whose fault it is; a body that is too large is the rows' fault, since fewer of them may fit."""
        if self.code in _OF_ROWS or self._too_large:
            return ClickHouseFault.ROWS
        return ClickHouseFault.OPERATOR if self._advice() is not None else ClickHouseFault.WORLD

    @property
    def refusal(self) -> tuple[ErrorCode, str]:
        """The code and reason for the dead letter of a refused row. Values of the row are in the letter, not in the reason."""
        if self._too_large:
            return ErrorCode.TOO_LARGE, "the row is larger than what stands before clickhouse lets through"
        where = f", {match[1].lower()} {match[2]}" if (match := _NAMED.search(self.text)) else ""
        return ErrorCode.REFUSED, f"clickhouse refuses the row: {_OF_ROWS[self.code]} (code {self.code}){where}"

    def exception(self) -> Retry | ConfigError:
        """Return the exception to raise; for an error of rows, it says that there are too many of them."""
        advice = self._advice()
        if advice is not None:
            return ConfigError(f"clickhouse {advice} ({self._said})")
        if self.fault is ClickHouseFault.ROWS:
            advice = "refuses row after row: change its table, or leave such rows out (`where`)"
            return ConfigError(f"clickhouse {advice}. The last one: {self.refusal[1]}")
        kind = _PASSING.get(self.code, _OTHER)
        return Retry(f"clickhouse: {self._said}", after=_LONGER_PAUSE if kind in _SLOW else _PAUSE, kind=kind)

    @property
    def _too_large(self) -> bool:
        return self.code == 0 and self.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE

    @property
    def _said(self) -> str:
        return f"code {self.code}: {self.text}" if self.code else f"HTTP status {self.status}: {self.text}"

    def _advice(self) -> str | None:
        if not self.code:
            return _UNCODED.get(self.status)
        return next((advice for codes, advice in _ADVICE if self.code in codes), None)
