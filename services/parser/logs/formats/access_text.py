"""Access logs in the common and the combined format of Apache and nginx, perhaps with the virtual host in front. Pure.

``[vhost:port ]host ident user [time] "request" status bytes ["referer" "user agent"[ more]]``. What follows is an attribute; a
number with a decimal point is the time to answer in seconds, which is what nginx's ``$request_time`` writes.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.formats.json import json_documents
from services.parser.dictionary_columns import Rows
from services.parser.logs.extract import Extract, Verdicts, flags
from services.parser.logs.formats.request_rows import of_request_lines, typed
from services.parser.logs.formats.text_format import TextLines
from services.parser.logs.lines import Flags
from services.parser.logs.numbers import scaled
from services.parser.logs.quotes import quotes_in
from services.parser.logs.texts import EMPTY, NO_TEXT
from services.parser.logs.times import access_times

NAME: Final = "combined"

_BEFORE: Final = (
    r"^(?:(?P<vhost>[^ ]+):(?P<port>\d{1,5}) )?(?P<host>[^ ]+) (?P<ident>[^ ]+) (?P<user>.+) "
    r"\[(?P<time>\d\d/[A-Z][a-z]{2}/\d{4}:[^\]]+)\] $"
)
_AFTER: Final = r"^ (?P<status>\d{3}|-) (?P<bytes>\d+|-)(?P<more> .*)?$"
_SECONDS: Final = r"^(?P<seconds>\d+\.\d+)(?P<more> .*)?$"
_A_SECOND: Final = 1_000_000  # in microseconds
_REQUEST, _COMBINED = 2, 6  # quotes


def access_text(lines: TextLines, verdicts: Verdicts) -> tuple[list[Extract], TextLines]:
    """Read access logs."""
    quotes, _ = quotes_in(lines.content)
    first = np.searchsorted(quotes, lines.bounds)
    count = np.diff(first)
    likely = (count >= _REQUEST) & (count & 1 == 0)
    if not likely.any():
        return [], lines
    if not likely.all():
        found, rest = access_text(lines.only(likely), verdicts)
        others = np.sort(np.concatenate((lines.numbers[~likely], rest.numbers)))
        return found, TextLines.of(others, lines.surroundings)
    parts = _Parts(lines, quotes, first[:-1], count >= _COMBINED)
    before, after = pc.extract_regex(parts.before(), _BEFORE), pc.extract_regex(parts.after(), _AFTER)
    matches = flags(pc.and_(before.is_valid(), after.is_valid()))
    if not matches.all():
        found = access_text(lines.only(matches), verdicts)[0] if matches.any() else []
        return found, lines.only(~matches)
    return [_rows(lines, parts, (before, after), verdicts)], lines.only(~matches)


class _Parts:
    """Where the quotes of lines are."""

    def __init__(self, lines: TextLines, quotes: Rows, first: Rows, combined: Flags) -> None:
        self._lines = lines
        self._quotes = np.append(quotes, np.full(_COMBINED, lines.bounds[-1]))
        self._first = first
        self._combined = combined

    def before(self) -> pa.StringArray:
        """Return what precedes the request."""
        return self._lines.between(self._lines.bounds[:-1], self._quote(0))

    def request(self) -> pa.StringArray:
        """Return the request."""
        return self._lines.between(self._quote(0) + 1, self._quote(1))

    def after(self) -> pa.StringArray:
        """Return what follows the request, up to the referer if there is one."""
        return self._lines.between(self._quote(1) + 1, np.where(self._combined, self._quote(2), self._ends))

    def quoted(self, number: int) -> pa.StringArray:
        """Return the text in the quotes of this number, from 0; empty in the common format."""
        start = np.where(self._combined, self._quote(2 * number) + 1, self._ends)
        return self._lines.between(start, np.where(self._combined, self._quote(2 * number + 1), self._ends))

    def more(self) -> pa.StringArray:
        """Return what follows the user agent; empty in the common format."""
        return self._lines.between(np.where(self._combined, self._quote(5) + 1, self._ends), self._ends)

    @property
    def _ends(self) -> Rows:
        return self._lines.bounds[1:]

    def _quote(self, number: int) -> Rows:
        return self._quotes[self._first + number]


def _rows(lines: TextLines, parts: _Parts, found: tuple[pa.StructArray, pa.StructArray], verdicts: Verdicts) -> Extract:
    before, after = found
    texts = {
        "client_address": pc.struct_field(before, "host"),
        "ident": pc.struct_field(before, "ident"),
        "remote_user": pc.struct_field(before, "user"),
        "server_address": pc.struct_field(before, "vhost"),
        "server_port": pc.struct_field(before, "port"),
        "http_response_status_code": pc.struct_field(after, "status"),
        "http_response_body_size": pc.struct_field(after, "bytes"),
        "referer": parts.quoted(1),
        "user_agent": parts.quoted(2),
    }
    columns = typed(texts)
    columns["time"] = access_times(pc.struct_field(before, "time"))
    more = pc.binary_join_element_wise(pc.struct_field(after, "more"), parts.more(), "")
    columns |= _of_rest(pc.utf8_trim(more, " "))
    return of_request_lines(NAME, lines.numbers, parts.request(), columns, verdicts)


def _of_rest(more: pa.StringArray) -> dict[str, pa.Array]:
    """Return the time to answer, if it is there, and everything else as attributes."""
    if not pc.not_equal(more, EMPTY).true_count:
        return {}
    found = pc.extract_regex(more, _SECONDS)
    rest = pc.utf8_trim(pc.if_else(found.is_valid(), pc.struct_field(found, "more"), more), " ")
    said = pc.if_else(pc.equal(rest, EMPTY), NO_TEXT, rest)
    documents = json_documents({"more": said}).combine_chunks()
    return {
        "response_time": scaled(pc.struct_field(found, "seconds"), _A_SECOND),
        "attributes": pc.if_else(said.is_valid(), documents, NO_TEXT),
    }
