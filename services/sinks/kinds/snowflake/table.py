"""The table of a row type: created from its Arrow schema, and extended when the schema grows.

::

    CREATE TABLE flows (columns)
    MERGE INTO flows USING rows ON position AND time BETWEEN first AND last WHEN NOT MATCHED THEN INSERT

Snowflake keeps no key unique, so the statement that adds rows also looks whether they are there. It looks only at the times of
the rows that it adds: Snowflake knows the lowest and the highest time of each of its files, and rows arrive roughly in order of
time, so it reads few of them however large the table is. A row that comes again has the same time.

Names are in capitals, as Snowflake reads names that are written without quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from snowflake.connector.errors import Error

from libs.common.errors import ConfigError
from libs.common.rows.row_type import RowType
from libs.common.rows.shape import Shape
from services.sinks.frame.table import Names, comments_of, identified_shape, listed, names_of, quoted
from services.sinks.kinds.snowflake.connection import KIND, Connection
from services.sinks.kinds.snowflake.encoding import Wire, wire_of
from services.sinks.kinds.snowflake.faults import NO_OBJECT, code_of
from services.sinks.kinds.snowflake.settings import SnowflakeSettings

_NUMBER: Final = re.compile(r"NUMBER\((\d+),(\d+)\)")
_TIME: Final = re.compile(r"TIMESTAMP_(?:LTZ|NTZ|TZ)\((\d+)\)")
_LENGTH: Final = re.compile(r"\(\d+\)")


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column, and how its values get there."""

    name: str
    wire: Wire
    nullable: bool
    comment: str = ""

    def sql(self, *, strict: bool = True) -> str:
        """Return the column as written in a statement; only a new table can have columns that take no nulls."""
        comment = f" COMMENT {text(self.comment)}" if self.comment else ""
        return f"{quoted(self.name)} {self.wire.sql}{' NOT NULL' if strict and not self.nullable else ''}{comment}"


@dataclass(frozen=True, slots=True)
class Existing:
    """A table as it is: types by column, the columns that refuse nulls, and those of them that have no default."""

    types: Mapping[str, str]
    not_null: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()

    @classmethod
    def of(cls, connection: Connection, table: Table) -> Existing | None:
        """Look at a table; None if there is none that we may see. Raises `Error`."""
        try:
            found = connection.ask(f"DESCRIBE TABLE {table.sql}")
        except Error as error:
            if code_of(error) in NO_OBJECT:
                return None
            raise
        columns = [(name, kind, null == "N", default) for name, kind, what, null, default, *_ in found if what == "COLUMN"]
        return cls(
            {name: kind for name, kind, _, _ in columns},
            frozenset(name for name, _, strict, _ in columns if strict),
            frozenset(name for name, _, strict, default in columns if strict and default is None),
        )


