"""The formats of a row as a message or a document, in one table for all destinations.

An `Encoder` is made once for a row type and a `Shape`; settings that do not fit together are refused at that point. It then
turns tables of that row type (with the columns that sampling adds, if any) into one text or datum per row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.errors import ConfigError
from libs.common.rows.formats.avro import AvroRows
from libs.common.rows.formats.csv import csv_header, csv_rows, csv_slices
from libs.common.rows.formats.ecs_types import ecs_columns_of, has_ecs
from libs.common.rows.formats.json import document_text
from libs.common.rows.formats.line import FlowLines, RowLines
from libs.common.rows.formats.otel import otel_text
from libs.common.rows.formats.otel_proto import record_bytes
from libs.common.rows.row_text import RowText, SizedBytes, TextColumn
from libs.common.rows.row_type import RowType
from libs.common.rows.sampling import SAMPLE_WEIGHT
from libs.common.rows.shape import Shape
from libs.common.rows.types.flows import FLOWS

_JSON: Final = "application/json"


class RowFormat(StrEnum):
    """The format of a row."""

    JSON = "json"  # an object with the columns as members
    ECS = "ecs"  # a document of the Elastic Common Schema
    OTEL = "otel"  # an OpenTelemetry log in the JSON form of OTLP
    CSV = "csv"
    LINE = "line"  # for people
    AVRO = "avro"


class Encoder(Protocol):
    """Encodes rows of one type in one format."""

    @property
    def content_type(self) -> str:
        """The media type of what `encode` returns."""

    def encode(self, rows: pa.Table) -> Sequence[bytes]:
        """Return each row in the encoder's format."""


