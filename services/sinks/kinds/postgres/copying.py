"""Columns as the binary form of COPY, built column by column without a Python object per row.

A row is the number of its fields (16 bits), then each field as its length (32 bits, -1 for null) and its bytes; all numbers are
big-endian. The columns are ordered so that a row is made of few pieces:

1. numbers and times that are never null in these rows: one record of fixed width;
2. those with nulls: records of fixed width, from which the bytes of nulls are cut out;
3. text that differs from row to row, each behind its length;
4. words, as one piece per distinct combination.

The pieces are joined per row, and the joined values, one after the other, are the data that the server receives. PostgreSQL has
no text with the character NUL, so it is replaced by its symbol, U+2400. Times have microseconds; nanoseconds are cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.errors import ConfigError
from libs.common.rows.combinations import Combinations

Ints: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
Values: TypeAlias = "np.ndarray[Any, Any]"

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"
ROWS_AT_ONCE: Final = 16_384
"""Rows that are encoded at once, which bounds memory."""

FIRST_SECOND: Final = -210_866_803_200
END_SECOND: Final = 9_224_318_016_000
"""The range of PostgreSQL's times, in seconds since 1970: 4713 BC to 294276 AD."""

_EPOCH_MICROSECONDS: Final = 946_684_800_000_000  # from 1970 to 2000
_EPOCH_DAYS: Final = 10_957
_PER_MICROSECOND: Final = {"us": 1, "ns": 1_000}
_MICROSECONDS: Final = {"s": 1_000_000, "ms": 1_000}
_NULL: Final = b"\xff\xff\xff\xff"
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


class Copying:
    """The data of one COPY. `names` is the order of its columns."""

    def __init__(self, values: pa.Table) -> None:
        """Decide the order of columns. `values` has at least one row, and every column in one chunk with one dictionary."""
        columns = {name: _plain(values.column(name)) for name in values.column_names}
        groups: dict[int, list[str]] = {0: [], 1: [], 2: [], 3: []}
        for name, column in columns.items():
            groups[_group(column)].append(name)
        self._columns = columns
        self._groups = groups
        self._rows = values.num_rows
        self.names: tuple[str, ...] = tuple(name for group in groups.values() for name in group)

    def chunks(self) -> Iterator[memoryview | bytes]:
        """Yield the data."""
        yield HEADER
        for start in range(0, self._rows, ROWS_AT_ONCE):
            yield self._chunk(start, min(ROWS_AT_ONCE, self._rows - start))
        yield TRAILER

    def _chunk(self, start: int, rows: int) -> memoryview:
        columns = {name: column.slice(start, rows) for name, column in self._columns.items()}
        never_null, nullable, texts, words = ([columns[name] for name in names] for names in self._groups.values())
        pieces = [_records(never_null, rows, len(columns))]
        if nullable:
            pieces.append(_records_with_nulls(nullable, rows))
        for text in texts:
            pieces += [_lengths(text), text.cast(pa.large_binary()).fill_null(b"")]
        if words:
            pieces.append(_words(words))
        return _content(_joined(pieces))


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array: text without NUL, and nothing but text as a dictionary."""
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    if not pa.types.is_dictionary(array.type):
        return _without_nul(array) if _is_text(array.type) else array
    if not _is_text(array.type.value_type):
        return array.dictionary_decode()
    return pa.DictionaryArray.from_arrays(array.indices, _without_nul(array.dictionary))


def _group(column: pa.Array) -> int:
    if pa.types.is_dictionary(column.type):
        return 3
    if wire_of(column.type, "").form is None:
        return 2
    return 1 if column.null_count else 0


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _without_nul(texts: pa.Array) -> pa.Array:
    large = texts.cast(pa.large_string())
    content = np.frombuffer(_content(large), np.uint8)
    return large if content.all() else pc.replace_substring(large, "\0", _NUL_SYMBOL)


def _records(columns: Sequence[pa.Array], rows: int, fields: int) -> pa.Array:
    """Return the beginning of each row: the number of its fields, and the columns that are never null."""
    forms = [_form(column) for column in columns]
    kind = np.dtype([("n", ">i2"), *_fields(forms)])
    records = np.empty(rows, kind)
    records["n"] = fields
    for at, column in enumerate(columns):
        records[f"l{at}"] = forms[at].itemsize
        records[f"v{at}"] = _converted(column)
    return _fixed(records)


def _records_with_nulls(columns: Sequence[pa.Array], rows: int) -> pa.Array:
    forms = [_form(column) for column in columns]
    kind = np.dtype(_fields(forms))
    records = np.empty(rows, kind)
    kept = np.ones((rows, kind.itemsize), np.bool_)
    lengths = np.full(rows, kind.itemsize, np.int64)
    start = 0
    for at, (column, form) in enumerate(zip(columns, forms, strict=True)):
        null = column.is_null().to_numpy(zero_copy_only=False)
        records[f"l{at}"] = np.where(null, -1, form.itemsize)
        records[f"v{at}"] = _converted(column)
        start += 4
        kept[null, start : start + form.itemsize] = False
        lengths -= null * form.itemsize
        start += form.itemsize
    content = records.view(np.uint8).reshape(rows, kind.itemsize)[kept]
    return _binary(np.concatenate(([0], np.cumsum(lengths))), content)


def _fields(forms: Sequence[np.dtype[Any]]) -> list[tuple[str, Any]]:
    """Return the fields of a record: a length and a value for each column."""
    return [field for at, form in enumerate(forms) for field in ((f"l{at}", ">i4"), (f"v{at}", form))]


def _words(columns: Sequence[pa.DictionaryArray]) -> pa.Array:
    """Return all words of a row as one piece, made once for each combination of words."""
    codes = [_codes(column) for column in columns]
    combinations = Combinations.of(codes)
    distinct = [
        _prefixed(column.dictionary).take(pa.array(code[combinations.row])) for column, code in zip(columns, codes, strict=True)
    ]
    return _joined(distinct).take(pa.array(combinations.of_row))


def _codes(column: pa.DictionaryArray) -> Ints:
    """Return the number of each row's word; a null has the number after the last word."""
    codes: Ints = column.indices.cast(pa.int64()).fill_null(len(column.dictionary)).to_numpy()
    return codes


