"""The table of a row type: created from its Arrow schema, and extended when the schema grows.

::

    CREATE TABLE flows (columns, PRIMARY KEY (source_id, record_offset, tuple_index))  [PARTITION BY RANGE (time)]
    CREATE INDEX ON flows USING brin (time)

Rows are written roughly in order of time, so an index by block ranges finds a time range and needs nearly no space. If only the
newest row of each key counts, the keys are unique instead of the position. A table that is divided by time has the time in its
primary key, as PostgreSQL requires; a row that comes again has the same time.

A table that the operator has created will do if its columns fit and the columns of the key are unique.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from libs.common.errors import ConfigError
from libs.common.rows.row_type import RowType
from libs.common.rows.shape import Shape
from services.sinks.frame.table import Names, comments_of, identified_shape, listed, names_of, quoted, shape_with
from services.sinks.kinds.postgres.connection import KIND, Connection
from services.sinks.kinds.postgres.copying import NUMBER, NUMBERS
from services.sinks.kinds.postgres.settings import Key, Layout, PostgresSettings
from services.sinks.kinds.postgres.wire import is_word, wire_of

SOURCE_ID: Final = "source_id"
"""The column with the hash of source and generation."""

ROWS: Final = "blobtide_rows"
WORDS: Final = "blobtide_words"
"""The temporary tables in which rows and their words arrive."""

_ENTRIES: Final = ("one", "other")
_NULLS_NOT_DISTINCT: Final = 150_000
_WIDER: Final = {
    "smallint": ("integer", "bigint", "numeric"),
    "integer": ("bigint", "numeric"),
    "bigint": ("numeric",),
    "real": ("double precision",),
    "numeric(20,0)": ("numeric",),
    "text": ("character varying", "inet", "cidr", "json", "jsonb", "uuid", "macaddr"),
    "uuid": ("text",),
}
_CAST: Final = frozenset({"inet", "cidr", "json", "jsonb", "uuid", "macaddr", "text"})
_LENGTH: Final = re.compile(r"\(.*\)")


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column: its type in the table that setup creates, and in the temporary table that its values arrive in."""

    name: str
    type: str
    arrives_as: str
    nullable: bool
    comment: str = ""
    is_word: bool = False

    @property
    def sql(self) -> str:
        """The column as written in a statement."""
        return f"{quoted(self.name)} {self.type}{'' if self.nullable else ' NOT NULL'}"


@dataclass(frozen=True, slots=True)
class Existing:
    """A table as it is.

    Attributes:
        types: by column.
        not_null: the columns that refuse nulls.
        unique: sets of columns that are unique together.
        is_partitioned: whether it has partitions.
    """

    types: Mapping[str, str]
    not_null: frozenset[str]
    unique: tuple[frozenset[str], ...]
    is_partitioned: bool = False

    @classmethod
    def of(cls, connection: Connection, schema: str, table: str) -> Existing | None:
        """Look at a table; None if there is none that we may see. Raises `psycopg.Error`."""
        found = connection.ask(_COLUMNS, (schema, table))
        if not found:
            return None
        unique = connection.ask(_UNIQUE, (schema, table))
        types = {name: kind for name, kind, _, _ in found}
        not_null = frozenset(name for name, _, strict, _ in found if strict)
        is_partitioned = any(divided for *_, divided in found)
        return cls(types, not_null, tuple(frozenset(names) for (names,) in unique), is_partitioned)


_COLUMNS: Final = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, c.relkind = 'p'
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_UNIQUE: Final = """
SELECT array_agg(a.attname::text)
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k(number, place)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
WHERE n.nspname = %s AND c.relname = %s AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
AND k.place <= i.indnkeyatts
GROUP BY i.indexrelid
"""


