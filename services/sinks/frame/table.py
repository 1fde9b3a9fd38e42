"""What destinations with tables have in common: the result of a write, which columns a table needs, names in standard SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from libs.common.errors import ConfigError
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.row_type import RowType
from libs.common.rows.shape import Shape
from services.sinks.frame.settings import SinkSettings


@dataclass(frozen=True, slots=True)
class UnfitRow:
    """A row that the server does not accept, by its number in the batch."""

    row: int
    code: ErrorCode
    reason: str


@dataclass(frozen=True, slots=True)
class TableOutcome:
    """The result of writing a batch to a table."""

    written: int
    already_there: int
    refused: list[UnfitRow]


def quoted(name: str) -> str:
    """Return a name as an identifier of standard SQL."""
    return '"' + name.replace('"', '""') + '"'


def listed(names: Iterable[str]) -> str:
    """Return names as a list of identifiers of standard SQL."""
    return ", ".join(map(quoted, names))


def shape_with(needed: Sequence[str], row_type: RowType, settings: SinkSettings, kind: str) -> Shape:
    """Return the chosen columns, followed by those of `needed` that were not chosen.

    Raises:
        ConfigError: if `columns` or `rename` do not match the row type, or take the name of a needed column.
    """
    chosen = settings.shape(row_type)
    missing = [name for name in needed if name not in chosen.columns]
    if taken := [name for name in missing if name in chosen.names]:
        raise ConfigError(f"rename: {kind} needs the column {taken[0]} to tell rows apart: give another column another name")
    return Shape((*chosen.columns, *missing), (*chosen.names, *missing))


def identified_shape(row_type: RowType, settings: SinkSettings, kind: str) -> Shape:
    """Return the chosen columns, followed by those that a table needs to tell rows apart. Raises as `shape_with` does."""
    return shape_with((row_type.time, *row_type.position.names, *row_type.keys), row_type, settings, kind)


def comments_of(row_type: RowType, shape: Shape) -> dict[str, str]:
    """Return the description of each column of a table by the column's name in it."""
    descriptions = {column.name: column.description for column in row_type.columns}
    return {name: descriptions[column] for column, name in _pairs(shape).items() if column in descriptions}


@dataclass(frozen=True, slots=True)
class Names:
    """The names, in a table, of the columns needed for its layout and for the identity of rows."""

    time: str
    source: str
    generation: str
    offset: str
    index: str
    keys: tuple[str, ...] = ()

    @classmethod
    def of(cls, row_type: RowType, renamed: Mapping[str, str]) -> Names:
        """Return the names for a row type, some of whose columns may be renamed (old to new name)."""
        source, generation, offset, index = (renamed.get(name, name) for name in row_type.position.names)
        keys = tuple(renamed.get(name, name) for name in row_type.keys)
        return cls(renamed.get(row_type.time, row_type.time), source, generation, offset, index, keys)

    @property
    def position(self) -> tuple[str, str, str, str]:
        """The columns that identify a row."""
        return self.source, self.generation, self.offset, self.index


def names_of(row_type: RowType, shape: Shape) -> Names:
    """Return the names for a row type in a table with columns as in `shape`."""
    return Names.of(row_type, _pairs(shape))


def _pairs(shape: Shape) -> dict[str, str]:
    return dict(zip(shape.columns, shape.names, strict=True))
