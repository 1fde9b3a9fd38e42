"""Parquet files as the log of a table describes them: path, size, partition, and statistics by which readers skip files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from services.sinks.kinds.delta.schema import DAY
from services.sinks.local_state.layout import ELSEWHERE

_TEXT_LIMIT: Final = 32
_AFTER_ALL: Final = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class DataFile:
    """A complete file on the local disk, and where it belongs in the table."""

    source: Path
    path: str
    size: int
    modified_ms: int
    day: str | None
    stats: str

    @classmethod
    def of(cls, source: Path, path: str) -> DataFile:
        """Describe a file. Raises OSError."""
        status = source.stat()
        folder = path.partition("/")[0].removeprefix(f"{DAY}=")
        day = None if folder == ELSEWHERE else folder
        return cls(source, path, status.st_size, status.st_mtime_ns // 1_000_000, day, statistics(source))


def statistics(file: Path) -> str:
    """Return the statistics of a Parquet file as the log has them, in JSON. Raises OSError."""
    metadata = pq.read_metadata(file)
    lowest: dict[str, Any] = {}
    highest: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for number in range(metadata.num_columns):
        found = list(_of_column(metadata, number))
        name = metadata.schema.column(number).path
        if all(one is not None for one in found):
            nulls[name] = sum(one.null_count for one in found)
            bounds = [one for one in found if one.has_min_max]
            if bounds and len(bounds) == sum(one.num_values > 0 for one in found):
                lowest[name] = _shown(min(one.min for one in bounds))  # times are within the years of Python
                highest[name] = _shown(max(one.max for one in bounds), is_highest=True)
    known = {
        name: {column: value for column, value in values.items() if value is not None}
        for name, values in (("minValues", lowest), ("maxValues", highest))
    }
    return json.dumps({"numRecords": metadata.num_rows, **known, "nullCount": nulls})


def _of_column(metadata: Any, column: int) -> Iterator[Any]:
    for group in range(metadata.num_row_groups):
        found = metadata.row_group(group).column(column).statistics
        yield found if found is not None and found.has_null_count else None


def _shown(value: Any, *, is_highest: bool = False) -> Any:
    """Return a bound as JSON has it; None if it cannot. A text that is cut remains a bound."""
    match value:
        case bool() | int() | date() | datetime() | Decimal():
            return _number(value)
        case float():
            return value if value - value == 0 else None  # neither infinite nor NaN
        case str():
            return value[:_TEXT_LIMIT] + (_AFTER_ALL if is_highest and len(value) > _TEXT_LIMIT else "")
        case _:
            return None


def _number(value: Any) -> Any:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}" if value.year >= 1000 else None  # noqa: PLR2004
    if isinstance(value, date):
        return value.isoformat()
    return int(value) if isinstance(value, Decimal) else value
