"""Choose the index for each row, and build the template that gives those indexes their mappings.

Only the configuration and the row's own day determine the index: the prefix is literal, data contributes nothing but the
digits of the day, and days outside a window are refused, so that invalid times cannot create thousands of indexes. The day is
the row's rather than the current one because ids are unique only within an index: a replayed row must go to the same index as
before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa

from libs.common.rows.formats.ecs import ECS_VERSION
from libs.common.rows.formats.ecs_types import ecs_fields_of
from libs.common.rows.row_type import RowType
from libs.common.rows.types.flows import FLOWS

_A_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_DAY_SECONDS: Final = 86_400
_FUTURE_DAYS: Final = 2
_PRIORITY: Final = 200  # above the servers' built-in templates for logs-*-*
_LONGEST_WORD: Final = 8_191  # characters: at most 32,764 bytes, and an index accepts no longer terms
_LONGEST_KEYWORD: Final = 1_024

# Fields of logs, whose texts have any length. Older servers do not have the types that ECS prefers.
_LOG_FIELDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "keyword": {"type": "keyword", "ignore_above": _LONGEST_WORD},
    "wildcard": {"type": "keyword", "ignore_above": _LONGEST_WORD},
    "match_only_text": {"type": "text"},
}

Field = dict[str, Any]
Fields = dict[str, Field]  # by field name, in which a dot nests


@dataclass(frozen=True, slots=True)
class DailyIndexes:
    """One index per UTC day: ``<prefix>-2026.05.01``, for days up to `past_days` ago and two ahead."""

    prefix: str
    past_days: int
    clock: Callable[[], float] = time.time

    def names(self, times: pa.Array) -> pa.Array:
        """Return the index of each row by its time, as words; null if its day is outside the window."""
        a_day = _DAY_SECONDS * _A_SECOND[times.type.unit]
        days = pa.array(times.cast(pa.int64()).to_numpy() // a_day).dictionary_encode()
        today = int(self.clock() // _DAY_SECONDS)
        distinct = days.dictionary.to_numpy()
        codes = days.indices.to_numpy()
        is_outside = (distinct - today < -self.past_days) | (distinct - today > _FUTURE_DAYS)
        names = ["" if outside else self._name(day) for day, outside in zip(distinct.tolist(), is_outside, strict=True)]
        return pa.DictionaryArray.from_arrays(pa.array(codes, mask=is_outside[codes]), pa.array(names, pa.string()))

    def pattern(self) -> str:
        """Return the pattern that the template applies to."""
        return f"{self.prefix}-*"

    def _name(self, day: int) -> str:
        return f"{self.prefix}-{datetime.fromtimestamp(day * _DAY_SECONDS, UTC):%Y.%m.%d}"


@dataclass(frozen=True, slots=True)
class DataStream:
    """One data stream for all rows. Its ids are unique within a backing index, not across a rollover."""

    name: str

    def names(self, times: pa.Array) -> pa.Array:
        """Return the data stream for each row, as words."""
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(times), np.int32)), pa.array([self.name]))

    def pattern(self) -> str:
        """Return the pattern that the template applies to."""
        return self.name


def template(target: DailyIndexes | DataStream, fields: Fields, description: str) -> dict[str, Any]:
    """Return the composable index template for a target, for Elasticsearch 7.9 or newer and OpenSearch."""
    body: dict[str, Any] = {
        "index_patterns": [target.pattern()],
        "priority": _PRIORITY,
        "template": {
            # Unknown fields stay in the document but are not mapped, so that data cannot extend the mappings.
            "mappings": {"dynamic": False, "properties": _properties(fields)},
            "settings": {"index": {"codec": "best_compression", "refresh_interval": "5s"}},
        },
        "_meta": {"description": description, "ecs_version": ECS_VERSION},
    }
    return body | ({"data_stream": {}} if isinstance(target, DataStream) else {})


def ecs_fields(row_type: RowType) -> Fields:
    """Return the fields of documents in ECS, with types that every supported server has."""
    if row_type is FLOWS:  # whose words the parser limits
        return {name: {"type": kind} for name, kind in ecs_fields_of(row_type).items()}
    return {name: dict(_LOG_FIELDS.get(kind, {"type": kind})) for name, kind in ecs_fields_of(row_type).items()}


def plain_fields(columns: pa.Schema) -> Fields:
    """Return the fields of documents with the columns of a row type as they are."""
    return {field.name: _field(field.type) for field in columns}


def _field(kind: pa.DataType) -> Field:
    """Map words to keywords, and other text to text with a keyword subfield, as the servers do by default."""
    if pa.types.is_dictionary(kind):
        return {"type": "keyword", "ignore_above": _LONGEST_WORD}
    if pa.types.is_string(kind):
        return {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": _LONGEST_KEYWORD}}}
    if pa.types.is_timestamp(kind):
        return {"type": "date_nanos" if kind.unit == "ns" else "date"}
    if pa.types.is_boolean(kind):
        return {"type": "boolean"}
    return {"type": "double" if pa.types.is_floating(kind) else "long"}


def _properties(fields: Fields) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for name, field in fields.items():
        *parents, last = name.split(".")
        place = properties
        for parent in parents:
            place = place.setdefault(parent, {"properties": {}})["properties"]
        place[last] = field
    return properties
