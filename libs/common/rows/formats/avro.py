"""Rows as Avro: the schema is derived from the row type, and each row is one datum.

A datum identifies its schema either by the schema's fingerprint (Avro's single-object encoding) or by its id in a registry
(Confluent's wire format). Fields have the names of the columns; a nullable one is a union with null. Times are counts since
1970 in the column's unit, as in Avro's logical types.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import fastavro
import pyarrow as pa
from fastavro.schema import fingerprint, to_parsing_canonical_form

from libs.common.errors import ConfigError
from libs.common.rows.row_type import RowType

NAMESPACE: Final = "blobtide"
_SINGLE_OBJECT: Final = b"\xc3\x01"
_CONFLUENT: Final = b"\x00"
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TIMES: Final = {"ms": "timestamp-millis", "us": "timestamp-micros", "ns": "timestamp-nanos"}
_SMALL_BITS: Final = 32


def avro_schema(row_type: RowType, columns: pa.Schema) -> dict[str, Any]:
    """Return the Avro schema of rows of a row type with `columns` (names and types after renaming).

    Raises:
        ConfigError: if a name is not valid for an Avro field, or Avro has no equivalent of a type.
    """
    if wrong := [name for name in columns.names if not _FIELD.fullmatch(name)]:
        raise ConfigError(f"rename: {wrong[0]} cannot name a field in Avro; use letters, digits and _")
    told = {column.name: column.description for column in row_type.columns}
    return {
        "type": "record",
        "name": row_type.name,
        "namespace": NAMESPACE,
        "doc": f"{row_type.name}, version {row_type.version}",
        "fields": [_field(field, told.get(field.name, "")) for field in columns],
    }


class AvroRows:
    """Encodes rows of one schema; `schema_id` is the id of the schema in a registry, if there is one."""

    def __init__(self, row_type: RowType, columns: pa.Schema, schema_id: int | None = None) -> None:
        raw = avro_schema(row_type, columns)
        self.schema_text = json.dumps(raw, ensure_ascii=False)
        self._mark = _mark(raw) if schema_id is None else _CONFLUENT + schema_id.to_bytes(4, "big")
        self._schema = fastavro.parse_schema(raw)

    def encode(self, rows: pa.Table) -> Sequence[bytes]:
        """Return one datum per row."""
        plain = pa.table([_plain(column) for column in rows.columns], names=rows.column_names)
        return [self._datum(row) for row in plain.to_pylist()]

    def _datum(self, row: dict[str, Any]) -> bytes:
        parts = [self._mark]
        out: Any = _Written(parts)
        fastavro.schemaless_writer(out, self._schema, row)
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class _Written:
    """The part of a file that the library needs for writing."""

    parts: list[bytes]

    def write(self, data: bytes) -> None:
        self.parts.append(bytes(data))


def _mark(schema: dict[str, Any]) -> bytes:
    return _SINGLE_OBJECT + bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def _field(field: pa.Field, description: str) -> dict[str, Any]:
    kind = _kind(field.name, field.type)
    told = {"doc": description} if description else {}
    if not field.nullable:
        return {"name": field.name, "type": kind, **told}
    return {"name": field.name, "type": ["null", kind], "default": None, **told}


def _kind(name: str, type_: pa.DataType) -> Any:
    if pa.types.is_dictionary(type_):
        return _kind(name, type_.value_type)
    if pa.types.is_timestamp(type_) and type_.unit in _TIMES:
        return {"type": "long", "logicalType": _TIMES[type_.unit]}
    if pa.types.is_integer(type_):
        fits_int = type_.bit_width < _SMALL_BITS or type_ == pa.int32()
        return "int" if fits_int else "long"
    if pa.types.is_list(type_):
        return {"type": "array", "items": _kind(name, type_.value_type)}
    found = next((avro for is_type, avro in _PLAIN if is_type(type_)), None)
    if found is None:
        raise ConfigError(f"column {name} of type {type_} cannot be written as Avro")
    return found


_PLAIN: Final = (
    (pa.types.is_string, "string"),
    (pa.types.is_boolean, "boolean"),
    (pa.types.is_float32, "float"),
    (pa.types.is_float64, "double"),
    (pa.types.is_binary, "bytes"),
)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return times as their underlying integers: Python's own times would cost more and lose nanoseconds."""
    return column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
