"""Snapshots for tests, and what the zips of an archive hold."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from libs.common.rows.types.snapshots import SNAPSHOTS
from services.sinks.frame.contract import Part
from tests.flows import START_MS, Spot
from tests.row_samples import row, table

STAMP = len("2026_05_01_12-00-00_")
Records = Counter[tuple[str, str]]  # of (source, line)


def snapshot(number: int, source: str = "flowinfo", run: str = "a", **changes: object) -> dict[str, Any]:
    """Return the snapshot of that number, taken as many seconds after noon."""
    record = f'{{"timestamp":{START_MS + number * 1_000},"flowinfo":[{number}]}}'
    own = {"source": source, "run": run, "sequence": number, "item": 0, "time": START_MS + number * 1_000, "record": record}
    return row(SNAPSHOTS, Spot(0, number, 0), **{**own, **changes})


def snapshots(count: int, sources: Sequence[str] = ("flowinfo", "graphinfo"), first: int = 0) -> list[dict[str, Any]]:
    """Return so many snapshots of each source, in order."""
    return [snapshot(number, source) for number in range(first, first + count) for source in sources]


def part_of(rows: Sequence[Mapping[str, Any]], shard: int = 1) -> list[Part]:
    """Return snapshots as the one part of a write."""
    return [Part(shard, SNAPSHOTS, table(SNAPSHOTS, rows).unify_dictionaries().combine_chunks(), (len(rows),))]


def zips(directory: Path) -> dict[str, list[str]]:
    """Return the lines in each zip that a reader sees, by name; each has one member, called after it."""
    found = {}
    for file in sorted(directory.glob("*")):
        if file.name != ".blobtide":
            with zipfile.ZipFile(file) as archive:
                (member,) = archive.infolist()
                assert f"{member.filename.removesuffix('.json')}_json.zip" == file.name
                *lines, rest = archive.read(member).decode().split("\n")
            assert rest == ""
            found[file.name] = lines
    return found


def archived(directory: Path) -> Records:
    """Return all records in a directory, and how often each is there."""
    return Counter(
        (unquote(name[STAMP:].removesuffix("_json.zip")), line) for name, lines in zips(directory).items() for line in lines
    )


def as_archived(rows: Sequence[Mapping[str, Any]]) -> Records:
    """Return what `archived` gives for these snapshots."""
    return Counter((str(one["source"]), str(one["record"]).replace("\n", " ").replace("\r", " ")) for one in rows)
