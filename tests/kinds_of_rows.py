"""A small row type with a column of every kind that a condition may name, and one that it may not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from libs.common.rows.row_type import WORD, Column, PositionColumns, RowType

THINGS = RowType(
    name="things",
    version=1,
    description="A row of a test.",
    columns=(
        Column("time", pa.timestamp("ms", tz="UTC"), "when", nullable=False),
        Column("word", WORD, "text that repeats"),
        Column("text", pa.string(), "text"),
        Column("small", pa.uint16(), "a small number"),
        Column("other_small", pa.uint16(), "another small number"),
        Column("big", pa.int64(), "a large number"),
        Column("real", pa.float64(), "a real number"),
        Column("flag", pa.bool_(), "true or false"),
        Column("address", pa.string(), "an address"),
        Column("word_address", WORD, "an address that repeats"),
        Column("items", pa.list_(pa.string()), "a list"),
        Column("source", WORD, "source", nullable=False),
        Column("generation", WORD, "generation", nullable=False),
        Column("offset", pa.int64(), "offset", nullable=False),
        Column("index", pa.int32(), "index", nullable=False),
    ),
    topic="flows",
    time="time",
    position=PositionColumns("source", "generation", "offset", "index"),
)

_POSITION = {"time": 1_777_636_800_000, "source": "s", "generation": "g", "offset": 0, "index": 0}


def things(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Return rows with the given values; other columns are null, positions are numbered."""
    table = pa.Table.from_pylist(
        [{**_POSITION, "offset": number, **row} for number, row in enumerate(rows)], schema=THINGS.schema
    )
    return table.combine_chunks()
