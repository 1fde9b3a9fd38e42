"""Read a Delta table by its protocol: the log's JSON and checkpoints, and the Parquet files that it names. Not by delta-rs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass
class DeltaState:
    """What the log of a table adds up to."""

    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    transactions: dict[str, int] = field(default_factory=dict)
    columns: list[dict[str, Any]] = field(default_factory=list)
    partitions: list[str] = field(default_factory=list)
    commits: int = 0


def state(table: Path) -> DeltaState:
    """Replay the log of a table from its first commit."""
    found = DeltaState()
    for commit in sorted((table / "_delta_log").glob("*.json")):
        found.commits += 1
        for action in map(json.loads, commit.read_text().splitlines()):
            _apply(found, action)
    return found


def _apply(found: DeltaState, action: dict[str, Any]) -> None:
    match action:
        case {"add": add}:
            found.files[unquote(add["path"])] = add
        case {"remove": remove}:
            del found.files[unquote(remove["path"])]
        case {"txn": transaction}:
            found.transactions[transaction["appId"]] = transaction["version"]
        case {"metaData": metadata}:
            found.columns = json.loads(metadata["schemaString"])["fields"]
            found.partitions = metadata["partitionColumns"]


def tables(table: Path) -> Iterator[tuple[pa.Table, dict[str, Any]]]:
    """Yield the rows of each file of a table, with its entry in the log."""
    for path, add in sorted(state(table).files.items()):
        assert (table / path).stat().st_size == add["size"]
        yield pq.ParquetFile(table / path).read(), add


def rows_of(table: Path) -> pa.Table | None:
    """Return all rows of a table, with the day of their partition as text; None if there are none."""
    found = [
        rows.append_column("day", pa.array([add["partitionValues"]["day"]] * rows.num_rows)) for rows, add in tables(table)
    ]
    return pa.concat_tables(found, promote_options="default") if found else None
