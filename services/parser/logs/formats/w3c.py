"""Logs in the extended format of the W3C, as IIS and Azure App Service write them. Pure.

A ``#Fields:`` line names the fields of the lines that follow it. A segment may begin anywhere in a blob: lines before the first
such line in their segment have the configured fields, by default those of App Service. Blanks in values are written as ``+``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.formats.json import json_documents
from services.parser.dictionary_columns import Rows
from services.parser.logs.extract import Extract, Family, LineSkip, Verdicts, flags, valid
from services.parser.logs.formats.json_format import with_time
from services.parser.logs.formats.request_rows import typed, with_path
from services.parser.logs.formats.text_format import TextLines
from services.parser.logs.lines import Flags
from services.parser.logs.numbers import scaled
from services.parser.logs.requests import METHODS
from services.parser.logs.texts import NO_TEXT
from services.parser.logs.times import iso_times

NAME: Final = "w3c"

APP_SERVICE: Final = (
    "date", "time", "s-sitename", "cs-method", "cs-uri-stem", "cs-uri-query", "s-port", "cs-username", "c-ip",
    "cs(User-Agent)", "cs(Cookie)", "cs(Referer)", "cs-host", "sc-status", "sc-substatus", "sc-win32-status", "sc-bytes",
    "cs-bytes", "time-taken",
)  # fmt: skip
"""The fields of the HTTP logs of App Service."""

_DIRECTIVE: Final = r"^#(?:Fields|Software|Version|Date|Start-Date|End-Date|Remark): ?"
_FIELDS: Final = re.compile(r"#Fields: ?(.*)")
_BEGINS: Final = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? "
_COLUMNS: Final = {
    "cs-username": "remote_user",
    "c-ip": "client_address",
    "cs(user-agent)": "user_agent",
    "cs(referer)": "referer",
    "cs-host": "server_address",
    "s-port": "server_port",
    "sc-status": "http_response_status_code",
    "sc-bytes": "http_response_size",
    "cs-bytes": "http_request_size",
}
_READ: Final = frozenset(
    {*_COLUMNS, "date", "time", "cs-method", "cs-uri-stem", "cs-uri-query", "cs-version", "s-computername", "time-taken"}
)
_MILLISECOND: Final = 1_000  # in microseconds
_VERSION: Final = r"^HTTP/(?P<version>[0-9](?:\.[0-9])?)$"
_PARSING: Final = pa.csv.ParseOptions(delimiter=" ", quote_char=False, double_quote=False, escape_char=False)


def w3c(lines: TextLines, verdicts: Verdicts) -> tuple[list[Extract], TextLines]:
    """Read lines of the extended format."""
    values = lines.values
    directive = flags(pc.match_substring_regex(values, _DIRECTIVE))
    verdicts.skip(lines.numbers[directive], LineSkip.DIRECTIVE)
    spec, specs = _specs(lines, values, directive)
    dated = flags(pc.match_substring_regex(values, _BEGINS))
    count = pc.count_substring(values, " ").to_numpy() + 1
    sizes = np.array([len(fields) for fields in specs], np.int64)[spec]
    stated = (spec > 0) & ~directive & dated
    mine = dated & (count == sizes) & ~directive
    verdicts.refuse(lines.numbers[stated & ~mine], ErrorCode.BAD_RECORD, f"{NAME}: not the number of fields that #Fields names")
    rows = [_rows(lines.only(mine & (spec == number)), specs[number], verdicts) for number in np.unique(spec[mine]).tolist()]
    return rows, lines.only(~(directive | stated | mine))


def _specs(lines: TextLines, values: pa.StringArray, directive: Flags) -> tuple[Rows, list[tuple[str, ...]]]:
    """Return for each line the number of its list of fields, 0 if its segment has not said it, and the lists."""
    configured = lines.surroundings.options.w3c_fields or APP_SERVICE
    specs = [tuple(name.lower() for name in configured)]
    segment = lines.surroundings.lines.segment[lines.numbers]
    spec = np.zeros(len(lines), np.int64)
    for at, text in zip(np.flatnonzero(directive).tolist(), values.filter(pa.array(directive)).to_pylist(), strict=True):
        found = _FIELDS.match(text)
        if found:
            specs.append(tuple(found[1].lower().split()))
            spec[at:][segment[at:] == segment[at]] = len(specs) - 1
    return spec, specs


def _rows(lines: TextLines, names: Sequence[str], verdicts: Verdicts) -> Extract:
    fields = _fields(lines, names)
    columns = typed({column: _blanks(fields[name]) for name, column in _COLUMNS.items() if name in fields})
    columns |= _others(fields, len(lines))
    methods = fields.get("cs-method", pa.nulls(len(lines), pa.string()))
    known = flags(pc.is_in(methods, pa.array(sorted(METHODS))))
    absent = ~valid(methods)
    verdicts.skip(lines.numbers[absent], LineSkip.NO_REQUEST)
    verdicts.skip(lines.numbers[~absent & ~known], LineSkip.UNKNOWN_METHOD)
    extract = Extract(Family.REQUEST, NAME, lines.numbers, columns).only(known)
    return with_path(with_time(extract, verdicts), verdicts)


def _fields(lines: TextLines, names: Sequence[str]) -> dict[str, pa.StringArray]:
    """Return the fields as columns; ``-`` is null. If a name is there twice, its last field counts."""
    text = pc.binary_join_element_wise(lines.values, "", "\n").buffers()[2]
    numbered = [str(number) for number in range(len(names))]
    reading = pa.csv.ReadOptions(use_threads=False, column_names=numbered, block_size=text.size + 1)
    converting = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(numbered, pa.string()), null_values=["-"], strings_can_be_null=True, check_utf8=False
    )
    table = pa.csv.read_csv(pa.py_buffer(text), reading, _PARSING, converting)
    return {name: table.column(number).combine_chunks() for number, name in enumerate(names)}


def _others(fields: dict[str, pa.StringArray], rows: int) -> dict[str, pa.Array]:
    """Return the columns that are more than a field by another name."""
    absent = pa.nulls(rows, pa.string())
    date, clock = fields.get("date", absent), fields.get("time", absent)
    methods, versions = fields.get("cs-method", absent), fields.get("cs-version", absent)
    return {
        "time": iso_times(pc.binary_join_element_wise(date, pc.binary_join_element_wise(clock, "Z", ""), " ")),
        "http_request_method": methods.dictionary_encode(),
        "url_path": fields.get("cs-uri-stem", absent),
        "url_query": fields.get("cs-uri-query", absent),
        "network_protocol_version": pc.struct_field(pc.extract_regex(versions, _VERSION), "version").dictionary_encode(),
        "response_time": scaled(fields.get("time-taken", absent), _MILLISECOND),
        "host": fields.get("s-computername", absent).dictionary_encode(),
        "attributes": _attributes(dict(_unread(fields)), rows),
    }


def _unread(fields: dict[str, pa.StringArray]) -> Iterator[tuple[str, pa.StringArray]]:
    for name, column in fields.items():
        if name not in _READ and column.null_count < len(column):
            yield name, column


def _attributes(columns: dict[str, pa.StringArray], rows: int) -> pa.Array:
    if not columns:
        return pa.nulls(rows, pa.string())
    documents = json_documents({name.replace(".", "_"): column for name, column in columns.items()}).combine_chunks()
    return pc.if_else(pc.equal(documents, "{}"), NO_TEXT, documents)


def _blanks(column: pa.StringArray) -> pa.StringArray:
    return pc.replace_substring(column, "+", " ")
