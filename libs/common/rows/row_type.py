"""What a kind of rows is: a name, a version, columns, the topic that carries it, and what identifies a row.

Everything behind the producers of rows (wire form, sinks, formats, conditions, dead letters, reference pages) takes a `RowType`
and knows no column by name. A row type is declared in a module of its own under `libs.common.rows.types`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import pyarrow as pa

WORD: Final = pa.dictionary(pa.int32(), pa.string())
"""The type of text that repeats from row to row."""

NAME_KEY: Final = "blobtide.schema"
VERSION_KEY: Final = "blobtide.version"
"""Keys of the schema's metadata, by which a batch says what it is."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column, with what its reference page says.

    Attributes:
        name: as in Arrow, in settings and in conditions.
        type: Arrow type.
        description: a phrase: what the value is.
        nullable: whether a row may lack it.
        unit: of a number or a time, such as ``bytes``; empty where there is none.
        null_means: what it means that a row lacks it; empty if it never does.
    """

    name: str
    type: pa.DataType
    description: str
    nullable: bool = True
    unit: str = ""
    null_means: str = ""


@dataclass(frozen=True, slots=True)
class PositionColumns:
    """The names of the columns that say where a row stands in its source.

    Together they identify the row: a replay assigns the same values, and they ascend within one generation of a source.

    Attributes:
        source: what the row was read from, such as a blob; text.
        generation: another one when the source was replaced by another of the same name; text.
        offset: where the record with the row stands in the source; an integer.
        index: number of the row within its record; an integer.
    """

    source: str
    generation: str
    offset: str
    index: str

    @property
    def names(self) -> tuple[str, str, str, str]:
        """The four names, in the order of identity."""
        return self.source, self.generation, self.offset, self.index


@dataclass(frozen=True, eq=False)
class RowType:
    """One kind of rows. There is one instance for each; they are compared by identity.

    Attributes:
        name: as in settings (``rows: flows``) and in message headers.
        version: of the schema; another one whenever a reader of the old schema would misunderstand the new.
        description: what one row is, in a few sentences.
        columns: in order.
        topic: the field of `TopicSettings` that names the topic which carries these rows.
        time: name of the column with the time by which rows are laid out, expired and plotted; never null.
        position: names of the columns that identify a row.
        keys: names of the columns by which rows belong together of which only the newest counts; empty where every row counts.
        example: one row, as Python values, for the reference page; columns that it leaves out are null.

    Raises:
        ValueError: at construction, if two columns share a name, or a column that is referred to is missing or may be null.
    """

    name: str
    version: int
    description: str
    columns: tuple[Column, ...]
    topic: str
    time: str
    position: PositionColumns
    keys: tuple[str, ...] = ()
    example: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a declaration that contradicts itself."""
        by_name = {column.name: column for column in self.columns}
        if len(by_name) < len(self.columns):
            raise ValueError(f"row type {self.name}: duplicate column")
        for name in (self.time, *self.position.names, *self.keys):
            if name not in by_name:
                raise ValueError(f"row type {self.name}: no column {name}")
            if by_name[name].nullable and name not in self.keys:
                raise ValueError(f"row type {self.name}: column {name} may be null, but every row needs it")
        if unknown := [name for name in self.example if name not in by_name]:
            raise ValueError(f"row type {self.name}: no column {unknown[0]}, but the example has a value for it")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns, in order."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema; its metadata say the name and the version."""
        fields = [pa.field(column.name, column.type, nullable=column.nullable) for column in self.columns]
        return pa.schema(fields, metadata={NAME_KEY: self.name, VERSION_KEY: str(self.version)})

    @property
    def example_table(self) -> pa.Table:
        """The example as a table of one row."""
        return pa.Table.from_pylist([dict(self.example)], schema=self.schema)

    @cached_property
    def never_null(self) -> tuple[str, ...]:
        """The names of the columns that every row has."""
        return tuple(column.name for column in self.columns if not column.nullable)
