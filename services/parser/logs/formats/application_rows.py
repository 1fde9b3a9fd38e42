"""What formats of application logs share. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa

from services.parser.dictionary_columns import Rows
from services.parser.logs.extract import Extract, Family, LineSkip, Verdicts, valid
from services.parser.logs.formats.json_format import with_time
from services.parser.logs.levels import severity_numbers
from services.parser.logs.members import MemberColumns
from services.parser.logs.numbers import integers
from services.parser.logs.texts import are_blank

_TEXTS: Final = (
    "body", "exception_message", "exception_stacktrace", "client_address", "correlation_id", "trace_id", "span_id",
)  # fmt: skip
_TAKEN: Final = ("collected", "stream", "seconds", "nanoseconds", "time", "time_ms", "thread_id")
_WORDS: Final = ("severity_text", "logger", "thread", "exception_type", "category", "operation", "resource_id", "service")


def application_columns(members: MemberColumns) -> dict[str, pa.Array]:
    """Return the columns of application logs that lines of JSON have."""
    members.take((*_TAKEN, *_TEXTS, *_WORDS))
    columns = {name: members.text(name) for name in _TEXTS if members.has(name)}
    columns |= {name: members.words(name) for name in _WORDS if members.has(name)}
    if members.has("thread_id"):
        columns["thread_id"] = members.converted("thread_id", integers)
    return with_severity(columns)


def with_severity(columns: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    """Add the numbers of levels."""
    if "severity_text" not in columns:
        return dict(columns)
    return {**columns, "severity_number": severity_numbers(columns["severity_text"])}


def application_rows(name: str, lines: Rows, columns: Mapping[str, pa.Array], verdicts: Verdicts) -> Extract:
    """Return rows that have a time."""
    return with_time(Extract(Family.APPLICATION, name, lines, columns), verdicts)


def without_blank(extract: Extract, verdicts: Verdicts) -> Extract:
    """Skip rows that have neither a message nor an exception."""
    blank = np.ones(len(extract.lines), np.bool_)
    if "body" in extract.columns:
        blank = are_blank(extract.columns["body"])
    for name in ("exception_type", "exception_message", "exception_stacktrace"):
        if name in extract.columns and blank.any():
            blank &= ~valid(extract.columns[name])
    verdicts.skip(extract.lines[blank], LineSkip.BLANK_MESSAGE)
    return extract.only(~blank)
