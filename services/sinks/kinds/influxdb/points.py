"""Rows as points: which columns are tags, and a time by which no row replaces another.

A server keeps one point for each measurement, set of tags and time; another one replaces it. That makes a repeated write
harmless, if the point of a row follows from the row alone, and it loses rows if two of them make the same point. Rows have
times in milliseconds, of which many are equal; points have nanoseconds. So the time of a point is that of its row, plus a part
of a millisecond that follows from the row's position::

    (hash of source and generation + offset + index) mod 1,000,000 nanoseconds

- *Within a record* it differs for every two rows: they have different indexes, of which no record has a million.
- *Within a source*, offset + index differs for every two rows, since a record is longer than it has rows. So two rows are equal
  only if they are exactly a million (or a multiple) apart, and have the same millisecond and the same tags.
- *Between sources*, and across that distance, it is a matter of chance: 1 in 1,000,000 for each pair of rows that have the same
  millisecond and the same tags. The default tags contain the network interface. Rows of one interface and one millisecond are
  in one record, or in two where an hour ends.

Rows of one part that would still make the same point are found, and all but the first are refused. Cutting the time of a point
to milliseconds gives the time of the row. If rows have times in nanoseconds, those are in the field ``time_ns`` of the point.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from libs.common.errors import ConfigError
from libs.common.rows.column_values import A_SECOND, combined, integers
from libs.common.rows.combinations import Combinations
from libs.common.rows.formats.line_protocol import point_columns, tag_words
from libs.common.rows.identity import Identities
from libs.common.rows.row_text import Ints, RowText
from libs.common.rows.row_type import RowType
from libs.common.rows.shape import Shape, unknown_column

_NANOSECONDS: Final = 1_000_000_000
_LARGEST: Final = 2**63 - 2 * _NANOSECONDS
_HASH_DIGITS: Final = 12
_NOT_TAGS: Final = frozenset({"blob", "generation"})
_TIME: Final = "time"  # what servers call the time of a point
_TIME_NS: Final = "time_ns"
_TICKS: Final = 1_000  # of a second, at most: what is finer is lost to the part that follows from the position


@dataclass(frozen=True, slots=True)
class PointShape:
    """The tags and fields of points: column of the row, and name at the destination.

    Attributes:
        measurement: of all points.
        tags, fields: in order.
    """

    measurement: str
    tags: Mapping[str, str]
    fields: Mapping[str, str]

    @classmethod
    def of(cls, row_type: RowType, shape: Shape, schema: pa.Schema, measurement: str, tags: Sequence[str] | None) -> PointShape:
        """Choose tags and fields; `schema` is that of the rows.

        Raises:
            ConfigError: if a tag is no column, a name or a type cannot be used, or no field is always there.
        """
        chosen = {column: name for column, name in zip(shape.columns, shape.names, strict=True) if column != row_type.time}
        wanted = [name for name in chosen if _is_tag(row_type, schema.field(name))] if tags is None else tags
        for name in wanted:
            if name not in chosen:
                raise ConfigError(f"tags: {_why_no_tag(name, row_type, schema)}")
        for name in chosen.values():
            if objection := _objection(name):
                raise ConfigError(f"rename: {objection}")
        made = cls(
            measurement,
            {column: name for column, name in chosen.items() if column in wanted},
            {column: name for column, name in chosen.items() if column not in wanted},
        )
        made._check(schema)
        return made

    def _check(self, schema: pa.Schema) -> None:
        for name in (*self.tags, *self.fields):
            kind = schema.field(name).type
            if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_uint64(kind):
                raise ConfigError(f"columns: {name} is of type {kind}, which no point has: leave it out")
        if not any(
            not schema.field(name).nullable and not pa.types.is_floating(schema.field(name).type) for name in self.fields
        ):
            raise ConfigError("columns: a point needs a field that is never null, such as the position of the row")


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Points of some rows: `lines` yields them in order.

    Attributes:
        rows: the row of each point, as an index in the part.
        identities: of these rows.
        text: the lines.
        untimely: rows whose time a point cannot have.
        colliding: rows that would replace another one.
    """

    rows: Ints
    identities: Identities
    text: RowText
    untimely: Ints
    colliding: Ints

    def lines(self) -> Iterator[pa.Array]:
        """Yield the lines as arrays of strings, a bounded number at a time."""
        return self.text.slices()


