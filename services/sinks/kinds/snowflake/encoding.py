"""Rows as a Parquet file, in the types in which Snowflake reads them without interpretation.

Snowflake reads some of Parquet's types in its own way: it takes times for numbers unless told otherwise, bytes for text, and
refuses large unsigned numbers. Therefore a file contains only numbers, texts and truth values: times are counted in the unit of
their column, bytes are hexadecimal, and SQL turns them back (`Wire.value`).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from libs.common.errors import ConfigError
from libs.common.rows.column_values import text_ends

_DIGITS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_COUNTER: Final = "NUMBER(19,0)"


@dataclass(frozen=True, slots=True)
class Wire:
    """How a type travels.

    Attributes:
        sql: the type of its column.
        arrives_as: the type of its column in the temporary table.
        convert: makes the column of the file.
        value: the expression that makes the value from the column of the temporary table, which stands for ``{}``.
    """

    sql: str
    arrives_as: str
    convert: Callable[[pa.ChunkedArray], pa.ChunkedArray]
    value: str = "{}"


def wire_of(kind: pa.DataType, name: str) -> Wire:
    """Return how values of an Arrow type travel. Raises `ConfigError` if Snowflake has no such type."""
    if pa.types.is_dictionary(kind):
        return wire_of(kind.value_type, name)
    if pa.types.is_timestamp(kind):
        digits = _DIGITS[kind.unit]
        return Wire(f"TIMESTAMP_LTZ({digits})", _COUNTER, _ticks, f"TO_TIMESTAMP_LTZ({{}}, {digits})")
    found = _WIRES.get(kind)
    if found is None:
        raise ConfigError(f"columns: {name} is of type {kind}, which has no counterpart in a table: leave it out")
    return found


def parquet(values: pa.Table) -> bytes:
    """Return rows as a Parquet file."""
    columns = [wire_of(field.type, field.name).convert(values.column(field.name)) for field in values.schema]
    table = pa.table(columns, names=values.column_names)
    words = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
    file = io.BytesIO()
    # Snowflake needs neither statistics nor Arrow's schema, and numbers gain nothing from dictionaries.
    pq.write_table(table, file, compression="snappy", use_dictionary=words, write_statistics=False, store_schema=False)
    return file.getvalue()


def _as_it_is(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column


def _cast(kind: pa.DataType) -> Callable[[pa.ChunkedArray], pa.ChunkedArray]:
    return lambda column: _plain(column).cast(kind)


def _ticks(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return _plain(column).cast(pa.int64())


def _hexadecimal(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([_hex_of(chunk) for chunk in _plain(column).chunks], pa.large_string())


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column that has no dictionary: only text keeps its own."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _hex_of(values: pa.Array) -> pa.Array:
    """Return bytes as hexadecimal text, all values in one step."""
    large = values.cast(pa.large_binary())
    content, ends = large.buffers()[2], text_ends(large)
    text = (memoryview(content)[ends[0] : ends[-1]] if content is not None else b"").hex().encode()
    valid = None if not large.null_count else large.is_valid().buffers()[1]
    offsets = pa.py_buffer(np.ascontiguousarray((ends - ends[0]) * 2))
    return pa.Array.from_buffers(pa.large_string(), len(large), [valid, offsets, pa.py_buffer(text)], large.null_count)


_TEXT: Final = Wire("VARCHAR", "VARCHAR", _as_it_is)
_BYTES: Final = Wire("BINARY", "VARCHAR", _hexadecimal, "TO_BINARY({}, 'HEX')")
_WIRES: Final[Mapping[pa.DataType, Wire]] = {
    pa.bool_(): Wire("BOOLEAN", "BOOLEAN", _as_it_is),
    pa.int8(): Wire("NUMBER(3,0)", "NUMBER(3,0)", _cast(pa.int32())),
    pa.uint8(): Wire("NUMBER(3,0)", "NUMBER(3,0)", _cast(pa.int32())),
    pa.int16(): Wire("NUMBER(5,0)", "NUMBER(5,0)", _cast(pa.int32())),
    pa.uint16(): Wire("NUMBER(5,0)", "NUMBER(5,0)", _cast(pa.int32())),
    pa.int32(): Wire("NUMBER(10,0)", "NUMBER(10,0)", _cast(pa.int32())),
    pa.uint32(): Wire("NUMBER(10,0)", "NUMBER(10,0)", _cast(pa.int64())),
    pa.int64(): Wire(_COUNTER, _COUNTER, _cast(pa.int64())),
    pa.uint64(): Wire("NUMBER(20,0)", "NUMBER(20,0)", _cast(pa.decimal128(20, 0))),
    pa.float32(): Wire("FLOAT", "FLOAT", _as_it_is),
    pa.float64(): Wire("FLOAT", "FLOAT", _as_it_is),
    pa.string(): _TEXT,
    pa.large_string(): _TEXT,
    pa.binary(): _BYTES,
    pa.large_binary(): _BYTES,
}
