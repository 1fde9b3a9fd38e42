"""What a format of JSON lines is, and what formats of collectors for containers share. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.messages.dead_letters import ErrorCode
from services.parser.logs.extract import Extract, Verdicts, valid
from services.parser.logs.lines import Flags
from services.parser.logs.members import MemberColumns
from services.parser.logs.options import Surroundings
from services.parser.logs.readings import KUBERNETES, Fields, Recognize
from services.parser.logs.shapes import JsonShape, Path
from services.parser.logs.times import iso_times
from services.parser.logs.trace_context import CONTEXT

Extractor = Callable[[MemberColumns, Verdicts], Iterator[Extract]]
"""Yields the rows of lines that the format recognized."""

Finisher = Callable[[Extract, Surroundings], Extract]
"""Makes records of rows, which are in the order of their lines."""


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """A format: how its lines are recognized, how they become rows, and what is done with all rows if several are a record."""

    recognize: Recognize
    extract: Extractor
    finish: Finisher | None = None


SOURCE_PLACES: Final[Mapping[str, tuple[Path, ...]]] = MappingProxyType(
    {
        "stream": (("stream",),),
        "namespace": ((KUBERNETES, "namespace_name"),),
        "pod": ((KUBERNETES, "pod_name"),),
        "pod_ip": ((KUBERNETES, "pod_ip"),),
        "container": ((KUBERNETES, "container_name"),),
        "container_id": ((KUBERNETES, "docker_id"), (KUBERNETES, "container_id")),
        "host": ((KUBERNETES, "host"),),
        "collected": (("@timestamp",),),
    }
)
"""Members that collectors add, in particular Fluent Bit with its Kubernetes filter."""

COLLECTORS_OWN: Final = (("_p",), ("record_date",))
"""Whether a line is complete, and the day of its time: read, or said by another member."""

_SOURCES: Final = ("stream", "namespace", "pod", "pod_ip", "container", "container_id", "host")


def fields(places: Mapping[str, tuple[Path, ...]], *ignored: Path) -> Fields:
    """Return fields with those of the source."""
    return Fields({**SOURCE_PLACES, **places}, (*COLLECTORS_OWN, *ignored), CONTEXT)


def without_field(form: JsonFormat, name: str) -> JsonFormat:
    """Return a format that does not read one of its fields, so that it is an attribute."""

    def recognize(shape: JsonShape) -> Fields | None:
        found = form.recognize(shape)
        if found is None or name not in found.places:
            return found
        return replace(found, places={field: places for field, places in found.places.items() if field != name})

    return JsonFormat(recognize, form.extract, form.finish)


def source_columns(members: MemberColumns) -> dict[str, pa.Array]:
    """Return what lines say about their source, and when they were collected."""
    columns = {name: members.words(name) for name in _SOURCES if members.has(name)}
    if members.has("collected"):
        columns["observed_time"] = members.converted("collected", iso_times)
    return columns


def unread_columns(members: MemberColumns) -> dict[str, pa.Array]:
    """Return what no column holds. To be asked for at last."""
    return {"attributes": members.rest(), "resource_attributes": members.source_rest()}


def first_time(*times: Callable[[Flags | None], pa.Array | None]) -> pa.Array:
    """Return for each row the first of some times that it has; what is not needed is not read.

    Each is called with which rows need it, or None if all do.
    """
    found: pa.Array | None = None
    for read in times:
        if found is None or found.null_count:
            other = read(None if found is None else ~valid(found))
            found = other if found is None else found if other is None else pc.coalesce(found, other)
    return found


def with_time(extract: Extract, verdicts: Verdicts) -> Extract:
    """Refuse rows without a time."""
    timed = valid(extract.columns["time"])
    verdicts.refuse(extract.lines[~timed], ErrorCode.BAD_RECORD, f"{extract.format}: no time that can be read")
    return extract.only(timed)
