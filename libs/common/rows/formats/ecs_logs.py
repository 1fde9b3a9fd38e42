"""Logs, and the spans of their requests, as Elastic Common Schema documents.

Fields that ECS defines have ECS's names and types; columns without an ECS field are placed under ``blobtide.log``, and a row's
origin under ``blobtide``, as in the documents of flows. What the log does not state is absent from the document.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.column_values import combined
from libs.common.rows.formats.ecs import ECS_VERSION, subscription_of
from libs.common.rows.row_type import WORD, RowType
from libs.common.rows.types.application import APPLICATION
from libs.common.rows.types.http import HTTP
from libs.common.rows.types.proxy import PROXY
from libs.common.rows.types.spans import SPANS

_FIRST: Final = {
    "@timestamp": ("date_nanos", "time"),
    "event.created": ("date", "observed_time"),
}
_OF_APPLICATION: Final = {
    "message": ("match_only_text", "body"),
    "log.level": ("keyword", "severity_text"),
    "log.logger": ("keyword", "logger"),
    "process.thread.name": ("keyword", "thread"),
    "process.thread.id": ("long", "thread_id"),
    "error.type": ("keyword", "exception_type"),
    "error.message": ("match_only_text", "exception_message"),
    "error.stack_trace": ("wildcard", "exception_stacktrace"),
    "event.action": ("keyword", "operation"),
    "blobtide.log.severity_number": ("short", "severity_number"),
    "blobtide.log.category": ("keyword", "category"),
    "blobtide.log.correlation_id": ("keyword", "correlation_id"),
}
_OF_REQUEST: Final = {
    "http.request.method": ("keyword", "http_request_method"),
    "url.path": ("wildcard", "url_path"),
    "url.query": ("keyword", "url_query"),
    "url.domain": ("keyword", "server_address"),
    "http.version": ("keyword", "network_protocol_version"),
    "http.response.status_code": ("long", "http_response_status_code"),
    "http.response.body.bytes": ("long", "http_response_body_size"),
    "http.response.bytes": ("long", "http_response_size"),
    "http.request.bytes": ("long", "http_request_size"),
    "http.request.referrer": ("keyword", "referer"),
    "http.request.id": ("keyword", "correlation_id"),
    "server.port": ("long", "server_port"),
    "user.name": ("keyword", "remote_user"),
    "user_agent.original": ("keyword", "user_agent"),
}
_OF_ANY: Final = {
    "client.address": ("keyword", "client_address"),
    "trace.id": ("keyword", "trace_id"),
    "span.id": ("keyword", "span_id"),
    "service.name": ("keyword", "service"),
    "service.environment": ("keyword", "environment"),
    "cloud.account.name": ("keyword", "subscription"),
    "orchestrator.namespace": ("keyword", "namespace"),
    "orchestrator.resource.name": ("keyword", "pod"),
    "container.name": ("keyword", "container"),
    "container.id": ("keyword", "container_id"),
    "host.name": ("keyword", "host"),
    "blobtide.log.pod_ip": ("ip", "pod_ip"),
    "blobtide.log.resource_id": ("keyword", "resource_id"),
    "blobtide.log.stream": ("keyword", "stream"),
    "blobtide.log.format": ("keyword", "format"),
    "blobtide.log.resource_attributes": ("text", "resource_attributes"),
    "blobtide.log.attributes": ("text", "attributes"),
    "blobtide.blob": ("keyword", "blob"),
    "blobtide.generation": ("keyword", "generation"),
    "blobtide.line_offset": ("long", "line_offset"),
    "blobtide.line_index": ("integer", "line_index"),
}
_OF_SPAN: Final = {
    "@timestamp": ("date_nanos", "time"),
    "event.end": ("date_nanos", "end_time"),
    "http.request.method": ("keyword", "http_request_method"),
    "url.path": ("wildcard", "url_path"),
    "url.domain": ("keyword", "server_address"),
    "http.response.status_code": ("long", "http_response_status_code"),
    "http.request.id": ("keyword", "correlation_id"),
    "blobtide.span.name": ("keyword", "name"),
    "blobtide.span.kind": ("keyword", "kind"),
    "blobtide.span.status": ("keyword", "status"),
    "blobtide.span.parent_id": ("keyword", "parent_span_id"),
    "blobtide.span.row_type": ("keyword", "row_type"),
}
_CACHE: Final = {"blobtide.log.cache_status": ("keyword", "cache_status")}

_COLUMNS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    APPLICATION.name: {**_FIRST, **_OF_APPLICATION, **_OF_ANY},
    HTTP.name: {**_FIRST, **_OF_REQUEST, **_OF_ANY},
    PROXY.name: {**_FIRST, **_OF_REQUEST, **_CACHE, **_OF_ANY},
    SPANS.name: {**_OF_SPAN, **_OF_ANY},
}
_DERIVED: Final = {
    "ecs.version": "keyword",
    "event.kind": "keyword",
    "event.category": "keyword",
    "event.type": "keyword",
    "event.duration": "long",
    "client.ip": "ip",
    "cloud.account.id": "keyword",
}
_REQUESTS_ONLY: Final = frozenset({"event.category", "event.type", "event.duration"})
_NANOSECONDS: Final = pa.scalar(1_000, pa.int64())  # in a microsecond
_MOST_MICROSECONDS: Final = pa.scalar((2**63 - 1) // 1_000, pa.int64())
_ZERO: Final = pa.scalar(0, pa.int64())
_NO_TIME: Final = pa.scalar(None, pa.int64())
_NO_TEXT: Final = pa.scalar(None, pa.string())
_LISTS: Final = pa.list_(pa.string())

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4: Final = rf"^(?:{_OCTET}\.){{3}}{_OCTET}$"


def log_fields(row_type: RowType) -> dict[str, str]:
    """Return the type in the index of each field, in the order in which documents have them."""
    chosen = {name: kind for name, (kind, _) in _COLUMNS[row_type.name].items()}
    derived = {name: kind for name, kind in _DERIVED.items() if row_type is not APPLICATION or name not in _REQUESTS_ONLY}
    return {"@timestamp": chosen.pop("@timestamp"), **derived, **chosen}


def log_columns(row_type: RowType, rows: pa.Table) -> dict[str, pa.Array]:
    """Return rows of logs as columns with ECS names in the order of `log_fields`; dots nest. Each is one array."""
    columns = {name: combined(rows, column) for name, (_, column) in _COLUMNS[row_type.name].items()}
    columns |= {
        "ecs.version": _constant(pa.array([ECS_VERSION]), rows.num_rows),
        "event.kind": _constant(pa.array(["event"]), rows.num_rows),
        "client.ip": _addresses(columns["client.address"]),
        "cloud.account.id": _accounts(columns["blobtide.log.resource_id"]),
    }
    if row_type is not APPLICATION:
        columns |= {
            "event.category": _constant(pa.array([["web"]], _LISTS), rows.num_rows),
            "event.type": _constant(pa.array([["access"]], _LISTS), rows.num_rows),
            "event.duration": _span_durations(rows) if row_type is SPANS else _durations(combined(rows, "response_time")),
        }
    columns["blobtide.log.pod_ip"] = _addresses(columns["blobtide.log.pod_ip"])
    return {name: columns[name] for name in log_fields(row_type)}


def _constant(value: pa.Array, rows: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), value)


def _durations(microseconds: pa.Array) -> pa.Array:
    """Return nanoseconds; null for what is no duration, or does not fit a long."""
    fits = pc.and_(pc.less_equal(microseconds, _MOST_MICROSECONDS), pc.greater_equal(microseconds, _ZERO))
    return pc.multiply(pc.if_else(fits, microseconds, _NO_TIME), _NANOSECONDS)


def _span_durations(rows: pa.Table) -> pa.Array:
    """Return the nanoseconds from the beginning to the end; null if one is not known, or they do not fit a long."""
    begin, end = (combined(rows, name).cast(pa.int64()) for name in ("time", "end_time"))
    took = pc.subtract(end, begin)
    return pc.if_else(pc.and_(pc.greater_equal(took, _ZERO), pc.greater_equal(end, begin)), took, _NO_TIME)


def _addresses(texts: pa.Array) -> pa.Array:
    """Return the texts that are IP addresses; null for others: an index refuses a document whose address is none."""
    words = texts if pa.types.is_dictionary(texts.type) else texts.dictionary_encode()
    known = pc.if_else(pc.match_substring_regex(words.dictionary, _IPV4), words.dictionary, _NO_TEXT)
    if known.null_count:
        found = zip(words.dictionary.to_pylist(), known.to_pylist(), strict=True)
        known = pa.array([address or _ipv6(text) for text, address in found], pa.string())
    return pa.DictionaryArray.from_arrays(words.indices, known)


def _ipv6(text: str) -> str | None:
    try:
        return str(ipaddress.IPv6Address(text)) if ":" in text and "%" not in text else None
    except ValueError:
        return None


def _accounts(resource_ids: pa.DictionaryArray) -> pa.Array:
    accounts = [None if text is None else subscription_of(text) for text in resource_ids.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(resource_ids.indices, pa.array(accounts, WORD.value_type))