@dataclass(frozen=True, slots=True)
class Table:
    """The desired form of a table.

    Attributes:
        schema, name: where it is.
        columns: in order.
        names: of the columns with a meaning.
        key: the columns that are unique together, without the time.
        layout: how it is divided.
    """

    schema: str
    name: str
    columns: tuple[TableColumn, ...]
    names: Names
    key: tuple[str, ...]
    layout: Layout

    @property
    def sql(self) -> str:
        """Its name as written in a statement."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The columns of the primary key, or of the unique constraint over keys."""
        divided = self.layout is not Layout.PLAIN
        return (self.names.time, *(name for name in self.key if name != self.names.time)) if divided else self.key

    def create(self, version: int) -> Iterator[str]:
        """Yield the statements that create it on a server of that version."""
        lines = [column.sql for column in self.columns]
        if self.names.keys:
            distinct = "" if version < _NULLS_NOT_DISTINCT else " NULLS NOT DISTINCT"
            lines.append(f"UNIQUE{distinct} ({listed(self.primary_key)})")
        else:
            lines.append(f"PRIMARY KEY ({listed(self.primary_key)})")
        divided = f" PARTITION BY RANGE ({quoted(self.names.time)})" if self.layout is Layout.DAILY else ""
        yield f"CREATE TABLE {self.sql} (\n    " + ",\n    ".join(lines) + f"\n){divided}"
        yield f"CREATE INDEX ON {self.sql} USING brin ({quoted(self.names.time)})"
        yield from self._comments(self.columns)

    def add(self, columns: Sequence[TableColumn]) -> Iterator[str]:
        """Yield the statements that add columns. Old rows have nulls in them."""
        added = ", ".join(f"ADD COLUMN IF NOT EXISTS {quoted(column.name)} {column.type}" for column in columns)
        yield f"ALTER TABLE {self.sql} {added}"
        yield from self._comments(columns)

    def _comments(self, columns: Sequence[TableColumn]) -> Iterator[str]:
        for column in columns:
            if column.comment:
                yield f"COMMENT ON COLUMN {self.sql}.{quoted(column.name)} IS {_text(column.comment)}"

    def missing(self, existing: Existing) -> tuple[TableColumn, ...]:
        """Return the columns that an existing table lacks.

        Raises:
            ConfigError: if a column has a type that ours does not fit into, or one is missing by which rows are told apart.
        """
        lacking = tuple(column for column in self.columns if column.name not in existing.types)
        identity = {self.names.time, *self.key}
        problems = [
            f"column {column.name} is {existing.types[column.name]}, but the rows have {column.arrives_as}"
            for column in self.columns
            if column.name in existing.types and not fits(column.arrives_as, existing.types[column.name])
        ]
        problems += [f"column {one.name} is missing, by which rows are told apart" for one in lacking if one.name in identity]
        problems += [
            f"column {column.name} takes no nulls, but the rows have some"
            for column in self.columns
            if column.nullable and column.name in existing.not_null and column.name not in identity
        ]
        problems += ["it has no partitions"] if self.layout is Layout.DAILY and not existing.is_partitioned else []
        if problems:
            raise ConfigError(
                f"postgres: the table {self} does not fit: {'; '.join(problems)}. Types are never changed here: give the sink"
                " another table, or change this one (ALTER TABLE)"
            )
        return lacking

    def conflict(self, existing: Existing) -> tuple[str, ...]:
        """Return the columns that the table itself keeps unique, by which it recognises a row that comes again.

        Raises:
            ConfigError: if there are none.
        """
        for columns in (self.key, (self.names.time, *self.key)):
            if frozenset(columns) in existing.unique:
                return tuple(dict.fromkeys(columns))
        raise ConfigError(
            f"postgres: nothing keeps {', '.join(self.key)} unique in the table {self}, so rows would be there twice: add a"
            " unique index on these columns, or let `blobtide sink-setup` create the table"
        )

    def stage(self) -> Iterator[str]:
        """Yield the statements that create the temporary tables of a session, which are empty outside a transaction."""
        words = [column for column in self.columns if column.is_word]
        numbers = [f"{quoted(name)} integer" for name in NUMBERS] if words else []
        yield _temporary(ROWS, [*numbers, *(_arriving(column) for column in self.columns if not column.is_word)])
        if words:
            yield _temporary(WORDS, [f"{quoted(NUMBER)} integer", *map(_arriving, words)])

    def insert(self, existing: Existing) -> str:
        """Return the statement that moves rows from the temporary tables to this one. Raises `ConfigError`."""
        unique = self.conflict(existing)
        columns = listed(column.name for column in self.columns)
        values = ", ".join(_value(column, existing.types[column.name]) for column in self.columns)
        into = f"INSERT INTO {self.sql} AS old ({columns}) "
        if not self.names.keys:
            return f"{into}SELECT {values} FROM {self._staged} ON CONFLICT ({listed(unique)}) DO NOTHING"  # noqa: S608 - quoted
        newest = (self.names.time, *self.names.position)
        order = ", ".join([*map(quoted, self.key), *(f"{quoted(name)} DESC" for name in newest)])
        rows = f"SELECT DISTINCT ON ({listed(self.key)}) {values} FROM {self._staged} ORDER BY {order}"  # noqa: S608 - quoted
        changed = ", ".join(f"{quoted(one.name)} = excluded.{quoted(one.name)}" for one in self.columns)
        old, new = (", ".join(f"{of}.{quoted(name)}" for name in newest) for of in ("old", "excluded"))
        return f"{into}{rows} ON CONFLICT ({listed(unique)}) DO UPDATE SET {changed} WHERE ({old}) < ({new})"

    @property
    def _staged(self) -> str:
        """The rows of the temporary tables, with their words, as the source of a query."""
        if not any(column.is_word for column in self.columns):
            return ROWS
        # A word is in one of the two entries, and null in the other.
        values = ", ".join(_staged(column) for column in self.columns)
        entries = zip(_ENTRIES, NUMBERS, strict=True)
        joins = " ".join(f"JOIN {WORDS} {entry} ON {entry}.{quoted(NUMBER)} = {quoted(name)}" for entry, name in entries)
        return f"(SELECT {values} FROM {ROWS} {joins}) staged"  # noqa: S608 - quoted


