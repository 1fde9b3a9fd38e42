"""Access logs of Apache as JSON, as a collector for containers wraps them, or bare. Pure.

The names are those of SAP Commerce Cloud's proxies: ``{"logs": {"requestFirstLine": ..., "status": ..., "cache status": ...},
"kubernetes": {...}, "@timestamp": ...}``. Names are read whatever the case of their letters.
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
from services.parser.logs.times import any_times, iso_times, milliseconds
from services.parser.logs.trace_context import MEMBERS_OF_TRACE

NAME: Final = "access"

_MEMBERS: Final = {
    "request": ("requestfirstline",),
    "http_response_status_code": ("status",),
    "http_response_body_size": ("bytes",),
    "response_ms": ("responsetime",),
    "client_address": ("remotehost",),
    "remote_user": ("remoteuser",),
    "ident": ("identdusername",),
    "referer": ("referer",),
    "user_agent": ("useragent",),
    "server_address": ("localservername",),
    "cache_status": ("cache status", "cachestatus", "cache_status"),
    "correlation_id": ("correlationid", "correlation_id", "requestid", "request_id", "x-request-id"),
    **MEMBERS_OF_TRACE,
    "time_ms": ("timemillis",),
    "logged": ("time",),
}


def _places(prefix: Path) -> dict[str, tuple[Path, ...]]:
    return {name: tuple((*prefix, one) for one in names) for name, names in _MEMBERS.items()}


_WRAPPED: Final = fields({**_places(("logs",)), "read": (("time",),)})
_BARE: Final = fields(_places(()))


def _recognize(shape: JsonShape) -> Fields | None:
    if ("logs", "requestfirstline") in shape.leaves or ("logs", "status") in shape.leaves:
        return _WRAPPED
    return _BARE if ("requestfirstline",) in shape.leaves else None


def _extract(members: MemberColumns, verdicts: Verdicts) -> Iterator[Extract]:
    columns = request_columns(members) | source_columns(members)
    columns["time"] = first_time(
        lambda needed: members.converted("time_ms", milliseconds, needed=needed) if members.has("time_ms") else None,
        lambda _: columns.get("observed_time"),
        lambda needed: members.converted("read", iso_times, needed=needed) if members.has("read") else None,
        lambda needed: members.converted("logged", any_times, needed=needed),
    )
    columns |= unread_columns(members)
    yield of_request_lines(NAME, members.numbers, members.text("request"), columns, verdicts)


ACCESS_JSON: Final = JsonFormat(_recognize, _extract)
