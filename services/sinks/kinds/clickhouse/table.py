"""The table of a row type: created from its Arrow schema, and extended when the schema grows.

::

    ReplacingMergeTree  PARTITION BY day  ORDER BY (hour, source, generation, offset, index)

The rows of an hour are ordered by source and then as they were read, so columns compress well, a query for a time range reads
only that range, and a row is found by its position. The position is the end of the sorting key: two rows with the same position
become one when parts are merged, which is the safety net behind the insert tokens. If only the newest row of each key counts,
rows are ordered by their keys instead.

A table that the operator has created with any other engine, order or partitioning works, too, as long as its columns match.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from libs.common.errors import ConfigError
from services.sinks.frame.table import Names
from services.sinks.kinds.clickhouse.client import quoted, text

DEDUPLICATION_WINDOW: Final = 1_000
"""The number of inserts whose tokens a table remembers."""

_NUMBERS: Final[Mapping[pa.DataType, str]] = {
    pa.bool_(): "Bool",
    pa.int8(): "Int8",
    pa.int16(): "Int16",
    pa.int32(): "Int32",
    pa.int64(): "Int64",
    pa.uint8(): "UInt8",
    pa.uint16(): "UInt16",
    pa.uint32(): "UInt32",
    pa.uint64(): "UInt64",
    pa.float32(): "Float32",
    pa.float64(): "Float64",
}
_DIGITS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_ZONE: Final = re.compile(r", *'[^']*'")


@dataclass(frozen=True, slots=True)
class TableName:
    """A table and its database."""

    database: str
    table: str

    @property
    def sql(self) -> str:
        """The name as written in a statement."""
        return f"{quoted(self.database)}.{quoted(self.table)}"

    @property
    def create_database(self) -> str:
        """The statement that creates the database if it does not exist."""
        return f"CREATE DATABASE IF NOT EXISTS {quoted(self.database)}"

    def __str__(self) -> str:
        return f"{self.database}.{self.table}"


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a table."""

    name: str
    type: str
    comment: str = ""

    @property
    def sql(self) -> str:
        """The column as written in a statement."""
        comment = f" COMMENT {text(self.comment)}" if self.comment else ""
        return f"{quoted(self.name)} {self.type}{comment}"


@dataclass(frozen=True, slots=True)
class Layout:
    """The desired form of a table."""

    name: TableName
    columns: tuple[TableColumn, ...]
    names: Names
    ttl_days: int = 0  # 0: rows are kept forever

    @property
    def create(self) -> str:
        """The statement that creates the table if it does not exist."""
        columns = ",\n    ".join(column.sql for column in self.columns)
        return "\n".join((f"CREATE TABLE IF NOT EXISTS {self.name.sql} (\n    {columns}\n)", *self._storage()))

    def _storage(self) -> list[str]:
        time, keys = quoted(self.names.time), self.names.keys
        # With keys, the newest row must be merged with the older ones: no partitions, and nothing but the keys in the order.
        order = keys or self.names.position
        lines = [f"ENGINE = ReplacingMergeTree({time})" if keys else "ENGINE = ReplacingMergeTree"]
        lines += [] if keys else [f"PARTITION BY toYYYYMMDD({time})"]
        columns = ", ".join([*([] if keys else [f"toStartOfHour({time})"]), *map(quoted, order)])
        lines.append(f"ORDER BY ({columns})")
        lines += [f"TTL toDateTime({time}) + toIntervalDay({self.ttl_days})"] if self.ttl_days else []
        nullable = ", allow_nullable_key = 1" if keys else ""
        lines.append(f"SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}{nullable}")
        return lines

    def missing(self, existing: Mapping[str, str]) -> tuple[TableColumn, ...]:
        """Return the columns that an existing table (types by name) lacks.

        Raises:
            ConfigError: if a column has the wrong type, or a column of the sorting key is missing.
        """
        lacking = tuple(column for column in self.columns if column.name not in existing)
        identity = {self.names.time, *self.names.position, *self.names.keys}
        problems = [
            f"column {column.name} is {existing[column.name]}, but the rows have {column.type}"
            for column in self.columns
            if column.name in existing and not fits(column.type, existing[column.name])
        ] + [f"column {column.name} is missing, by which rows are told apart" for column in lacking if column.name in identity]
        if problems:
            raise ConfigError(
                f"clickhouse: the table {self.name} does not match: {'; '.join(problems)}. Types are never changed here: give"
                " the sink another table, or change this one (ALTER TABLE ... MODIFY COLUMN)"
            )
        return lacking

    def add(self, columns: Sequence[TableColumn]) -> str:
        """Return the statement that adds columns."""
        return f"ALTER TABLE {self.name.sql} " + ", ".join(f"ADD COLUMN IF NOT EXISTS {column.sql}" for column in columns)


def layout(name: TableName, schema: pa.Schema, names: Names, comments: Mapping[str, str], ttl_days: int = 0) -> Layout:
    """Return the table for rows with a schema as written: with final names, and including the columns in `names`.

    Raises:
        ConfigError: if a column's type has no counterpart.
    """
    columns = tuple(TableColumn(field.name, column_type(field), comments.get(field.name, "")) for field in schema)
    return Layout(name, columns, names, ttl_days)


def column_type(field: pa.Field) -> str:
    """Return the type of the table's column for a field. Raises `ConfigError`."""
    return _type(field.type, field.name, nullable=field.nullable)


def _type(kind: pa.DataType, name: str, *, nullable: bool) -> str:
    if pa.types.is_dictionary(kind):
        return f"LowCardinality({_type(kind.value_type, name, nullable=nullable)})"
    plain = _plain(kind)
    if plain is None:
        raise ConfigError(f"columns: {name} is of type {kind}, which has no counterpart in a table: leave it out")
    return f"Nullable({plain})" if nullable else plain


def _plain(kind: pa.DataType) -> str | None:
    if pa.types.is_timestamp(kind):
        return f"DateTime64({_DIGITS[kind.unit]}, 'UTC')"
    if pa.types.is_decimal(kind):
        return f"Decimal({kind.precision}, {kind.scale})"
    if any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)):
        return "String"
    return _NUMBERS.get(kind)


def fits(wanted: str, existing: str) -> bool:
    """Return whether values of one type may be inserted into a column of another.

    Low cardinality of text and the display of times are left to the operator, and a column may be nullable even if the values
    never are.
    """
    wanted_value, wanted_null = _unwrapped(wanted)
    existing_value, existing_null = _unwrapped(existing)
    return wanted_value == existing_value and (existing_null or not wanted_null)


def _unwrapped(kind: str) -> tuple[str, bool]:
    """Return a type without its wrappers, and whether it is nullable."""
    kind = _ZONE.sub("", kind).replace(" ", "")
    if match := re.fullmatch(r"LowCardinality\((.*)\)", kind):
        kind = match[1]
    match = re.fullmatch(r"Nullable\((.*)\)", kind)
    return (match[1], True) if match else (kind, False)
