"""Row types for destinations with tables: one with a column of every type that a table can have, one with keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from libs.common.rows.row_type import WORD, Column, PositionColumns, RowType
from services.sinks.frame.contract import Part

POSITION = PositionColumns("source", "generation", "offset", "index")
_PLACE = (
    Column("source", WORD, "source", nullable=False),
    Column("generation", WORD, "generation", nullable=False),
    Column("offset", pa.int64(), "offset", nullable=False),
    Column("index", pa.int32(), "index", nullable=False),
)

EVERYTHING = RowType(
    name="everything",
    version=1,
    description="A row of a test.",
    columns=(
        Column("time", pa.timestamp("us", tz="UTC"), "when", nullable=False),
        Column("second", pa.timestamp("s", tz="UTC"), "a time in seconds"),
        Column("nanosecond", pa.timestamp("ns", tz="UTC"), "a time in nanoseconds"),
        Column("flag", pa.bool_(), "true or false"),
        Column("i8", pa.int8(), "a number"),
        Column("i16", pa.int16(), "a number"),
        Column("i32", pa.int32(), "a number"),
        Column("i64", pa.int64(), "a number"),
        Column("u8", pa.uint8(), "a number"),
        Column("u16", pa.uint16(), "a number"),
        Column("u32", pa.uint32(), "a number"),
        Column("u64", pa.uint64(), "a number"),
        Column("f32", pa.float32(), "a number"),
        Column("f64", pa.float64(), "a number"),
        Column("text", pa.string(), "a text"),
        Column("word", WORD, "a word"),
        Column("content", pa.binary(), "bytes"),
        *_PLACE,
    ),
    topic="flows",
    time="time",
    position=POSITION,
)

LATEST = RowType(
    name="latest",
    version=1,
    description="A row of a test, of which only the newest counts.",
    columns=(
        Column("time", pa.timestamp("ms", tz="UTC"), "when", nullable=False),
        Column("name", WORD, "first key", nullable=False),
        Column("place", pa.string(), "second key, which may be null"),
        Column("value", pa.int64(), "what it is"),
        *_PLACE,
    ),
    topic="flows",
    time="time",
    position=POSITION,
    keys=("name", "place"),
)

_SMALLEST = {"i8": -(2**7), "i16": -(2**15), "i32": -(2**31), "i64": -(2**63), "u8": 0, "u16": 0, "u32": 0, "u64": 0}
_LARGEST = {"i8": 2**7, "i16": 2**15, "i32": 2**31, "i64": 2**63, "u8": 2**8, "u16": 2**16, "u32": 2**32, "u64": 2**64}
_NUMBERS: tuple[Mapping[str, Any], ...] = (
    _SMALLEST,
    {name: value - 1 for name, value in _LARGEST.items()},
    dict.fromkeys(_SMALLEST),
    dict.fromkeys(_SMALLEST, 42),
)
_OTHERS: tuple[Mapping[str, Any], ...] = (
    {"second": 0, "nanosecond": 1_777_636_800_123_456_700, "flag": True, "f32": 0.25, "f64": 1e300},
    {"second": -1, "nanosecond": -1, "flag": False, "f32": -0.0, "f64": float("inf")},
    {},
    {"second": 253_402_300_799, "nanosecond": 2**63 - 1, "flag": True, "f32": 1.5, "f64": -1e-300},
)
_TEXTS: tuple[Mapping[str, Any], ...] = (
    {"text": "", "word": "", "content": b""},
    {"text": "na\u00efve \U0001f40c", "word": 'a, "b"\n', "content": bytes(range(256))},
    {},
    {"text": "\\N", "word": "\\.", "content": b"\0"},
)


def everything(largest: int = 2**64 - 1) -> list[dict[str, Any]]:
    """Return rows with the bounds of every type, and nulls; numbers are at most `largest`."""
    rows: list[dict[str, Any]] = []
    for at, values in enumerate(zip(_NUMBERS, _OTHERS, _TEXTS, strict=True)):
        row: dict[str, Any] = dict.fromkeys(EVERYTHING.names)
        for some in values:
            row |= some
        row |= {"time": 1_777_636_800_000_000 + at, "source": f"s{at % 2}", "generation": "g", "offset": at, "index": 0}
        rows.append({name: min(value, largest) if isinstance(value, int) else value for name, value in row.items()})
    return rows


def part(row_type: RowType, rows: Iterable[Mapping[str, Any]]) -> Part:
    """Return rows as a part that came in one message."""
    table = pa.Table.from_pylist(list(map(dict, rows)), schema=row_type.schema).unify_dictionaries().combine_chunks()
    return Part(0, row_type, table, (table.num_rows,))


def latest(time: int, name: str, place: str | None, value: int, offset: int) -> dict[str, Any]:
    """Return a row of `LATEST`; `offset` tells it from others."""
    where = {"source": "s", "generation": "g", "offset": offset, "index": 0}
    return {"time": 1_777_636_800_000 + time, "name": name, "place": place, "value": value, **where}