@dataclass(frozen=True, slots=True)
class Documents:
    """Rows as JSON documents, or as text columns for destinations that put many documents into one text."""

    text_columns: Callable[[pa.Table], list[TextColumn]]
    content_type: str = _JSON

    def encode(self, rows: pa.Table) -> Sequence[bytes]:
        """Return one document per row."""
        slices = RowText(self.text_columns(rows), rows.num_rows).slices()
        return [document for some in slices for document in some.cast(pa.binary()).to_pylist()]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Any other format."""

    content_type: str
    encode_rows: Callable[[pa.Table], Sequence[bytes]]

    def encode(self, rows: pa.Table) -> Sequence[bytes]:
        return self.encode_rows(rows)


def formats_for(row_type: RowType) -> tuple[RowFormat, ...]:
    """Return the formats available for a row type."""
    return tuple(one for one in RowFormat if one is not RowFormat.ECS or has_ecs(row_type))


def documents_for(form: RowFormat, row_type: RowType, shape: Shape) -> Documents:
    """Return an encoder that makes JSON documents, in one of the JSON formats.

    Raises:
        ConfigError: if the row type lacks the format, the format is not JSON, or it does not allow the names in `shape`.
    """
    _check_available(form, row_type)
    match form:
        case RowFormat.JSON | RowFormat.ECS:
            return Documents(partial(_document_text, columns_for(form, row_type, shape)))
        case RowFormat.OTEL:
            return Documents(partial(_otel, row_type, _kept(shape, row_type, form)))
        case _:
            raise ConfigError(f"format: {form.value} does not produce JSON documents; choose one of json, ecs, otel")


def columns_for(form: RowFormat, row_type: RowType, shape: Shape) -> Callable[[pa.Table], pa.Table]:
    """Return a function that gives the members of documents as columns; dots in their names nest.

    Raises:
        ConfigError: if the row type lacks the format, its documents are not made of columns, or it does not allow the names in
            `shape`.
    """
    _check_available(form, row_type)
    match form:
        case RowFormat.JSON:
            return time_first(shape, row_type).apply
        case RowFormat.ECS:
            return partial(_ecs, row_type, _kept(shape, row_type, form))
        case _:
            raise ConfigError(f"format: {form.value} is not made of columns; choose one of json, ecs")


def encoder_for(form: RowFormat, row_type: RowType, shape: Shape, schema_id: int | None = None) -> Encoder:
    """Return an encoder for a format; `schema_id` is the id of the Avro schema in a registry.

    Raises:
        ConfigError: as `documents_for`.
    """
    ordered = time_first(shape, row_type)
    match form:
        case RowFormat.CSV:
            return _Rows("text/csv", lambda rows: csv_rows(ordered.apply(rows)))
        case RowFormat.LINE:
            return _Rows("text/plain; charset=utf-8", partial(_lines, lines_for(row_type, shape)))
        case RowFormat.AVRO:
            avro = AvroRows(row_type, ordered.apply(_no_rows(row_type, shape)).schema, schema_id)
            return _Rows("avro/binary", lambda rows: avro.encode(ordered.apply(rows)))
        case _:
            return documents_for(form, row_type, shape)


@dataclass(frozen=True, slots=True)
class CsvLines:
    """Rows as lines of CSV, for destinations that put many rows into one text."""

    row_type: RowType
    shape: Shape

    @property
    def header(self) -> bytes:
        """The header line."""
        ordered = time_first(self.shape, self.row_type)
        return csv_header(ordered.apply(_no_rows(self.row_type, self.shape)).schema)

    def slices(self, rows: pa.Table) -> Iterator[pa.Array]:
        """Yield the line of each row, with its line ending, a bounded number at a time."""
        for some in csv_slices(time_first(self.shape, self.row_type).apply(rows)):
            yield pc.binary_join_element_wise(some, "", "\n")


def log_records_for(row_type: RowType, shape: Shape) -> Callable[[pa.Table], SizedBytes]:
    """Return a function that makes OpenTelemetry log records in the protobuf encoding.

    Raises:
        ConfigError: if `shape` renames columns.
    """
    kept = _kept(shape, row_type, RowFormat.OTEL)
    return lambda rows: record_bytes(row_type, _without_others(rows, kept))


def lines_for(row_type: RowType, shape: Shape) -> Callable[[pa.Table], bytes]:
    """Return a function that makes lines for people: aligned for complete flows, names and values for anything else."""
    if row_type is FLOWS and shape == Shape.of(row_type, added=_added(shape.columns, row_type)):
        return FlowLines().text
    ordered, lines = time_first(shape, row_type), RowLines()
    return lambda rows: lines.text(ordered.apply(rows))


def time_first(shape: Shape, row_type: RowType) -> Shape:
    """Return `shape` with the time column first, unless the order of columns was chosen explicitly."""
    if shape.columns[: len(row_type.names)] != row_type.names:
        return shape
    order = sorted(range(len(shape.columns)), key=lambda at: shape.columns[at] != row_type.time)
    return replace(shape, columns=tuple(shape.columns[at] for at in order), names=tuple(shape.names[at] for at in order))


def _check_available(form: RowFormat, row_type: RowType) -> None:
    if form not in formats_for(row_type):
        allowed = ", ".join(formats_for(row_type))
        raise ConfigError(f"format: {form.value} is not available for {row_type.name}; choose one of {allowed}")


def _document_text(columns: Callable[[pa.Table], pa.Table], rows: pa.Table) -> list[TextColumn]:
    return document_text(columns(rows))


def _ecs(row_type: RowType, kept: frozenset[str], rows: pa.Table) -> pa.Table:
    added = {f"blobtide.{name}": rows.column(name) for name in _added(rows.column_names, row_type)}
    return pa.table({**ecs_columns_of(row_type)(_without_others(rows, kept)), **added})


def _otel(row_type: RowType, kept: frozenset[str], rows: pa.Table) -> list[TextColumn]:
    return otel_text(row_type, _without_others(rows, kept))


def _kept(shape: Shape, row_type: RowType, form: RowFormat) -> frozenset[str]:
    if shape.names != shape.columns:
        raise ConfigError(f"rename: the names of {form.value} are fixed; remove rename, or choose format json")
    return frozenset((*shape.columns, row_type.time))


def _without_others(rows: pa.Table, kept: frozenset[str]) -> pa.Table:
    """Return rows in which all values of columns that were not chosen are null."""
    for at, field in enumerate(rows.schema):
        if field.name not in kept:
            rows = rows.set_column(at, pa.field(field.name, field.type), _nulls(field.type, rows.num_rows))
    return rows


def _nulls(kind: pa.DataType, count: int) -> pa.Array:
    if not pa.types.is_dictionary(kind):
        return pa.nulls(count, kind)
    return pa.DictionaryArray.from_arrays(pa.nulls(count, kind.index_type), pa.array([], kind.value_type))


def _lines(text: Callable[[pa.Table], bytes], rows: pa.Table) -> Sequence[bytes]:
    return text(rows).split(b"\n")[:-1]


def _no_rows(row_type: RowType, shape: Shape) -> pa.Table:
    """Return an empty table with every column of `shape`, including any that sampling or fields add."""
    weight = pa.field(SAMPLE_WEIGHT, pa.float64(), nullable=False)
    names = _added(shape.columns, row_type)
    fields = [weight if name == SAMPLE_WEIGHT else pa.field(name, pa.string()) for name in names]
    return pa.schema([*row_type.schema, *fields]).empty_table()


def _added(names: Sequence[str], row_type: RowType) -> list[str]:
    return [name for name in names if name not in row_type.names]
