"""What formats of requests share. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.messages.dead_letters import ErrorCode
from services.parser.dictionary_columns import Rows
from services.parser.logs.extract import Extract, Family, Verdicts, flags, valid
from services.parser.logs.formats.json_format import with_time
from services.parser.logs.members import MemberColumns
from services.parser.logs.numbers import integers, scaled, small_numbers
from services.parser.logs.requests import read_requests
from services.parser.logs.texts import EMPTY, as_words, without_dashes
from services.parser.logs.trace_context import context_columns

_NUMBERS: Final = ("http_response_body_size", "http_response_size", "http_request_size")
_SMALL: Final = ("http_response_status_code", "server_port")
_WORDS: Final = ("remote_user", "user_agent", "server_address", "cache_status")
_IDENT: Final = "ident"
_MILLISECONDS: Final = "response_ms"
_TAKEN: Final = ("collected", "stream", "request", "http_request_method", "target", "time", "time_ms")
_A_MILLISECOND: Final = 1_000  # in microseconds
_TEXTS: Final = ("client_address", "referer", "correlation_id", "trace_id", "span_id")


def request_columns(members: MemberColumns) -> dict[str, pa.Array]:
    """Return the columns of requests that lines of JSON have."""
    members.take(_TAKEN, (*_TEXTS, *_WORDS, *_NUMBERS, *_SMALL, _IDENT, _MILLISECONDS))
    columns: dict[str, pa.Array] = {name: members.text(name, dash=True) for name in _TEXTS if members.has(name)}
    columns |= context_columns(members, columns)
    columns |= {name: members.words(name, dash=True) for name in _WORDS if members.has(name)}
    columns |= {name: members.converted(name, integers, dash=True) for name in _NUMBERS if members.has(name)}
    columns |= {name: members.converted(name, small_numbers, dash=True) for name in _SMALL if members.has(name)}
    if members.has(_MILLISECONDS):
        columns["response_time"] = members.converted(_MILLISECONDS, partial(scaled, factor=_A_MILLISECOND), dash=True)
    ident = members.text(_IDENT, dash=True) if members.has(_IDENT) else None
    return columns | _users(columns.get("remote_user"), ident)


def typed(texts: Mapping[str, pa.StringArray]) -> dict[str, pa.Array]:
    """Return columns of requests with their types, given as text, in which ``-`` and nothing stand for null."""
    given = {name: without_dashes(text) for name, text in texts.items()}
    columns: dict[str, pa.Array] = {name: given[name] for name in _TEXTS if name in given}
    columns |= {name: as_words(given[name]) for name in _WORDS if name in given}
    columns |= {name: integers(given[name]) for name in _NUMBERS if name in given}
    columns |= {name: small_numbers(given[name]) for name in _SMALL if name in given}
    return columns | _users(columns.get("remote_user"), given.get(_IDENT))


def of_request_lines(
    name: str, lines: Rows, requests: pa.StringArray, columns: Mapping[str, pa.Array], verdicts: Verdicts
) -> Extract:
    """Return rows whose request is one text, such as ``GET /path HTTP/1.1``; those that are no requests are skipped."""
    missing = ~valid(requests)
    verdicts.refuse(lines[missing], ErrorCode.BAD_RECORD, f"{name}: no request line")
    found = read_requests(requests)
    kept = ~missing
    for reason, rows in found.skipped.items():
        verdicts.skip(lines[kept & rows], reason)
        kept &= ~rows
    server = with_authority(columns.get("server_address"), found.authority)
    extract = Extract(Family.REQUEST, name, lines, {**columns, **found.columns, "server_address": server}).only(kept)
    return with_path(with_time(extract, verdicts), verdicts)


def with_path(extract: Extract, verdicts: Verdicts) -> Extract:
    """Refuse rows without a path."""
    path = extract.columns["url_path"]
    found = pc.equal(path, EMPTY)
    if not found.true_count and not found.null_count:
        return extract
    pathless = flags(found) | ~valid(path)
    verdicts.refuse(extract.lines[pathless], ErrorCode.BAD_RECORD, f"{extract.format}: a request without a path")
    return extract.only(~pathless)


def with_authority(server: pa.Array | None, authority: pa.StringArray) -> pa.Array:
    """Return the server that the log names, otherwise the one that the request's target names."""
    if server is None:
        return authority.dictionary_encode()
    if authority.null_count == len(authority):
        return server
    return pc.coalesce(server.cast(pa.string()), authority).dictionary_encode()


def _users(users: pa.Array | None, idents: pa.StringArray | None) -> dict[str, pa.Array]:
    """Return the column of users: where there is none, the user that `identd` names."""
    if idents is None or idents.null_count == len(idents):
        return {}
    return {"remote_user": as_words(idents if users is None else pc.coalesce(users.cast(pa.string()), idents))}