class PointMaker:
    """Makes points of rows of one type."""

    def __init__(self, row_type: RowType, shape: PointShape) -> None:
        self._row_type = row_type
        self._shape = shape

    def points(self, table: pa.Table) -> Points:
        """Return the points of rows."""
        times = combined(table, self._row_type.time)
        ticks = A_SECOND[times.type.unit]
        values = integers(times)
        limit = _LARGEST // (_NANOSECONDS // ticks)
        fits = (values >= -limit) & (values <= limit)
        rows, untimely = np.flatnonzero(fits), np.flatnonzero(~fits)
        if len(untimely):
            table, values = table.take(rows), values[rows]
        identities = Identities.of(table, self._row_type.position)
        nanoseconds = _spread(values, ticks, identities)
        tags = {name: combined(table, column) for column, name in self._shape.tags.items()}
        colliding = collisions(nanoseconds, list(tags.values()), identities)
        kept = np.delete(np.arange(len(rows)), colliding)
        if len(colliding):
            table, nanoseconds, identities = table.take(kept), nanoseconds[kept], some_of(identities, kept)
            values = values[kept]
            tags = {name: combined(table, column) for column, name in self._shape.tags.items()}
        fields = {name: combined(table, column) for column, name in self._shape.fields.items()}
        if ticks > _TICKS:
            fields[_TIME_NS] = pa.array(values)
        text = RowText(point_columns(self._shape.measurement, tags, fields, nanoseconds), table.num_rows)
        return Points(rows[kept], identities, text, untimely, rows[colliding])


def some_of(identities: Identities, rows: Ints) -> Identities:
    """Return the identities of some rows."""
    return Identities(identities.generations, identities.generation[rows], identities.offset[rows], identities.index[rows])


def _spread(times: Ints, ticks: int, identities: Identities) -> Ints:
    """Return the times of points in nanoseconds, given those of rows in parts of a second, of which there are `ticks`."""
    coarse = times // (ticks // _TICKS) if ticks > _TICKS else times
    a_tick = _NANOSECONDS // min(ticks, _TICKS)
    return coarse * a_tick + part_of_tick(identities, a_tick)


def part_of_tick(identities: Identities, nanoseconds: int) -> Ints:
    """Return for each row how many of the nanoseconds of a tick are added to its time."""
    hashes = [int(name[:_HASH_DIGITS], 16) % nanoseconds for name in identities.generations.to_pylist()]
    of_source = np.array(hashes, np.int64)[identities.generation] if hashes else np.zeros(0, np.int64)
    added: Ints = (of_source + identities.offset % nanoseconds + identities.index % nanoseconds) % nanoseconds
    return added


def collisions(nanoseconds: Ints, tags: Sequence[pa.Array], identities: Identities) -> Ints:
    """Return the rows that would make the same point as another row: all but those of the lowest position."""
    in_order = np.sort(nanoseconds)
    repeated = in_order[1:][in_order[1:] == in_order[:-1]]
    if not len(repeated):
        return np.zeros(0, np.int64)
    some = np.flatnonzero(np.isin(nanoseconds, repeated))
    codes = [_codes(column.take(pa.array(some))) for column in tags]
    series = Combinations.of(codes).of_row if codes else np.zeros(len(some), np.int64)
    generation = _ranks(identities.generations)[identities.generation[some]]
    offset, index, time = identities.offset[some], identities.index[some], nanoseconds[some]
    order = np.lexsort((index, offset, generation, series, time))
    point = _changes(order, time, series)  # the number of each point, in order
    row = _changes(order, time, series, generation, offset, index)
    first = row[np.concatenate(([0], np.flatnonzero(np.diff(point)) + 1))]  # the row that each point begins with
    return np.sort(some[order[row != first[point]]])


def _changes(order: Ints, *columns: Ints) -> Ints:
    """Return how often any of the columns has changed before each row, in the order given."""
    differs = np.zeros(len(order) - 1, np.bool_)
    for column in columns:
        differs |= np.diff(column[order]) != 0
    return np.concatenate(([0], np.cumsum(differs)))


def _codes(column: pa.Array) -> Ints:
    """Return a number for the text of each row's tag."""
    words = tag_words(column)
    numbers: dict[str, int] = {}
    of_word = np.array([numbers.setdefault(text, len(numbers)) for text in words.texts], np.int64)
    return of_word[words.codes]


def _ranks(generations: pa.Array) -> Ints:
    """Return the place of each generation in the order of their hashes, which is the same in every batch."""
    ranks = np.empty(len(generations), np.int64)
    ranks[np.argsort(generations.to_numpy(zero_copy_only=False))] = np.arange(len(generations))
    return ranks


def _is_tag(row_type: RowType, field: pa.Field) -> bool:
    return pa.types.is_dictionary(field.type) and field.name not in {*row_type.position.names, *_NOT_TAGS}


def _why_no_tag(name: str, row_type: RowType, schema: pa.Schema) -> str:
    if name == row_type.time:
        return f"{name} is the time of the points"
    if name in schema.names:
        return f"column {name} is not among the chosen columns"
    return unknown_column(name, schema.names, row_type)


def _objection(name: str) -> str | None:
    """Return why servers do not take a name for a tag or a field; None if they do."""
    if name == _TIME:
        return "time is the name of the time of every point: give the column another name"
    if name == _TIME_NS:
        return "time_ns is the field of points with the whole time: give the column another name"
    if name.startswith("_"):
        return f"{name} begins with _, which servers keep for themselves"
    if not name.isprintable() or name.endswith("\\"):
        return f"{name!r} cannot name a tag or a field"
    return None
