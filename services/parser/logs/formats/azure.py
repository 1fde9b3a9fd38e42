"""Diagnostic and activity logs of Azure, of any category: one JSON object a line, as a diagnostic setting writes them. Pure.

``{"time": ..., "resourceId": ..., "category": ..., "operationName": ..., "level": ..., "properties": {...}}`` is the `common
schema <https://learn.microsoft.com/azure/azure-monitor/platform/resource-logs-schema>`_; platform metrics have a ``metricName``
in place of a category. What has no column, such as the result and the identity of the caller, is an attribute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from services.parser.dictionary_columns import mapped
from services.parser.logs.extract import Extract, Verdicts
from services.parser.logs.formats.application_rows import application_columns, application_rows
from services.parser.logs.formats.json_format import JsonFormat, fields, first_time, source_columns, unread_columns
from services.parser.logs.levels import severity_numbers
from services.parser.logs.members import MemberColumns
from services.parser.logs.readings import Fields
from services.parser.logs.shapes import JsonShape
from services.parser.logs.times import any_times

NAME: Final = "azure"

_FIELDS: Final = fields(
    {
        "time": (("time",), ("eventtimestamp",), ("timestamp",)),
        "severity_text": (("level",), ("properties", "level")),
        "body": (
            ("resultdescription",), ("message",), ("properties", "message"), ("properties", "msg"), ("properties", "log"),
        ),
        "category": (("category",),),
        "operation": (("operationname",),),
        "resource_id": (("resourceid",), ("_resourceid",)),
        "client_address": (
            ("calleripaddress",), ("properties", "calleripaddress"), ("properties", "clientip"),
        ),
        "correlation_id": (("correlationid",), ("properties", "correlationid")),
    }
)  # fmt: skip
_SIGNS: Final = (("category",), ("operationname",), ("metricname",))
_RESOURCES: Final = (("resourceid",), ("_resourceid",))

# Many services write the number of an event level in place of its name.
_EVENT_LEVELS: Final[Mapping[str, str]] = MappingProxyType(
    {"1": "CRITICAL", "2": "ERROR", "3": "WARNING", "4": "INFORMATIONAL", "5": "VERBOSE"}
)


def _recognize(shape: JsonShape) -> Fields | None:
    is_of_resource = any(path in shape.leaves for path in _RESOURCES)
    return _FIELDS if is_of_resource and any(sign in shape.leaves for sign in _SIGNS) else None


def _extract(members: MemberColumns, verdicts: Verdicts) -> Iterator[Extract]:
    columns = application_columns(members) | source_columns(members)
    if "severity_text" in columns:
        levels = columns["severity_text"]
        names = [_EVENT_LEVELS.get(level, level) for level in levels.dictionary.to_pylist()]
        columns["severity_number"] = severity_numbers(mapped(levels, names))
    columns["time"] = first_time(
        lambda needed: members.converted("time", any_times, needed=needed), lambda _: columns.get("observed_time")
    )
    columns |= unread_columns(members)
    yield application_rows(NAME, members.numbers, columns, verdicts)


AZURE: Final = JsonFormat(_recognize, _extract)