@dataclass(frozen=True, slots=True)
class Table:
    """The desired form of a table.

    Attributes:
        database, schema, name: where it is.
        columns: in order.
        names: of the columns with a meaning.
        time_digits: fractional digits of the time by which rows are laid out.
    """

    database: str
    schema: str
    name: str
    columns: tuple[TableColumn, ...]
    names: Names
    time_digits: int

    @property
    def sql(self) -> str:
        """Its name as written in a statement."""
        return f"{self.schema_sql}.{quoted(self.name)}"

    @property
    def schema_sql(self) -> str:
        """The name of its schema as written in a statement."""
        return f"{quoted(self.database)}.{quoted(self.schema)}"

    def __str__(self) -> str:
        return f"{self.database}.{self.schema}.{self.name}"

    def create(self) -> str:
        """Return the statement that creates it."""
        return f"CREATE TABLE IF NOT EXISTS {self.sql} (\n    " + ",\n    ".join(one.sql() for one in self.columns) + "\n)"

    def add(self, columns: Sequence[TableColumn]) -> str:
        """Return the statement that adds columns. Old rows have nulls in them."""
        added = ", ".join(f"IF NOT EXISTS {column.sql(strict=False)}" for column in columns)
        return f"ALTER TABLE {self.sql} ADD COLUMN {added}"

    def missing(self, existing: Existing) -> tuple[TableColumn, ...]:
        """Return the columns that an existing table lacks.

        Raises:
            ConfigError: if its columns do not take our rows, or one is missing by which rows are told apart.
        """
        lacking = tuple(column for column in self.columns if column.name not in existing.types)
        if problems := [*self._misfits(existing), *self._lost(lacking)]:
            raise ConfigError(
                f"snowflake: the table {self} does not fit: {'; '.join(problems)}. Types are never changed here: give the sink"
                " another table, or change this one (ALTER TABLE)"
            )
        return lacking

    def _misfits(self, existing: Existing) -> Iterator[str]:
        ours = {column.name for column in self.columns}
        for column in self.columns:
            there = existing.types.get(column.name, column.wire.sql)
            if not fits(column.wire.sql, there):
                yield f"column {column.name} is {there}, but the rows have {column.wire.sql}"
            if column.nullable and column.name in existing.not_null:
                yield f"column {column.name} takes no nulls, but the rows have some"
        yield from (f"column {name} takes no nulls, and no row has it" for name in sorted(existing.required - ours))

    def _lost(self, lacking: Sequence[TableColumn]) -> Iterator[str]:
        needed = {self.names.time, *self.names.position, *self.names.keys}
        yield from (f"column {one.name} is missing, by which rows are told apart" for one in lacking if one.name in needed)

    def stage(self, name: str) -> Iterator[str]:
        """Yield the statements that prepare a session: a temporary table for rows, and a stage for files with them."""
        columns = ", ".join(f"{quoted(column.name)} {column.wire.arrives_as}" for column in self.columns)
        yield f"CREATE TEMPORARY TABLE {quoted(name)} ({columns})"
        yield f"CREATE TEMPORARY STAGE {self.schema_sql}.{quoted(name)}"

    def place(self, name: str) -> str:
        """Return the place of the session's files."""
        return f"@{self.schema_sql}.{quoted(name)}"

    def copy(self, name: str, file: str) -> str:
        """Return the statement that moves a file's rows to the temporary table, and removes the file."""
        columns = listed(column.name for column in self.columns)
        values = ", ".join(f"$1:{quoted(column.name)}::{column.wire.arrives_as}" for column in self.columns)
        rows = f"SELECT {values} FROM {self.place(name)}/{file}"  # noqa: S608 - quoted
        return f"COPY INTO {quoted(name)} ({columns}) FROM ({rows}) FILE_FORMAT = (TYPE = PARQUET) PURGE = TRUE"

    def merge(self, name: str, times: tuple[int, int]) -> str:
        """Return the statement that adds the rows of the temporary table, whose times (as counted) are `times`, to this one."""
        key = self.names.keys or self.names.position
        newest = (self.names.time, *self.names.position)
        order = ", ".join(f"{quoted(name)} DESC" for name in newest)
        values = ", ".join(f"{one.wire.value.format(quoted(one.name))} AS {quoted(one.name)}" for one in self.columns)
        one_each = f"QUALIFY ROW_NUMBER() OVER (PARTITION BY {listed(key)} ORDER BY {order}) = 1"
        rows = f"SELECT {values} FROM {quoted(name)} {one_each}"  # noqa: S608 - quoted
        columns = [quoted(column.name) for column in self.columns]
        new = f"({', '.join(columns)}) VALUES ({', '.join(f'r.{column}' for column in columns)})"
        return f"MERGE INTO {self.sql} AS t USING ({rows}) AS r ON {self._same(times)} WHEN NOT MATCHED THEN INSERT {new}"

    def _same(self, times: tuple[int, int]) -> str:
        """Return when a row is there, and for row types with keys what then happens to it."""
        if not self.names.keys:
            first, last = (f"TO_TIMESTAMP_LTZ({ticks}, {self.time_digits})" for ticks in times)
            position = " AND ".join(f"t.{quoted(name)} = r.{quoted(name)}" for name in self.names.position)
            return f"{position} AND t.{quoted(self.names.time)} BETWEEN {first} AND {last}"
        same = " AND ".join(f"EQUAL_NULL(t.{quoted(name)}, r.{quoted(name)})" for name in self.names.keys)
        older = _before((self.names.time, *self.names.position))
        changed = ", ".join(f"t.{quoted(one.name)} = r.{quoted(one.name)}" for one in self.columns)
        return f"{same} WHEN MATCHED AND ({older}) THEN UPDATE SET {changed}"

    def delete_before(self, second: int) -> str:
        """Return the statement that deletes rows of earlier times, in seconds since 1970."""
        return f"DELETE FROM {self.sql} WHERE {quoted(self.names.time)} < TO_TIMESTAMP_LTZ({second}, 0)"  # noqa: S608 - quoted


def table_of(row_type: RowType, settings: SnowflakeSettings) -> tuple[Table, Shape]:
    """Return the table for rows of a type, and which columns of them it has.

    Raises:
        ConfigError: if a column cannot be stored, or names do not fit together.
    """
    given = identified_shape(row_type, settings, KIND)
    shape = Shape(given.columns, tuple(name.upper() for name in given.names))
    if twice := [name for at, name in enumerate(given.names) if shape.names.index(name.upper()) < at]:
        raise ConfigError(f"rename: snowflake takes {twice[0]} and another column for the same: give it another name")
    comments = comments_of(row_type, shape)
    schema = shape.apply(settings.rows_schema(row_type).empty_table()).schema
    columns = tuple(
        TableColumn(field.name, wire_of(field.type, field.name), field.nullable, comments.get(field.name, ""))
        for field in schema
    )
    names = names_of(row_type, shape)
    digits = {"s": 0, "ms": 3, "us": 6, "ns": 9}[schema.field(names.time).type.unit]
    return Table(*settings.table_path(row_type.name), columns, names, digits), shape


def times_of(values: pa.Table, table: Table) -> tuple[int, int]:
    """Return the lowest and the highest time of rows, as counted."""
    lowest, highest = (found.as_py() for found in pc.min_max(values.column(table.names.time).cast(pa.int64())).values())
    return lowest, highest


def fits(arriving: str, existing: str) -> bool:
    """Return whether values of one type may be inserted into a column of another without loss.

    A text or bytes may be limited in length: what is longer is refused, not cut. A session counts in UTC, so any type of
    timestamp will do.
    """
    if (ours := _NUMBER.fullmatch(arriving)) and (theirs := _NUMBER.fullmatch(existing)):
        return int(theirs[1]) - int(theirs[2]) >= int(ours[1])
    if (ours := _TIME.fullmatch(arriving)) and (theirs := _TIME.fullmatch(existing)):
        return int(theirs[1]) >= int(ours[1])
    return _LENGTH.sub("", existing) == arriving


def _before(names: Sequence[str]) -> str:
    """Return the condition that the row of the table comes before the new one, by the first of some columns that differ."""
    first, *others = (f"t.{quoted(name)} {{}} r.{quoted(name)}" for name in names)
    rest: Any = _before(names[1:]) if others else None
    return first.format("<") if rest is None else f"{first.format('<')} OR ({first.format('=')} AND ({rest}))"


def text(value: str) -> str:
    """Return a text as a SQL literal; Snowflake reads a backslash as the beginning of an escape."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
