"""Application logs of log4j2's JsonLayout, as a collector for containers wraps them, or bare. Pure.

``{"logs": {"instant": {"epochSecond": ..., "nanoOfSecond": ...}, "level": ..., "loggerName": ..., "thread": ..., "thrown": {},
"message": ..., "contextMap": {}}, "kubernetes": {}}``; ``timeMillis`` may be there in place of ``instant``. Whatever is below
``logs`` and is no request is read like this if it has any of these members.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from services.parser.logs.extract import Extract, Verdicts
from services.parser.logs.formats.application_rows import application_columns, application_rows, without_blank
from services.parser.logs.formats.json_format import JsonFormat, fields, first_time, source_columns, unread_columns
from services.parser.logs.members import MemberColumns
from services.parser.logs.numbers import integers
from services.parser.logs.readings import Fields
from services.parser.logs.shapes import JsonShape, Path
from services.parser.logs.times import iso_times, milliseconds, seconds_and_nanoseconds

NAME: Final = "log4j2"

_MEMBERS: Final = {
    "seconds": (("instant", "epochsecond"),),
    "nanoseconds": (("instant", "nanoofsecond"),),
    "time_ms": (("timemillis",),),
    "severity_text": (("level",),),
    "body": (("message",),),
    "logger": (("loggername",),),
    "thread": (("thread",), ("threadname",)),
    "thread_id": (("threadid",),),
    "exception_type": (("thrown", "name"),),
    "exception_message": (("thrown", "message"), ("thrown", "localizedmessage")),
    "exception_stacktrace": (("thrown", "extendedstacktrace"), ("thrown", "stacktrace"), ("thrown",)),
    "client_address": tuple(
        ("contextmap", name) for name in ("remotehost", "remoteaddr", "clientip", "client_ip", "remoteip", "ipaddress")
    ),
    "correlation_id": tuple(("contextmap", name) for name in ("correlationid", "correlation_id", "requestid", "request_id")),
    "trace_id": tuple(("contextmap", name) for name in ("traceid", "trace_id", "x-b3-traceid")),
    "span_id": tuple(("contextmap", name) for name in ("spanid", "span_id", "x-b3-spanid")),
}


def _fields(prefix: Path) -> Fields:
    places = {name: tuple((*prefix, *path) for path in paths) for name, paths in _MEMBERS.items()}
    # Most exceptions have the same text twice.
    return fields({**places, "read": (("time",),)}, (*prefix, "thrown", "localizedmessage"))


_WRAPPED: Final = _fields(("logs",))
_BARE: Final = _fields(())
_SIGNS: Final = (
    ("message",), ("level",), ("loggername",), ("thread",), ("timemillis",), ("instant", "epochsecond"), ("thrown", "name"),
)  # fmt: skip


def _recognize(shape: JsonShape) -> Fields | None:
    if any(("logs", *sign) in shape.leaves for sign in _SIGNS):
        return _WRAPPED
    timed = ("timemillis",) in shape.leaves or ("instant", "epochsecond") in shape.leaves
    named = ("loggername",) in shape.leaves or ("level",) in shape.leaves
    return _BARE if timed and named else None


def _extract(members: MemberColumns, verdicts: Verdicts) -> Iterator[Extract]:
    columns = application_columns(members) | source_columns(members)
    columns["time"] = first_time(
        lambda _: _instants(members) if members.has("seconds") else None,
        lambda needed: members.converted("time_ms", milliseconds, needed=needed) if members.has("time_ms") else None,
        lambda _: columns.get("observed_time"),
        lambda needed: members.converted("read", iso_times, needed=needed),
    )
    columns |= unread_columns(members)
    yield without_blank(application_rows(NAME, members.numbers, columns, verdicts), verdicts)


def _instants(members: MemberColumns) -> pa.Array:
    nanoseconds = members.converted("nanoseconds", integers)
    return members.converted("seconds", lambda seconds: seconds_and_nanoseconds(integers(seconds), nanoseconds))


LOG4J2: Final = JsonFormat(_recognize, _extract)
