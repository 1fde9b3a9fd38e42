"""How values of Arrow's types travel in the binary form of COPY: PostgreSQL's name of each type, and its bytes.

All numbers are big-endian. PostgreSQL has no text with the character NUL, so it is replaced by its symbol, U+2400. Times have
microseconds; nanoseconds are cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.errors import ConfigError
from libs.common.rows.column_values import text_ends

Values: TypeAlias = "np.ndarray[Any, Any]"

FIRST_SECOND: Final = -210_866_803_200
END_SECOND: Final = 9_224_318_016_000
"""The range of PostgreSQL's times, in seconds since 1970: 4713 BC to 294276 AD."""

_EPOCH_MICROSECONDS: Final = 946_684_800_000_000  # from 1970 to 2000
_EPOCH_DAYS: Final = 10_957
_PER_MICROSECOND: Final = {"us": 1, "ns": 1_000}
_MICROSECONDS: Final = {"s": 1_000_000, "ms": 1_000}
_NUL_SYMBOL: Final = "\u2400"
_DIGITS: Final = 5  # of base 10,000, in 64 bits


@dataclass(frozen=True, slots=True)
class Wire:
    """How a type travels: PostgreSQL's name of it, and for one of fixed width its form and how values get it."""

    sql: str
    form: np.dtype[Any] | None = None
    convert: Callable[[pa.Array], Values] | None = None


def wire_of(kind: pa.DataType, name: str) -> Wire:
    """Return how values of an Arrow type travel. Raises `ConfigError` if PostgreSQL has no such type."""
    if pa.types.is_dictionary(kind):
        return wire_of(kind.value_type, name)
    if pa.types.is_timestamp(kind):
        return Wire("timestamp with time zone", np.dtype(">i8"), _microseconds)
    found = _WIRES.get(kind)
    if found is None:
        raise ConfigError(f"columns: {name} is of type {kind}, which has no counterpart in a table: leave it out")
    return found


def is_word(kind: pa.DataType) -> bool:
    """Return whether the values of a column are words, which travel once for many rows."""
    return bool(pa.types.is_dictionary(kind) and _is_text(kind.value_type))


def plain(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array: nothing but words as a dictionary, and other text without NUL."""
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    if pa.types.is_dictionary(array.type):
        return array if is_word(array.type) else array.dictionary_decode()
    return _texts_without_nul(array) if _is_text(array.type) else array


def without_nul(text: str) -> str:
    """Return a text as PostgreSQL takes it."""
    return text.replace("\0", _NUL_SYMBOL)


def content(values: pa.Array) -> memoryview:
    """Return the bytes of all values of a large binary or large string array, one after the other."""
    data, ends = values.buffers()[2], text_ends(values)
    return memoryview(b"") if data is None else memoryview(data)[ends[0] : ends[-1]]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _texts_without_nul(texts: pa.Array) -> pa.Array:
    large = texts.cast(pa.large_string())
    data = np.frombuffer(content(large), np.uint8)
    return large if data.all() else pc.replace_substring(large, "\0", _NUL_SYMBOL)


def _numbers(column: pa.Array) -> Values:
    """Return numbers; whatever lies in the place of a null, since that is cut out."""
    filled = pa.Array.from_buffers(column.type, len(column), [None, column.buffers()[1]], offset=column.offset)
    numbers: Values = filled.to_numpy()
    return numbers


def _microseconds(column: pa.Array) -> Values:
    unit = column.type.unit
    ticks = _numbers(column.cast(pa.int64()))
    if unit in _PER_MICROSECOND:
        return np.floor_divide(ticks, _PER_MICROSECOND[unit]) - _EPOCH_MICROSECONDS
    return ticks * _MICROSECONDS[unit] - _EPOCH_MICROSECONDS


def _days(column: pa.Array) -> Values:
    return _numbers(column.cast(pa.int32())) - _EPOCH_DAYS


def _bytes_of_bool(column: pa.Array) -> Values:
    return _numbers(column.cast(pa.uint8()))


def _ids(column: pa.Array) -> Values:
    width = column.type.byte_width
    return np.frombuffer(column.buffers()[1], f"V{width}", len(column), column.offset * width)


def _decimals(column: pa.Array) -> Values:
    """Return numbers as numeric: digits of base 10,000, after their count, the weight of the first, sign and scale."""
    left = _numbers(column).astype(np.uint64)
    records = np.zeros((len(left), 4 + _DIGITS), ">i2")
    records[:, 0], records[:, 1] = _DIGITS, _DIGITS - 1
    for at in range(3 + _DIGITS, 3, -1):
        left, digit = np.divmod(left, np.uint64(10_000))
        records[:, at] = digit
    return records.view(f"V{records.shape[1] * 2}").reshape(len(left))


_TEXT: Final = Wire("text")
_BYTES: Final = Wire("bytea")
_WIRES: Final[Mapping[pa.DataType, Wire]] = {
    pa.bool_(): Wire("boolean", np.dtype("u1"), _bytes_of_bool),
    pa.int8(): Wire("smallint", np.dtype(">i2"), _numbers),
    pa.uint8(): Wire("smallint", np.dtype(">i2"), _numbers),
    pa.int16(): Wire("smallint", np.dtype(">i2"), _numbers),
    pa.uint16(): Wire("integer", np.dtype(">i4"), _numbers),
    pa.int32(): Wire("integer", np.dtype(">i4"), _numbers),
    pa.uint32(): Wire("bigint", np.dtype(">i8"), _numbers),
    pa.int64(): Wire("bigint", np.dtype(">i8"), _numbers),
    pa.uint64(): Wire("numeric(20,0)", np.dtype(f"V{2 * (4 + _DIGITS)}"), _decimals),
    pa.float32(): Wire("real", np.dtype(">f4"), _numbers),
    pa.float64(): Wire("double precision", np.dtype(">f8"), _numbers),
    pa.date32(): Wire("date", np.dtype(">i4"), _days),
    pa.binary(16): Wire("uuid", np.dtype("V16"), _ids),
    pa.string(): _TEXT,
    pa.large_string(): _TEXT,
    pa.binary(): _BYTES,
    pa.large_binary(): _BYTES,
}
