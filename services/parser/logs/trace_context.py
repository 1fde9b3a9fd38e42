"""What lines of requests say about their trace: in members of their own, or in a header that they quote. Pure.

Headers are ``traceparent`` (W3C Trace Context, section 3.2: ``version-traceid-parentid-flags``) and ``b3`` (Zipkin's B3 in one
header: ``traceid-spanid-sampled-parentspanid``, of which the last two may be missing). In ``traceparent``, the span is that of
whoever sent the request; in B3, both ends have the same span.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from services.parser.logs.members import MemberColumns
from services.parser.logs.texts import NO_TEXT

PARENT: Final = "parent_span_id"
"""The column of what lines say about the span that theirs is a part of; rows of requests do not have it."""

MEMBERS_OF_CONTEXT: Final[Mapping[str, str]] = {
    PARENT: "parent_span_id parentspanid x-b3-parentspanid",
    "traceparent": "traceparent trace_parent",
    "b3": "b3",
}
"""The fields of the context that have no column in rows of requests, and the members that each may be."""

MEMBERS_OF_TRACE: Final[Mapping[str, tuple[str, ...]]] = {
    "trace_id": ("traceid", "trace_id", "x-b3-traceid"),
    "span_id": ("spanid", "span_id", "x-b3-spanid"),
    **{name: tuple(members.split()) for name, members in MEMBERS_OF_CONTEXT.items()},
}
"""The members that Java programs and their servers log."""

CONTEXT: Final = frozenset(MEMBERS_OF_CONTEXT)

_HEADERS: Final[Mapping[str, str]] = {
    "traceparent": rf"^(?:[0-9a-e][0-9a-f]|f[0-9a-e])-(?P<trace_id>[0-9a-f]{{32}})-(?P<{PARENT}>[0-9a-f]{{16}})-[0-9a-f]{{2}}",
    "b3": (
        r"^(?P<trace_id>[0-9a-f]{16}(?:[0-9a-f]{16})?)-(?P<span_id>[0-9a-f]{16})"
        rf"(?:-[01d](?:-(?P<{PARENT}>[0-9a-f]{{16}}))?)?$"
    ),
}
_TRACE: Final = r"^(?:[0-9a-f]{16}){1,2}$"
_SPAN: Final = r"^[0-9a-f]{16}$"
_ZEROS: Final = r"^0+$"
_HALF_A_TRACE: Final = 16


def context_columns(members: MemberColumns, stated: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    """Return the columns of ids that headers say, where `stated` does not have them, and `PARENT`."""
    found = {name: stated[name] for name in ("trace_id", "span_id") if name in stated}
    if members.has(PARENT):
        found[PARENT] = members.text(PARENT, dash=True)
    for header, pattern in _HEADERS.items():
        if members.has(header):
            for name, ids in _parts(members.text(header), pattern):
                found[name] = pc.coalesce(found[name], ids) if name in found else ids
    return found


def trace_ids(texts: pa.StringArray) -> pa.StringArray:
    """Return the texts that are ids of traces, as 32 hex digits; null for others. B3 has shorter ones as well."""
    found = _valid(texts, _TRACE)
    short = pc.equal(pc.binary_length(found), _HALF_A_TRACE)
    return pc.if_else(short, pc.binary_join_element_wise("0" * _HALF_A_TRACE, found, ""), found) if short.true_count else found


def span_ids(texts: pa.StringArray) -> pa.StringArray:
    """Return the texts that are ids of spans, as 16 hex digits; null for others."""
    return _valid(texts, _SPAN)


def _parts(headers: pa.StringArray, pattern: str) -> Iterator[tuple[str, pa.StringArray]]:
    parts = pc.extract_regex(pc.ascii_lower(headers), pattern)
    for field in parts.type:
        ids = pc.struct_field(parts, field.name)
        yield field.name, pc.if_else(pc.match_substring_regex(ids, "^0*$"), NO_TEXT, ids)


def _valid(texts: pa.StringArray, pattern: str) -> pa.StringArray:
    """Return the texts that fit, in lower case, but for those of zeros, which mean that there is none."""
    if texts.null_count == len(texts):
        return texts
    lower = pc.ascii_lower(texts)
    fits = pc.and_not(pc.match_substring_regex(lower, pattern), pc.match_substring_regex(lower, _ZEROS))
    return pc.if_else(fits, lower, NO_TEXT)
