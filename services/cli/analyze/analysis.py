"""Sums over rows of logs: volume, levels and requests by service, and the most frequent errors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.row_type import RowType
from libs.common.rows.types.application import APPLICATION
from services.cli.analyze.grouped import GroupedCounts
from services.cli.analyze.measures import (
    LEVELS,
    NO_LEVEL,
    durations_of,
    errors_of,
    levels_of,
    percentile,
    plain,
    seconds_of,
    statuses_of,
)

_MOST_GROUPS: Final = 10_000
_MOST_ERRORS: Final = 20_000
_INTERVALS: Final = (1, 5, 10, 30, 60, 300, 600, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400)  # seconds of a bar
_MOST_BARS: Final = 24
_PERCENTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
_WEEK: Final = 604_800
_RESOLUTIONS: Final = (1, 10, 60, 600, 3_600, 86_400, _WEEK)  # seconds; each is a multiple of the one before


@dataclass(frozen=True, slots=True)
class Volume:
    """How many rows there were in each interval; `start` is its beginning in seconds since 1970."""

    interval: int
    bars: tuple[tuple[int, int], ...]  # start, rows

    def values(self) -> list[dict[str, Any]]:
        """Return it as JSON has it."""
        return [{"start": moment(start), "rows": rows} for start, rows in self.bars]


class LogSums:
    """Sums over rows of logs; memory does not grow with rows, only with services and kinds of errors, up to a limit."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self._first: int | None = None
        self._last: int | None = None
        self._resolution = _RESOLUTIONS[0]  # of `_volume`, in seconds
        self._volume: defaultdict[int, int] = defaultdict(int)
        self._levels = GroupedCounts(("type", "service", "level"), _MOST_GROUPS)
        self._errors = GroupedCounts(("service", "what"), _MOST_ERRORS)
        self._statuses = GroupedCounts(("service", "status"), _MOST_GROUPS)
        self._durations = GroupedCounts(("service", "bucket"), 20 * _MOST_GROUPS)

    def add(self, row_type: RowType, table: pa.Table) -> None:
        """Add the rows of a batch."""
        if not table.num_rows:
            return
        self.rows[row_type.name] = self.rows.get(row_type.name, 0) + table.num_rows
        self._add_times(seconds_of(table))
        kind = pa.repeat(row_type.name, table.num_rows)
        levels = {"type": kind, "service": plain(table, "service"), "level": levels_of(row_type, table)}
        self._levels.add(pa.table(levels))
        self._errors.add(errors_of(row_type, table))
        if row_type is not APPLICATION:
            self._statuses.add(statuses_of(table))
            self._durations.add(durations_of(table))

    @property
    def span(self) -> tuple[int, int] | None:
        """The times of the earliest and the latest row, in seconds since 1970; None if there are no rows."""
        return None if self._first is None or self._last is None else (self._first, self._last)

    @property
    def left_out(self) -> int:
        """Rows that are not in any group, because there were too many groups."""
        return sum(counts.lost for counts in (self._levels, self._errors, self._statuses, self._durations))

    def volume(self) -> Volume:
        """Return rows by time, in at most `_MOST_BARS` intervals of equal length that include empty ones."""
        if self._first is None or self._last is None:
            return Volume(self._resolution, ())
        first, last = self._first, self._last
        fitting = (one for one in _INTERVALS if one % self._resolution == 0 and last // one - first // one < _MOST_BARS)
        longest = max(_WEEK, self._resolution)
        interval = next(fitting, ((last - first) // ((_MOST_BARS - 1) * longest) + 1) * longest)
        rows: defaultdict[int, int] = defaultdict(int)
        for start, count in self._volume.items():
            rows[start // interval * interval] += count
        starts = range(first // interval * interval, last + 1, interval)
        return Volume(interval, tuple((start, rows[start]) for start in starts))

    def services(self) -> list[dict[str, Any]]:
        """Return rows by type, service and level, the service with the most rows first."""
        found: dict[tuple[str, str | None], dict[str, int]] = {}
        for kind, service, level, count in _rows(self._levels, ("type", "service", "level")):
            levels = found.setdefault((kind, service), {})
            name = NO_LEVEL if level is None or not 0 <= level < len(LEVELS) else LEVELS[level]
            levels[name] = levels.get(name, 0) + count
        sums = [
            {
                "type": kind,
                "service": service,
                "rows": sum(levels.values()),
                "levels": levels if kind == APPLICATION.name else {},
            }
            for (kind, service), levels in found.items()
        ]
        return sorted(sums, key=lambda one: (-int(str(one["rows"])), str(one["service"])))

    def errors(self, most: int) -> list[dict[str, Any]]:
        """Return the most frequent errors."""
        found = [
            {"count": count, "service": service, "what": what}
            for service, what, count in _rows(self._errors, ("service", "what"))
        ]
        return found[:most]

    def requests(self) -> list[dict[str, Any]]:
        """Return statuses and duration of requests by service; durations in microseconds."""
        statuses: defaultdict[str | None, dict[int, int]] = defaultdict(dict)
        buckets: defaultdict[str | None, list[tuple[int, int]]] = defaultdict(list)
        for service, status, count in _rows(self._statuses, ("service", "status")):
            statuses[service][status] = count
        for service, bucket, count in _rows(self._durations, ("service", "bucket")):
            buckets[service].append((bucket, count))
        found = [_requests(service, statuses[service], sorted(buckets[service])) for service in {*statuses, *buckets}]
        return sorted(found, key=lambda one: (-one["requests"], str(one["service"])))

    def values(self, most_errors: int) -> dict[str, Any]:
        """Return everything as JSON has it."""
        span, volume = self.span, self.volume()
        return {
            "rows": dict(sorted(self.rows.items())),
            "first": span and moment(span[0]),
            "last": span and moment(span[1]),
            "interval_seconds": volume.interval,
            "volume": volume.values(),
            "services": self.services(),
            "errors": self.errors(most_errors),
            "requests": self.requests(),
            "rows_left_out": self.left_out,
        }

    def _add_times(self, seconds: pa.ChunkedArray) -> None:
        ends = pc.min_max(seconds).as_py()
        self._first = min(ends["min"], ends["min"] if self._first is None else self._first)
        self._last = max(ends["max"], ends["max"] if self._last is None else self._last)
        starts = pc.multiply(pc.divide(seconds, self._resolution), self._resolution)
        for one in pc.value_counts(starts).to_pylist():
            self._volume[one["values"]] += one["counts"]
        while len(self._volume) > _MOST_GROUPS:
            self._coarsen()

    def _coarsen(self) -> None:
        """Count by longer intervals."""
        longer = (one for one in _RESOLUTIONS if one > self._resolution)
        self._resolution = next(longer, 2 * self._resolution)
        coarser: defaultdict[int, int] = defaultdict(int)
        for start, count in self._volume.items():
            coarser[start // self._resolution * self._resolution] += count
        self._volume = coarser


def moment(seconds: int) -> str:
    """Return a time as text."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _rows(counts: GroupedCounts, keys: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    table = counts.table()
    if table is not None:
        yield from zip(*(table[name].to_pylist() for name in (*keys, "count")), strict=True)


def _requests(service: str | None, statuses: dict[int, int], buckets: list[tuple[int, int]]) -> dict[str, Any]:
    shares = {name: round(percentile(buckets, share)) if buckets else None for name, share in _PERCENTILES.items()}
    return {
        "service": service,
        "requests": max(sum(statuses.values()), sum(count for _, count in buckets)),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "microseconds": shares,
    }
