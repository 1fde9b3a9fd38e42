"""Other JSON, and logfmt, which says the same as ``name=value``: names are those that loggers use, or configured. Pure.

A line is a request if it has a request line, or a method and a target, and no message. All others are of an application.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from services.parser.logs.extract import Extract, Family, LineSkip, Verdicts, flags, valid
from services.parser.logs.formats.application_rows import application_columns, application_rows
from services.parser.logs.formats.json_format import JsonFormat, fields, first_time, source_columns, unread_columns, with_time
from services.parser.logs.formats.request_rows import of_request_lines, request_columns, with_authority, with_path
from services.parser.logs.lines import Flags
from services.parser.logs.members import MemberColumns
from services.parser.logs.numbers import scaled
from services.parser.logs.options import LogOptions
from services.parser.logs.readings import Fields
from services.parser.logs.requests import METHODS, read_targets
from services.parser.logs.shapes import JsonShape, Path
from services.parser.logs.times import any_times
from services.parser.logs.trace_context import MEMBERS_OF_CONTEXT

_OF_ANY: Final = {
    "time": "timestamp time ts @t datetime eventtime date t",
    "client_address": "client_address client_ip clientip client.address client.ip remote_addr remote_ip remoteaddr remote_host",
    "correlation_id": "correlation_id correlationid request_id requestid req_id x_request_id",
    "trace_id": "trace_id traceid trace.id @tr",
    "span_id": "span_id spanid span.id @sp",
    "service": "service service.name service_name app application",
    "host": "kubernetes.host hostname host.name",
}
_OF_APPLICATION: Final = {
    **_OF_ANY,
    "severity_text": "level severity severity_text log.level loglevel levelname lvl @l",
    "body": "message msg body @m @mt",
    "logger": "logger logger_name loggername log.logger sourcecontext category",
    "thread": "thread thread_name threadname process.thread.name",
    "thread_id": "thread_id threadid process.thread.id",
    "exception_type": "exception.type error.type exception_type exc_type",
    "exception_message": "exception.message error.message exception_message error err",
    "exception_stacktrace": "stack_trace stacktrace stack exception.stacktrace error.stack_trace error.stack exception @x",
}
_OF_REQUEST: Final = {
    **_OF_ANY,
    **MEMBERS_OF_CONTEXT,
    "request": "request request_line",
    "http_request_method": "http_request_method http.request.method request_method http_method method verb",
    "target": "url_path url.path request_uri uri path url http.url",
    "url_query": "url_query url.query query_string query",
    "protocol": "protocol server_protocol http_version",
    "http_response_status_code": "http_response_status_code http.response.status_code status_code statuscode status",
    "http_response_body_size": "http_response_body_size http.response.body.size body_bytes_sent bytes_sent bytes size",
    "response_us": "response_time duration_us response_time_us",
    "response_ms": "duration_ms response_time_ms latency_ms elapsed_ms",
    "response_s": "request_time duration_s response_time_s",
    "remote_user": "remote_user user_name user",
    "user_agent": "user_agent user_agent.original http_user_agent useragent",
    "referer": "referer referrer http_referer",
    "server_address": "server_address server.address server_name http_host vhost authority host",
    "server_port": "server_port server.port",
    "cache_status": "cache_status upstream_cache_status cache",
}
_MICROSECONDS: Final[Mapping[str, int]] = MappingProxyType({"response_us": 1, "response_ms": 1_000, "response_s": 1_000_000})
_PARTS: Final = ("http_request_method", "target", "url_query", "protocol")
"""What a request line says as well."""
_CONFIGURED: Final = {"url_path": "target", "response_time": "response_us", "network_protocol_version": "protocol"}
_VERSION: Final = r"^(?:HTTP/)?(?P<version>[0-9](?:\.[0-9])?)$"
_NO_TEXT: Final = pa.scalar(None, pa.string())

COLUMNS: Final = frozenset({*_OF_APPLICATION, *_OF_REQUEST} - {"target", "protocol", *_MICROSECONDS} | set(_CONFIGURED))
"""The columns, and ``request`` for a whole request line, that configuration may name members for."""


def generic_formats(name: str, options: LogOptions) -> tuple[JsonFormat, JsonFormat]:
    """Return the format of requests, and that of everything else; `name` is that of both."""
    request, application = _fields(_OF_REQUEST, options), _fields(_OF_APPLICATION, options)
    of_lines = replace(request, places={field: places for field, places in request.places.items() if field not in _PARTS})
    return (
        JsonFormat(partial(_recognize, (of_lines, request), application.places["body"]), partial(_requests, name)),
        JsonFormat(lambda _: application, partial(_records, name)),
    )


def _fields(names: Mapping[str, str], options: LogOptions) -> Fields:
    renamed = _CONFIGURED if "target" in names else {}
    configured = {renamed.get(column, column): members for column, members in options.fields.items()}
    places = {}
    for field, known in names.items():
        wanted = [name.lower() for name in configured.get(field, ())] + known.split()
        places[field] = tuple(dict.fromkeys(path for name in wanted for path in _paths(name)))
    return fields(places)


def _paths(name: str) -> tuple[Path, ...]:
    """Return where a member with dots in its name may be: it is either called that, or nested."""
    return ((name,), tuple(name.split("."))) if "." in name else ((name,),)


def _recognize(requests: tuple[Fields, Fields], messages: tuple[Path, ...], shape: JsonShape) -> Fields | None:
    """Return what is read of a request: of one that has a request line, other members that say the same are attributes.

    So are durations in other units than the one that is read.
    """
    of_lines, of_parts = requests

    def has(field: str) -> bool:
        return any(path in shape.leaves for path in of_parts.places[field])

    if any(path in shape.leaves for path in messages):
        return None
    if not has("request") and not (has("http_request_method") and has("target")):
        return None
    found = of_lines if has("request") else of_parts
    others = [field for field in _MICROSECONDS if has(field)][1:]
    return replace(found, places={field: places for field, places in found.places.items() if field not in others})


def _records(name: str, members: MemberColumns, verdicts: Verdicts) -> Iterator[Extract]:
    columns = application_columns(members) | source_columns(members)
    columns["time"] = _time(members, columns)
    columns |= unread_columns(members)
    yield application_rows(name, members.numbers, columns, verdicts)


def _requests(name: str, members: MemberColumns, verdicts: Verdicts) -> Iterator[Extract]:
    columns = request_columns(members) | source_columns(members)
    columns["time"] = _time(members, columns)
    units = [(field, unit) for field, unit in _MICROSECONDS.items() if members.has(field)]
    if units:
        columns["response_time"] = first_time(*(partial(_durations, members, *one) for one in units))
    columns |= unread_columns(members)
    request = members.text("request")
    given = valid(request)
    both = Extract(Family.REQUEST, name, members.numbers, columns)
    if given.any():
        some = both.only(given)
        yield of_request_lines(name, some.lines, request.filter(pa.array(given)), some.columns, verdicts)
    if not given.all():
        parts = {field: members.text(field) for field in _PARTS}
        rest = Extract(Family.REQUEST, name, members.numbers, {**columns, **parts}).only(~given)
        yield _of_parts(rest, verdicts)


def _time(members: MemberColumns, columns: Mapping[str, pa.Array]) -> pa.Array:
    return first_time(
        lambda needed: members.converted("time", any_times, needed=needed), lambda _: columns.get("observed_time")
    )


def _durations(members: MemberColumns, field: str, unit: int, needed: Flags | None) -> pa.Array:
    return members.converted(field, partial(scaled, factor=unit), dash=True, needed=needed)


def _of_parts(extract: Extract, verdicts: Verdicts) -> Extract:
    """Return requests whose method and target are members of their own."""
    columns = dict(extract.columns)
    path, query, authority = read_targets(columns.pop("target"))
    versions = pc.struct_field(pc.extract_regex(columns.pop("protocol"), _VERSION), "version")
    columns |= {
        "http_request_method": pc.utf8_upper(columns["http_request_method"]).dictionary_encode(),
        "url_path": path,
        "url_query": pc.coalesce(query, columns["url_query"]),
        "network_protocol_version": versions.dictionary_encode(),
        "server_address": with_authority(columns.get("server_address"), authority),
    }
    methods = columns["http_request_method"].cast(pa.string())
    unknown = ~flags(pc.is_in(methods, pa.array(sorted(METHODS))))
    verdicts.skip(extract.lines[unknown & ~valid(methods)], LineSkip.NO_REQUEST)
    verdicts.skip(extract.lines[unknown & valid(methods)], LineSkip.UNKNOWN_METHOD)
    requests = Extract(extract.family, extract.format, extract.lines, columns).only(~unknown)
    return with_path(with_time(requests, verdicts), verdicts)
