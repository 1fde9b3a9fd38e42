"""The definition of a row type: a name, a version, columns, the topic that carries it, and what identifies a row.

Everything downstream of the producers of rows (wire form, sinks, formats, conditions, dead letters, reference pages) takes a
`RowType` and knows no column by name. Each row type is declared in its own module under `libs.common.rows.types`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import pyarrow as pa

WORD: Final = pa.dictionary(pa.int32(), pa.string())
"""The Arrow type for text that repeats from row to row."""

NAME_KEY: Final = "blobtide.schema"
VERSION_KEY: Final = "blobtide.version"
"""Keys of the schema metadata that identify the row type and version of a batch."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column, with the text for its reference page.

    Attributes:
        name: as used in Arrow, settings and conditions.
        type: Arrow type.
        description: a phrase that says what the value is.
        nullable: whether it may be null.
        unit: the unit of a number or a time, such as ``bytes``; empty if there is none.
        null_means: what a null means; empty if the column is never null.
    """

    name: str
    type: pa.DataType
    description: str
    nullable: bool = True
    unit: str = ""
    null_means: str = ""


@dataclass(frozen=True, slots=True)
class PositionColumns:
    """The names of the columns that locate a row in its source.

    Together they identify the row: a replay assigns the same values, and these ascend within one generation of a source.

    Attributes:
        source: what the row was read from, such as a blob; text.
        generation: changes when the source is replaced by another of the same name; text.
        offset: where the record that contains the row starts in the source; an integer.
        index: number of the row within its record; an integer.
    """

    source: str
    generation: str
    offset: str
    index: str

    @property
    def names(self) -> tuple[str, str, str, str]:
        """The four names, in the order above."""
        return self.source, self.generation, self.offset, self.index


@dataclass(frozen=True, eq=False)
class RowType:
    """A type of rows. There is exactly one instance of each; they are compared by identity.

    Attributes:
        name: as used in settings (``rows: flows``) and in message headers.
        version: of the schema; changes whenever a reader of the old schema would misread the new one.
        description: what a row is, in a few sentences.
        columns: in order.
        topic: the field of `TopicSettings` that names the topic of these rows.
        more_topics: fields that name other topics of such rows.
        time: name of the column with the time by which rows are laid out, expired and plotted; never null.
        position: names of the columns that identify a row.
        document: name of a column with JSON, in which values can be selected; empty if there is none.
        keys: names of the columns that form a key if only the newest row of each key counts; empty if every row counts.
        example: a row as Python values, for the reference page; columns left out are null.

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
    more_topics: tuple[str, ...] = ()
    document: str = ""
    example: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an inconsistent declaration."""
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
        """The Arrow schema; its metadata holds the name and the version."""
        fields = [pa.field(column.name, column.type, nullable=column.nullable) for column in self.columns]
        return pa.schema(fields, metadata={NAME_KEY: self.name, VERSION_KEY: str(self.version)})

    @property
    def example_table(self) -> pa.Table:
        """The example as a table with one row."""
        return pa.Table.from_pylist([dict(self.example)], schema=self.schema)

    @cached_property
    def never_null(self) -> tuple[str, ...]:
        """The names of the columns that are never null."""
        return tuple(column.name for column in self.columns if not column.nullable)