def _prefixed(words: pa.Array) -> pa.Array:
    """Return words behind their lengths, and what a null is as one more."""
    fields = _joined([_lengths(words), words.cast(pa.large_binary()).fill_null(b"")])
    return pa.concat_arrays([fields, pa.array([_NULL], pa.large_binary())])


def _lengths(texts: pa.Array) -> pa.Array:
    lengths = pc.binary_length(texts).cast(pa.int64()).fill_null(-1).to_numpy()
    return _fixed(lengths.astype(">i4"))


def _form(column: pa.Array) -> np.dtype[Any]:
    form = wire_of(column.type, "").form
    assert form is not None, "of fixed width"  # noqa: S101
    return form


def _converted(column: pa.Array) -> Values:
    convert = wire_of(column.type, "").convert
    assert convert is not None, "of fixed width"  # noqa: S101
    return convert(column)


def _numbers(column: pa.Array) -> Values:
    filled = column.fill_null(0) if column.null_count else column
    numbers: Values = filled.to_numpy(zero_copy_only=False)
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
    content = np.frombuffer(column.buffers()[1], f"V{width}")
    return content[column.offset : column.offset + len(column)]


def _decimals(column: pa.Array) -> Values:
    """Return numbers as numeric: digits of base 10,000, after their count, the weight of the first, sign and scale."""
    left = _numbers(column).astype(np.uint64)
    records = np.zeros((len(left), 4 + _DIGITS), ">i2")
    records[:, 0], records[:, 1] = _DIGITS, _DIGITS - 1
    for at in range(3 + _DIGITS, 3, -1):
        left, digit = np.divmod(left, np.uint64(10_000))
        records[:, at] = digit
    return records.view(f"V{records.shape[1] * 2}").reshape(len(left))


def _fixed(records: Values) -> pa.Array:
    return _binary(np.arange(len(records) + 1, dtype=np.int64) * records.dtype.itemsize, records)


def _binary(offsets: Ints, content: Values) -> pa.Array:
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets, np.int64)), pa.py_buffer(np.ascontiguousarray(content))]
    return pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


def _joined(pieces: Sequence[pa.Array]) -> pa.Array:
    return pieces[0] if len(pieces) == 1 else pc.binary_join_element_wise(*pieces, pa.scalar(b"", pa.large_binary()))


def _content(values: pa.Array) -> memoryview:
    """Return the bytes of all values of a large binary or large string array, one after the other."""
    _, offsets, content = values.buffers()
    if content is None or not len(values):
        return memoryview(b"")
    places = np.frombuffer(offsets, np.int64)[[values.offset, values.offset + len(values)]]
    return memoryview(content)[places[0] : places[1]]


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
