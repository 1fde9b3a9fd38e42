"""The table of a row type in SQLite: its statements, and its columns as Python values.

Times are text in SQLite's own form, ``2026-05-01 12:00:00.123`` in UTC, so that they compare with what its functions return.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from libs.common.errors import ConfigError
from libs.common.rows.row_type import RowType
from libs.common.rows.shape import Shape
from services.sinks.frame.settings import SinkSettings
from services.sinks.frame.table import Names, identified_shape, listed, names_of, quoted
from services.sinks.frame.times import END_SECOND, FIRST_SECOND, outside

KIND: Final = "sqlite"
_LARGEST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column."""

    name: str
    type: str
    nullable: bool

    @property
    def sql(self) -> str:
        """The column as written in a statement."""
        return f"{quoted(self.name)} {self.type}{'' if self.nullable else ' NOT NULL'}"


@dataclass(frozen=True, slots=True)
class Table:
    """The desired form of a table."""

    name: str
    columns: tuple[TableColumn, ...]
    names: Names

    @property
    def sql(self) -> str:
        """Its name as written in a statement."""
        return quoted(self.name)

    @property
    def create(self) -> tuple[str, ...]:
        """The statements that create it, with an index for ranges of time."""
        lines = [column.sql for column in self.columns]
        if not self.names.keys:
            lines.append(f"PRIMARY KEY ({listed(self.names.position)})")
        statements = [f"CREATE TABLE {self.sql} (\n    " + ",\n    ".join(lines) + "\n)"]
        if self.names.keys:  # a primary key would take each null for another value
            statements.append(f"CREATE UNIQUE INDEX {quoted(f'{self.name}_key')} ON {self.sql} ({self._unique})")
        return (*statements, f"CREATE INDEX {quoted(f'{self.name}_time')} ON {self.sql} ({quoted(self.names.time)})")

    def add(self, columns: Sequence[TableColumn]) -> Iterator[str]:
        """Yield the statements that add columns. Old rows have nulls in them."""
        return (f"ALTER TABLE {self.sql} ADD COLUMN {quoted(column.name)} {column.type}" for column in columns)

    def missing(self, existing: Collection[str]) -> tuple[TableColumn, ...]:
        """Return the columns that an existing table lacks.

        Raises:
            ConfigError: if it lacks one by which rows are told apart.
        """
        lacking = tuple(column for column in self.columns if column.name not in existing)
        identity = {self.names.time, *self.names.position, *self.names.keys}
        if needed := [column.name for column in lacking if column.name in identity]:
            raise ConfigError(
                f"sqlite: the table {self.name} has no column {', '.join(needed)}, by which rows are told apart: give the sink"
                " another table"
            )
        return lacking

    @property
    def insert(self) -> str:
        """The statement that adds a row unless it is there; of rows with keys, the newest one stays."""
        columns = listed(column.name for column in self.columns)
        values = ", ".join("?" * len(self.columns))
        into = f"INSERT INTO {self.sql} ({columns}) VALUES ({values})"  # noqa: S608 - quoted
        if not self.names.keys:
            return f"{into} ON CONFLICT ({listed(self.names.position)}) DO NOTHING"
        changed = ", ".join(f"{quoted(one.name)} = excluded.{quoted(one.name)}" for one in self.columns)
        newest = (self.names.time, *self.names.position)
        old, new = (", ".join(f"{of}.{quoted(name)}" for name in newest) for of in (self.sql, "excluded"))
        return f"{into} ON CONFLICT ({self._unique}) DO UPDATE SET {changed} WHERE ({old}) < ({new})"

    @property
    def _unique(self) -> str:
        return ", ".join(f"ifnull({quoted(name)}, x'')" for name in self.names.keys)

    def expire(self, rows: int) -> str:
        """Return the statement that deletes at most so many rows from before a time, its parameter."""
        old = f"SELECT rowid FROM {self.sql} WHERE {quoted(self.names.time)} < ? LIMIT {rows}"  # noqa: S608 - quoted
        return f"DELETE FROM {self.sql} WHERE rowid IN ({old})"  # noqa: S608 - quoted


def table_of(row_type: RowType, settings: SinkSettings, name: str) -> tuple[Table, Shape]:
    """Return the table for rows of a type, and which columns of them it has. Raises `ConfigError`."""
    shape = identified_shape(row_type, settings, KIND)
    schema = shape.apply(settings.rows_schema(row_type).empty_table()).schema
    folded: dict[str, str] = {}
    for one in schema.names:
        if (other := folded.setdefault(one.lower(), one)) != one:
            raise ConfigError(f"rename: sqlite takes {other} and {one} for one name")
    columns = tuple(TableColumn(field.name, column_type(field.type, field.name), field.nullable) for field in schema)
    return Table(name, columns, names_of(row_type, shape)), shape


def column_type(kind: pa.DataType, name: str) -> str:
    """Return the type of a column. Raises `ConfigError` if SQLite has none."""
    if pa.types.is_dictionary(kind):
        return column_type(kind.value_type, name)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return "INTEGER"
    if pa.types.is_floating(kind):
        return "REAL"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "BLOB"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "TEXT"
    raise ConfigError(f"columns: {name} is of type {kind}, which has no counterpart in a table: leave it out")


def rows_of(values: pa.Table) -> list[tuple[Any, ...]]:
    """Return rows as SQLite takes them: one tuple each. Every column is in one chunk."""
    return list(
        zip(*(_python(column.chunk(0) if column.num_chunks else pa.array([])) for column in values.columns), strict=True)
    )


def time_text(seconds: int) -> str:
    """Return a time in seconds since 1970 as it stands in a table."""
    text: str = pa.scalar(seconds, pa.timestamp("s")).cast(pa.string()).as_py()
    return text


def unfit(values: pa.Table) -> dict[int, str]:
    """Return the rows with a value that SQLite does not have, each with the reason."""
    found = {
        row: f"the time in column {name} is outside the years that sqlite has (1 to 9999)"
        for row, name in outside(values, FIRST_SECOND, END_SECOND).items()
    }
    for field in values.schema:
        if field.type == pa.uint64():
            numbers = values.column(field.name).fill_null(0).to_numpy()
            reason = f"the number in column {field.name} is larger than sqlite has (2**63 - 1)"
            found |= dict.fromkeys(np.flatnonzero(numbers > _LARGEST).tolist(), reason)
    return found


def _python(column: pa.Array) -> list[Any]:
    kind = column.type
    if pa.types.is_dictionary(kind):
        words = np.empty(len(column.dictionary) + 1, object)
        words[:-1] = _python(column.dictionary)
        codes = column.indices.cast(pa.int64()).fill_null(len(column.dictionary)).to_numpy()
        found: list[Any] = words[codes].tolist()
        return found
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp(kind.unit)).cast(pa.string())
    elif pa.types.is_date(kind):
        column = column.cast(pa.string())
    elif pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    values: list[Any] = column.to_pylist()
    return values
