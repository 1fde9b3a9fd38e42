"""Which index a flow goes to, and the template that gives those indexes their mappings.

An index is chosen by configuration and the flow's own day, by nothing else: the name's beginning is literal, the day's digits
are all that data adds, and days outside a window are refused, so that broken times cannot open thousands of indexes. The
day is the flow's and not today's because an id is unique within one index only: a replayed row must meet its older self.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa

from libs.common.rows.formats.ecs import ECS_VERSION, FIELDS

_DAY_MS: Final = 86_400_000
_DAY_SECONDS: Final = 86_400
_FUTURE_DAYS: Final = 2
_PRIORITY: Final = 200  # above the templates that servers bring for logs-*-*


@dataclass(frozen=True, slots=True)
class DailyIndexes:
    """One index a UTC day: ``<prefix>-2026.05.01``, for days up to `past_days` ago and two ahead."""

    prefix: str
    past_days: int
    clock: Callable[[], float] = time.time

    def names(self, flow_times: pa.Array) -> pa.Array:
        """Return the index of each flow by its time (milliseconds), as words; null if its day is outside the window."""
        days = pa.array(flow_times.cast(pa.int64()).to_numpy() // _DAY_MS).dictionary_encode()
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
    """One data stream for all flows. Its ids are unique within a backing index, not over a rollover."""

    name: str

    def names(self, flow_times: pa.Array) -> pa.Array:
        """Return the data stream for each flow, as words."""
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(flow_times), np.int32)), pa.array([self.name]))

    def pattern(self) -> str:
        """Return the pattern that the template applies to."""
        return self.name


def template(target: DailyIndexes | DataStream) -> dict[str, Any]:
    """Return the composable index template for a target, for Elasticsearch from 7.9 and OpenSearch."""
    body: dict[str, Any] = {
        "index_patterns": [target.pattern()],
        "priority": _PRIORITY,
        "template": {
            # Unknown fields stay in the document and out of the mappings: data cannot grow those.
            "mappings": {"dynamic": False, "properties": _properties()},
            "settings": {"index": {"codec": "best_compression", "refresh_interval": "5s"}},
        },
        "_meta": {"description": "Flows written by blobtide", "ecs_version": ECS_VERSION},
    }
    return body | ({"data_stream": {}} if isinstance(target, DataStream) else {})


def _properties() -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for name, kind in FIELDS.items():
        *parents, last = name.split(".")
        place = properties
        for parent in parents:
            place = place.setdefault(parent, {"properties": {}})["properties"]
        place[last] = {"type": kind}
    return properties
