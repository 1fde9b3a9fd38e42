"""The columns of a Delta table: its types, which are fewer than Arrow's, and how values get them.

Delta has signed integers only, so an unsigned one becomes the next larger; times have microseconds, so nanoseconds are cut off.
Words stay dictionaries on their way into Parquet, where they are text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from libs.common.errors import ConfigError
from libs.common.rows.row_type import RowType
from libs.common.rows.shape import Shape
from services.sinks.frame.settings import SinkSettings
from services.sinks.frame.table import comments_of

if TYPE_CHECKING:
    from deltalake import Field, Schema

DAY: Final = "day"
"""The column by which a table is partitioned: the UTC day of the row's time."""

_TIME: Final = pa.timestamp("us", tz="UTC")
_STORED: Final[Mapping[pa.DataType, pa.DataType]] = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
}
_NAMES: Final[Mapping[pa.DataType, str]] = {
    pa.bool_(): "boolean",
    pa.int8(): "byte",
    pa.int16(): "short",
    pa.int32(): "integer",
    pa.int64(): "long",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.string(): "string",
    pa.large_string(): "string",
    pa.binary(): "binary",
    pa.large_binary(): "binary",
    pa.date32(): "date",
    pa.decimal128(20, 0): "decimal(20,0)",
    _TIME: "timestamp",
}


def stored_schema(row_type: RowType, settings: SinkSettings, shape: Shape) -> pa.Schema:
    """Return the schema of the files of a table, without its partition column.

    Raises:
        ConfigError: if a column cannot be stored, or has the name of the partition column.
    """
    folded: dict[str, str] = {}
    for name in (DAY, *shape.names):
        if (other := folded.setdefault(name.lower(), name)) != name or (name == DAY and name in shape.names):
            raise ConfigError(f"rename: a Delta table takes {other} and {name} for one name; {DAY} is its partition")
    schema = shape.apply(settings.rows_schema(row_type).empty_table()).schema
    return pa.schema([field.with_type(_stored(field.type, field.name)) for field in schema])


def as_stored(rows: pa.Table, shape: Shape, schema: pa.Schema) -> pa.Table:
    """Return rows as they are in the files. Rows spooled by an older version may lack columns."""
    names = dict(zip(shape.columns, shape.names, strict=True))
    there = [name for name in shape.columns if name in rows.column_names]
    columns = [_cast(rows.column(name), schema.field(names[name]).type) for name in there]
    return pa.table(columns, schema=pa.schema([schema.field(names[name]) for name in there]))


def table_schema(row_type: RowType, shape: Shape, schema: pa.Schema) -> Schema:
    """Return the schema of a new table: that of its files, and the partition column behind it."""
    from deltalake import Field, Schema
    from deltalake.schema import PrimitiveType

    day = Field(DAY, PrimitiveType("date"), metadata={"comment": f"UTC day of {row_type.time}"})
    return Schema([*fields(schema, comments_of(row_type, shape)), day])


def fields(schema: pa.Schema, comments: Mapping[str, str], only: Iterable[str] | None = None) -> list[Field]:
    """Return the columns of a table; with `only`, those to be added, in which old rows have nulls."""
    from deltalake import Field
    from deltalake.schema import PrimitiveType

    chosen = schema.names if only is None else list(only)
    return [
        Field(
            name,
            PrimitiveType(type_name(schema.field(name).type)),
            nullable=only is not None or schema.field(name).nullable,
            metadata={"comment": comments[name]} if name in comments else None,
        )
        for name in chosen
    ]


def type_name(kind: pa.DataType) -> str:
    """Return Delta's name of a type that is stored."""
    return _NAMES[kind.value_type if pa.types.is_dictionary(kind) else kind]


def missing(schema: pa.Schema, existing: Mapping[str, str], place: str) -> list[str]:
    """Return the columns that an existing table (types by name) lacks.

    Raises:
        ConfigError: if a column has another type.
    """
    problems = [
        f"column {field.name} is {existing[field.name]}, but the rows have {type_name(field.type)}"
        for field in schema
        if existing.get(field.name, type_name(field.type)) != type_name(field.type)
    ]
    if problems:
        raise ConfigError(
            f"delta: the table {place} does not fit: {'; '.join(problems)}. Types are never changed here: give the sink another"
            " table"
        )
    return [name for name in schema.names if name not in existing]


def _stored(kind: pa.DataType, name: str) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _stored(kind.value_type, name))
    if pa.types.is_timestamp(kind):
        return _TIME
    stored = _STORED.get(kind, kind)
    if stored not in _NAMES:
        raise ConfigError(f"columns: {name} is of type {kind}, which has no counterpart in a table: leave it out")
    return stored


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    return column if column.type == kind else column.cast(kind, safe=not pa.types.is_timestamp(kind))
