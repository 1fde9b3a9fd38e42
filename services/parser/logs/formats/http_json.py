"""Requests that an application logs through log4j2 as JSON: the request is in the context map. Pure.

``{"logs": {"timeMillis": ..., "contextMap": {"requestLine": "GET / HTTP/1.1", "statusCode": "200", "processMillis": "12"}}}``,
with a wrapping as in `access_json`, or bare.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from services.parser.logs.extract import Extract, Verdicts
from services.parser.logs.formats.json_format import JsonFormat, fields, first_time, source_columns, unread_columns
from services.parser.logs.formats.request_rows import of_request_lines, request_columns
from services.parser.logs.members import MemberColumns
from services.parser.logs.readings import Fields
from services.parser.logs.shapes import JsonShape, Path
from services.parser.logs.times import milliseconds
from services.parser.logs.trace_context import MEMBERS_OF_TRACE

NAME: Final = "http"

_CONTEXT: Final = {
    "request": ("requestline",),
    "http_response_status_code": ("statuscode",),
    "http_response_body_size": ("bytessent",),
    "response_ms": ("processmillis",),
    "client_address": ("remotehost",),
    "remote_user": ("remoteuser",),
    "referer": ("referer",),
    "user_agent": ("useragent",),
    "server_address": ("localservername",),
    "cache_status": ("cachestatus",),
    "correlation_id": ("requestid", "correlationid"),
    **MEMBERS_OF_TRACE,
}
_SIGNS: Final = ("requestline", "statuscode", "bytessent", "processmillis")
_OF_APPLICATION: Final = ("sourceclassname", "sourcemethodname")


def _fields(prefix: Path) -> Fields:
    context = {name: tuple((*prefix, "contextmap", one) for one in names) for name, names in _CONTEXT.items()}
    return fields({**context, "time_ms": ((*prefix, "timemillis"),)})


_WRAPPED: Final = _fields(("logs",))
_BARE: Final = _fields(())


def _recognize(shape: JsonShape) -> Fields | None:
    for prefix, found in ((("logs",), _WRAPPED), ((), _BARE)):
        context = (*prefix, "contextmap")
        if (*prefix, "timemillis") not in shape.leaves or context not in shape.objects:
            continue
        is_request = any((*context, sign) in shape.leaves for sign in _SIGNS)
        is_application = any((*context, sign) in shape.leaves for sign in _OF_APPLICATION)
        if is_request or ((*context, "remotehost") in shape.leaves and not is_application):
            return found
    return None


def _extract(members: MemberColumns, verdicts: Verdicts) -> Iterator[Extract]:
    columns = request_columns(members) | source_columns(members)
    columns["time"] = first_time(
        lambda needed: members.converted("time_ms", milliseconds, needed=needed), lambda _: columns.get("observed_time")
    )
    columns |= unread_columns(members)
    yield of_request_lines(NAME, members.numbers, members.text("request"), columns, verdicts)


HTTP_JSON: Final = JsonFormat(_recognize, _extract)