def table_of(row_type: RowType, settings: PostgresSettings) -> tuple[Table, Shape]:
    """Return the table for rows of a type, and which columns of them it has besides `SOURCE_ID`.

    Raises:
        ConfigError: if a column cannot be stored, or settings do not fit together.
    """
    by_id = settings.key is Key.ID and not row_type.keys
    if by_id:
        position = row_type.position
        shape = shape_with((row_type.time, position.offset, position.index), row_type, settings, KIND)
        if SOURCE_ID in shape.names:
            raise ConfigError(f"rename: postgres has a column {SOURCE_ID} of its own: give another column another name")
    else:
        shape = identified_shape(row_type, settings, KIND)
    if row_type.keys and settings.layout is not Layout.PLAIN:
        raise ConfigError(f"layout: of {row_type.name} only the newest row of each key counts, so the table cannot be divided")
    names, comments = names_of(row_type, shape), comments_of(row_type, shape)
    _check_addresses(shape, row_type, settings)
    addresses = {name for column, name in zip(shape.columns, shape.names, strict=True) if column in settings.address_columns}
    schema = shape.apply(settings.rows_schema(row_type).empty_table()).schema
    columns = [_column(field, comments.get(field.name, ""), field.name in addresses) for field in schema]
    key: tuple[str, ...] = names.keys or names.position
    if by_id:
        columns.insert(0, TableColumn(SOURCE_ID, "uuid", "uuid", nullable=False, comment="hash of source and generation"))
        key = (SOURCE_ID, names.offset, names.index)
    return Table(*settings.table_path(row_type.name), tuple(columns), names, key, settings.layout), shape


def _check_addresses(shape: Shape, row_type: RowType, settings: PostgresSettings) -> None:
    for name in settings.address_columns:
        if name not in shape.columns or not _is_text(row_type.schema.field(name).type):
            raise ConfigError(f"address_columns: {name} is no text column of these rows")


def _is_text(kind: pa.DataType) -> bool:
    return wire_of(kind, "").sql == "text"


def _column(field: pa.Field, comment: str, is_address: bool) -> TableColumn:  # noqa: FBT001
    kind = wire_of(field.type, field.name).sql
    return TableColumn(field.name, "inet" if is_address else kind, kind, field.nullable, comment, is_word(field.type))


def _value(column: TableColumn, existing: str) -> str:
    cast = f"::{existing}" if existing != column.arrives_as and existing in _CAST else ""
    return f"{quoted(column.name)}{cast}"


def _temporary(name: str, columns: Sequence[str]) -> str:
    return f"CREATE TEMPORARY TABLE IF NOT EXISTS {name} ({', '.join(columns)}) ON COMMIT DELETE ROWS"


def _arriving(column: TableColumn) -> str:
    return f"{quoted(column.name)} {column.arrives_as}"


def _staged(column: TableColumn) -> str:
    name = quoted(column.name)
    one, other = (f"{entry}.{name}" for entry in _ENTRIES)
    return f"coalesce({one}, {other}) AS {name}" if column.is_word else name


def fits(arriving: str, existing: str) -> bool:
    """Return whether values of one type may be inserted into a column of another without loss."""
    if arriving == existing:
        return True
    wider = _WIDER.get(arriving, ())
    return existing in wider or (_LENGTH.sub("", existing) in wider and not existing.startswith("numeric"))


def _text(value: str) -> str:
    """Return a text as a SQL literal; servers read backslashes as they are."""
    return "'" + value.replace("'", "''") + "'"
