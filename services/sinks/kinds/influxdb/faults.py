"""What a server's answer to a write means: which points are written, and whose fault it is if some are not.

==========================  ============================================================================================
status                      meaning
==========================  ============================================================================================
2xx                         all points are written
400, 422                    some or all lines are refused. Version 3 names them. Versions 1 and 2 say at most how many: they
                            have written the others (a partial write), or nothing (a line that cannot be parsed)
413                         the request is too large
401, 403                    the operator's fault: sign-in or rights
all others                  the server cannot accept points now: the database is missing, a limit is reached, it is busy
==========================  ============================================================================================

A limit of the server (series, values of a tag, cache) is reported like a refused line, but is no line's fault.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import msgspec

from libs.common.errors import ConfigError, Retry
from libs.common.http.client import Answer
from libs.common.security.redaction import excerpt

_PAUSE: Final = 1.0
_LONGER_PAUSE: Final = 5.0
_DROPPED: Final = re.compile(r"dropped=(\d+)")
_OF_THE_SERVER: Final = re.compile(
    r"max-series-per-database|max-values-per-tag|max series|series limit|cache-max-memory|cache maximum memory"
    r"|limit of (?:columns|tables)|adding a new column would exceed|timeout|engine is closed|read-only",
    re.IGNORECASE,
)
# Errors that name what is wrong with a line, without its values; the text of all others may quote the line.
_NAMED: Final = (
    re.compile(
        r'field type conflict: input field "[^"]{1,200}" on measurement "[^"]{1,200}" is type \w+, already exists as type \w+'
    ),
    re.compile(r"invalid column type for column '[^']{1,200}', expected [\w:]+, got [\w:]+"),
    re.compile(r"points? beyond retention policy", re.IGNORECASE),
    re.compile(r"max key length exceeded"),
)
_UNPARSABLE: Final = re.compile(r"unable to parse|parsing failed|could not parse", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AllWritten:
    """Every line is written."""


@dataclass(frozen=True, slots=True)
class TooLarge:
    """Nothing is written: the request is too large."""


@dataclass(frozen=True, slots=True)
class NamedLines:
    """These lines, by number from 0, are refused, and why; all others are written."""

    lines: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class SomeLines:
    """Some lines are refused, or all, and it is not known which.

    Attributes:
        reason: why, without values of rows.
        dropped: how many the server says it has dropped; 0 if it does not say.
        is_own_fault: whether the lines are at fault whatever becomes of others.
    """

    reason: str
    dropped: int
    is_own_fault: bool


Written = AllWritten | TooLarge | NamedLines | SomeLines


class _Line(msgspec.Struct):
    line_number: int = 0
    error_message: str = ""


class _Answer(msgspec.Struct):
    error: str = ""
    message: str = ""
    data: Any = None


def read_answer(answer: Answer, lines: int) -> Written:
    """Return what became of a request with so many lines.

    Raises:
        Retry: if the server cannot accept points now.
        ConfigError: if it does not let us write.
    """
    status = answer.status
    if status in {HTTPStatus.OK, HTTPStatus.NO_CONTENT}:
        return AllWritten()
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return TooLarge()
    said = _said(answer)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise ConfigError(
            f"influxdb answers {status}: check the sign-in, and that it has the right to write ({excerpt(said.error)})"
        )
    if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
        return _refused(said, lines)
    text = excerpt(said.error) or "not an answer of InfluxDB; is the URL correct?"
    raise Retry(f"influxdb answers {status}: {text}", after=answer.retry_after or _PAUSE, kind=f"status_{status}")


def is_missing(answer: Answer) -> bool:
    """Return whether an answer says that the database or the bucket is missing."""
    return answer.status == HTTPStatus.NOT_FOUND and "not found" in _said(answer).error.lower()


def error_text(answer: Answer) -> str:
    """Return what a server says of an error, as one line."""
    return excerpt(_said(answer).error)


def _refused(said: _Answer, lines: int) -> Written:
    if _OF_THE_SERVER.search(said.error):
        raise Retry(f"influxdb has reached a limit of its own: {excerpt(said.error)}", after=_LONGER_PAUSE, kind="limit")
    if named := _named_lines(said.data, lines):
        return NamedLines(named)
    dropped = _DROPPED.search(said.error)
    return SomeLines(_reason(said.error), int(dropped[1]) if dropped else 0, bool(_UNPARSABLE.search(said.error)))


def _named_lines(data: Any, lines: int) -> dict[int, str]:
    """Read the lines that version 3 names; empty if it names none, or one that was not sent."""
    try:
        found = msgspec.convert(data, list[_Line])
    except msgspec.ValidationError:
        return {}
    for line in found:
        if _OF_THE_SERVER.search(line.error_message):
            raise Retry(
                f"influxdb has reached a limit of its own: {excerpt(line.error_message)}", after=_LONGER_PAUSE, kind="limit"
            )
    named = {line.line_number - 1: _reason(line.error_message) for line in found}
    return named if all(0 <= number < lines for number in named) else {}


def _reason(text: str) -> str:
    shown = next((match[0] for pattern in _NAMED if (match := pattern.search(text))), "it cannot be parsed")
    return f"influxdb refuses the point: {excerpt(shown)}"


def _said(answer: Answer) -> _Answer:
    """Read the body of an error: ``error`` in versions 1 and 3, ``message`` in version 2; text of anything else."""
    try:
        said = msgspec.json.decode(answer.body, type=_Answer)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return _Answer(error=answer.body.decode(errors="replace").strip())
    return _Answer(error=said.error or said.message, data=said.data)
