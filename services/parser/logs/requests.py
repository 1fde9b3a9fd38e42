"""Request lines such as ``GET /path?query HTTP/1.1`` as columns. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.parser.dictionary_columns import mapped
from services.parser.logs.extract import LineSkip
from services.parser.logs.lines import Flags
from services.parser.logs.texts import EMPTY, NO_TEXT, Texts, as_words

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
"""The nine methods of RFC 9110 and RFC 5789."""

_BLANK: Final = ord(" ")
_QUESTION: Final = ord("?")
_SLASH: Final = ord("/")
_DASH: Final = ord("-")

_VERSION: Final = re.compile(r"HTTP/(?P<version>[0-9](?:\.[0-9])?)\Z")
_ABSOLUTE: Final = r"^[A-Za-z][A-Za-z0-9+.-]*://(?P<authority>[^/]*)(?P<path>.*)$"
_TARGET: Final = r"(?s)^(?P<path>[^?]*)(?:\?(?P<query>.*))?$"
_PARTS: Final = 7  # method, blank, path, question mark, query, blank, protocol
_WANTED: Final = (0, 2, 4, 6)


@dataclass(frozen=True, slots=True)
class Requests:
    """Request lines, taken apart.

    Attributes:
        columns: ``http_request_method``, ``url_path``, ``url_query``, ``network_protocol_version``.
        authority: the server named by a target such as ``http://shop.example/cart``; null if it names none.
        skipped: why a row is none, by the reason; the columns are then of no use.
    """

    columns: Mapping[str, pa.Array]
    authority: pa.StringArray
    skipped: Mapping[LineSkip, Flags]


def read_requests(lines: pa.StringArray) -> Requests:
    """Take request lines apart."""
    texts = Texts.of(pc.fill_null(lines, "") if lines.null_count else lines)
    absent = (texts.sizes == 0) | ((texts.sizes == 1) & (texts.first() == _DASH))
    method, target, query, protocol = _cut(texts)
    methods, protocols = as_words(method), as_words(protocol)
    versions = [_version(protocol) for protocol in protocols.dictionary.to_pylist()]
    is_http = _of_words(protocols, [version is not None for version in versions])
    known = _of_words(methods, [method in METHODS for method in methods.dictionary.to_pylist()])
    path, authority = _without_authority(target)
    return Requests(
        {
            "http_request_method": methods,
            "url_path": path,
            "url_query": query,
            "network_protocol_version": mapped(protocols, versions),
        },
        authority,
        {
            LineSkip.NO_REQUEST: absent,
            LineSkip.NOT_HTTP: ~absent & ~is_http,
            LineSkip.UNKNOWN_METHOD: ~absent & is_http & ~known,
        },
    )


def _version(protocol: str) -> str | None:
    found = _VERSION.match(protocol)
    return found["version"] if found else None


def _of_words(words: pa.DictionaryArray, values: list[bool]) -> Flags:
    """Return the value of each row's word."""
    if len(values) == 1:
        return np.full(len(words), values[0], np.bool_)
    found: Flags = np.array(values, np.bool_)[words.indices.to_numpy()]
    return found


def read_targets(targets: pa.StringArray) -> tuple[pa.StringArray, pa.StringArray, pa.StringArray]:
    """Return path, query and authority of targets such as ``/cart?page=2``; null where there is none."""
    found = pc.extract_regex(targets, _TARGET)
    path, authority = _without_authority(pc.struct_field(found, "path"))
    query = pc.struct_field(found, "query")
    return path, pc.if_else(pc.equal(query, EMPTY), NO_TEXT, query), authority


def _cut(texts: Texts) -> tuple[pa.StringArray, pa.StringArray, pa.StringArray, pa.StringArray]:
    """Cut request lines at the first and the last blank, and at the first question mark between.

    Return methods, targets without a query, queries, which are null where there is none, and protocols.
    """
    content, count = texts.whole, len(texts.starts)
    starts = texts.starts - texts.starts[:1]
    ends = starts + texts.sizes
    blanks = np.append(np.flatnonzero(content == _BLANK), len(content))
    first = np.minimum(blanks[np.searchsorted(blanks, starts)], ends)
    last = blanks[np.maximum(np.searchsorted(blanks, ends) - 1, 0)]
    whole = (first < last) & (last < ends)  # otherwise all of it is the method
    if not whole.all():
        first, last = np.where(whole, first, ends), np.where(whole, last, ends)
    marks = np.append(np.flatnonzero(content == _QUESTION), len(content))
    mark = np.minimum(marks[np.searchsorted(marks, first)], last)
    cuts = np.empty((count, _PARTS), np.int32)
    cuts[:, 0], cuts[:, 1], cuts[:, 3], cuts[:, 5] = starts, first, mark, last
    cuts[:, 2], cuts[:, 4], cuts[:, 6] = np.minimum(first + 1, ends), np.minimum(mark + 1, last), np.minimum(last + 1, ends)
    edges = np.append(cuts.ravel(), cuts.dtype.type(len(content)))
    pieces = pa.Array.from_buffers(pa.string(), len(edges) - 1, [None, pa.py_buffer(edges), pa.py_buffer(content)])
    wanted = np.array(_WANTED)[:, np.newaxis] + np.arange(count) * _PARTS
    parts = pieces.take(pa.array(wanted.ravel()))
    method, target, query, protocol = (parts.slice(number * count, count) for number in range(len(_WANTED)))
    if count and bool((mark + 1 < last).all()):
        return method, target, query, protocol
    return method, target, pc.if_else(pc.equal(query, EMPTY), NO_TEXT, query), protocol


def _without_authority(targets: pa.StringArray) -> tuple[pa.StringArray, pa.StringArray]:
    """Return the paths of targets, and the authorities of those that name one."""
    others = Texts.of(targets).first() != _SLASH
    if not others.any() or not pc.match_substring(targets.filter(pa.array(others)), "://").true_count:
        return targets, pa.nulls(len(targets), pa.string())
    found = pc.extract_regex(targets, _ABSOLUTE)
    path = pc.struct_field(found, "path")
    path = pc.if_else(pc.equal(path, EMPTY), "/", path)
    return pc.coalesce(path, targets), pc.struct_field(found, "authority")
