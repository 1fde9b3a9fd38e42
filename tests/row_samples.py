"""Rows of any row type for tests: every value follows from the row's position, and there are nulls where there may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from libs.common.rows.row_type import RowType
from libs.common.rows.types.application import APPLICATION
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.types.resource_changes import RESOURCE_CHANGES
from libs.common.rows.types.resources import RESOURCES
from libs.common.rows.types.results import RESULTS
from libs.common.rows.types.rollups import ROLLUPS
from libs.common.rows.types.snapshots import SNAPSHOTS
from tests import flows
from tests.documents import iso
from tests.flows import START_MS, Spot

Row = Mapping[str, Any]
Position = tuple[str, str, int, int]

_A_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 7}
_ADDRESSES = ("local_ip", "remote_ip", "src_ip", "dst_ip")
_TEXTS = ("plain", '=cmd, "quoted"\nline', "\u00fcn\u00ef\\code\t\u0001", "")


def row(row_type: RowType, spot: Spot, **changes: object) -> dict[str, Any]:
    """Return the row of a type at `spot`, with `changes`; times are integers in the column's unit."""
    if row_type is FLOWS:
        return flows.row(spot, **changes)
    position = row_type.position
    values = {field.name: _value(field, at, spot) for at, field in enumerate(row_type.schema)}
    values |= {
        position.source: f"{row_type.name}/{spot.blob}",
        position.generation: f"g{spot.generation}",
        position.offset: 20 + spot.record * 1_000,
        position.index: spot.tuple_index,
    }
    if row_type is ROLLUPS:
        values |= {name: f"10.0.{spot.blob}.{at}" for at, name in enumerate(_ADDRESSES) if values[name] is not None}
    if row_type is SNAPSHOTS:
        values["record"] = (
            f'{{"timestamp": {values["time"]},\n "at": [{spot.blob}, {spot.generation}, {spot.record}, {spot.tuple_index}]}}'
        )
    return values | changes


def rows(row_type: RowType, sources: int = 3, records: int = 3, each: int = 4) -> list[dict[str, Any]]:
    """Return rows of several sources, record by record over all sources, as a pipeline would see them grow."""
    spots = [Spot(source, record, index) for record in range(records) for source in range(sources) for index in range(each)]
    return [row(row_type, spot) for spot in spots]


def text_column(row_type: RowType) -> str:
    """Return a column that may hold any text, of any length."""
    named = {
        FLOWS: "rule",
        APPLICATION: "body",
        SNAPSHOTS: "record",
        RESULTS: "data",
        RESOURCES: "name",
        RESOURCE_CHANGES: "new",
    }
    return named.get(row_type, "reason")


def ticks_of(row_type: RowType, milliseconds: int) -> int:
    """Return a time as a row of the type has it."""
    return milliseconds * _A_SECOND[row_type.schema.field(row_type.time).type.unit] // 1_000


def table(row_type: RowType, content: Iterable[Row]) -> pa.Table:
    """Return rows as a table of their type."""
    return pa.Table.from_pylist(list(map(dict, content)), schema=row_type.schema)


def position_of(row_type: RowType, values: Row) -> Position:
    """Return what identifies a row."""
    source, generation, offset, index = (values[name] for name in row_type.position.names)
    return source, generation, offset, index


def values_of(content: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a table as `row` makes them: times as integers."""
    for at, field in enumerate(content.schema):
        if pa.types.is_timestamp(field.type):
            content = content.set_column(at, field.name, content.column(field.name).cast(pa.int64()))
    found: list[dict[str, Any]] = content.to_pylist()
    return found


def by_position(row_type: RowType, content: pa.Table | Sequence[Row]) -> dict[Position, dict[str, Any]]:
    """Return rows as `row` makes them by position, which must be distinct."""
    found = values_of(content) if isinstance(content, pa.Table) else [dict(values) for values in content]
    result = {position_of(row_type, values): values for values in found}
    assert len(result) == len(found), "duplicate position"
    return result


def document(row_type: RowType, values: Row) -> dict[str, Any]:
    """Return a row as a flat JSON document: without nulls, times as text."""
    shown = {field.name: _shown(field.type, values[field.name]) for field in row_type.schema}
    return {name: value for name, value in shown.items() if value is not None}


def _shown(kind: pa.DataType, value: Any) -> Any:
    if value is None or not pa.types.is_timestamp(kind):
        return value
    text = iso(value * (1_000_000_000 // _A_SECOND[kind.unit]), max(_DIGITS[kind.unit], 1))
    return text if kind.unit != "s" else text.partition(".")[0] + "Z"


def _value(field: pa.Field, at: int, spot: Spot) -> Any:
    n = spot.blob * 7 + spot.record * 3 + spot.tuple_index + at
    if field.nullable and n % 4 == 0:
        return None
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_timestamp(kind):
        return (START_MS + n) * _A_SECOND[kind.unit] // 1_000
    if pa.types.is_boolean(kind):
        return n % 2 == 0
    if pa.types.is_integer(kind):
        return n % 100
    if pa.types.is_floating(kind):
        return n / 4
    if pa.types.is_string(kind):
        return _TEXTS[n % len(_TEXTS)]
    raise TypeError(f"no sample of a {kind}")
