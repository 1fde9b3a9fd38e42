"""Rows of many hours, and what must hold of a directory that the file sink laid out by their time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from services.sinks.local_state.layout import ELSEWHERE
from tests.flows import START_MS, Identity, by_identity, rows, values_of

HOUR_MS = 3_600_000
NULL_FOLDER = f"day={ELSEWHERE}/hour={ELSEWHERE}"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAME = re.compile(r"flows-p([0-9]{3})-([0-9]{8})\.parquet")


def rows_of_hours(hours: int, blobs: int = 3, records: int = 12, tuples: int = 2) -> list[dict[str, Any]]:
    """Return rows whose records are of `hours` hours in turn, so that every batch has rows of several."""
    return [
        row | {"time": START_MS + (row["record_offset"] // 1_000 + row["tuple_index"]) % hours * HOUR_MS + 7}
        for row in rows(blobs, records, tuples)
    ]


def folder_of(time: int) -> str:
    """Return the folder of a time in milliseconds."""
    try:
        at = _EPOCH + timedelta(milliseconds=time)
    except OverflowError:
        return NULL_FOLDER
    return f"day={at.year:04}-{at.month:02}-{at.day:02}/hour={at.hour:02}"


def files(directory: Path) -> list[Path]:
    """Return the files that a reader sees, in order, and see that nothing else is there."""
    found = [file for file in sorted(directory.rglob("*")) if file.is_file() and ".blobtide" not in file.parts]
    assert all(_NAME.fullmatch(file.name) for file in found)
    return found


def read_laid_out(directory: Path, allowed_elsewhere: bool = False) -> dict[Identity, dict[str, Any]]:  # noqa: FBT001, FBT002
    """Return all rows; every file has a number of its own and holds rows of its folder only, none of them twice."""
    found = files(directory)
    assert len({file.name for file in found}) == len(found), "two files have one number"
    tables = []
    for file in found:
        table = pq.ParquetFile(file).read()
        folder = file.parent.relative_to(directory).as_posix()
        wrong = [row["time"] for row in values_of(table) if folder_of(row["time"]) != folder]
        assert not wrong or (allowed_elsewhere and folder == NULL_FOLDER), (folder, wrong)
        tables.append(table)
    return by_identity(pa.concat_tables(tables)) if tables else {}


def folders(directory: Path) -> dict[str, int]:
    """Return the number of files in each folder."""
    found: dict[str, int] = {}
    for file in files(directory):
        folder = file.parent.relative_to(directory).as_posix()
        found[folder] = found.get(folder, 0) + 1
    return found


def with_times(content: Sequence[dict[str, Any]], times: Sequence[int]) -> list[dict[str, Any]]:
    """Return rows with other times, in milliseconds."""
    return [row | {"time": time} for row, time in zip(content, times, strict=True)]
