"""Columns as the binary form of two COPYs, rows and words, built column by column without a Python object per row.

Most of a row are words, and many rows have the same ones: everything that a record says about all its tuples. So words do not
travel with each row. They are numbered and travel once, and a row has numbers, by which the server puts both together again:

- Words that seldom change from row to row, such as those of a record, are numbered apart from the others, such as those of a
  tuple. Together they would have nearly as many combinations as there are rows.
- An entry of the words' COPY is its number, the words of one combination, and null for those of the other kind.
- A row of the rows' COPY begins with the numbers of its two entries.

In the binary form a row is the number of its fields (16 bits), then each field as its length (32 bits, -1 for null) and its
bytes. Rows are joined from few pieces: one record of fixed width with the numbers and times that are never null; one with those
that may be, from which the bytes of nulls are cut out; and each text that differs from row to row, behind its length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.combinations import Combinations
from services.sinks.kinds.postgres.wire import Values, content, is_word, plain, wire_of, without_nul

Ints: TypeAlias = "np.ndarray[Any, np.dtype[np.integer[Any]]]"
Bools: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"
ROWS_AT_ONCE: Final = 8_192
"""Rows that are encoded at once, which bounds memory."""

NUMBER: Final = "words."
"""The column with the number of an entry of words. No column of rows has this name: between its dots, it is never empty."""
NUMBERS: Final = ("words.1.", "words.2.")
"""The columns of a row with the numbers of its two entries."""

_NULL: Final = b"\xff\xff\xff\xff"
_ROWS_A_RUN: Final = 16  # words with at least so many rows in a run seldom change
_COUNT: Final = np.dtype(">i2")
_INT: Final = np.dtype(">i4")


class Copying:
    """The data of the two COPYs of some rows.

    Attributes:
        names: the columns of the rows' COPY, in order.
        word_names: those of the words' COPY; empty if rows have no words.
    """

    def __init__(self, values: pa.Table) -> None:
        """Number the words. `values` has at least one row, and every column in one chunk with one dictionary."""
        columns = {name: plain(values.column(name)) for name in values.column_names}
        words = {name: column for name, column in columns.items() if is_word(column.type)}
        self._entries = _Entries.of(words) if words else None
        own = {name: column for name, column in columns.items() if name not in words}
        if self._entries is not None:
            own |= {name: pa.array(of_row) for name, of_row in zip(NUMBERS, self._entries.of_row, strict=True)}
        order = sorted(own, key=lambda name: _place(own[name]))
        self._columns = {name: own[name] for name in order}
        self._count = values.num_rows
        self.names: tuple[str, ...] = tuple(order)
        self.word_names: tuple[str, ...] = () if self._entries is None else (NUMBER, *self._entries.names)

    def rows(self) -> Iterator[memoryview | bytes]:
        """Yield the data of the rows' COPY."""
        yield HEADER
        for start in range(0, self._count, ROWS_AT_ONCE):
            rows = min(ROWS_AT_ONCE, self._count - start)
            yield _chunk([column.slice(start, rows) for column in self._columns.values()], rows)
        yield TRAILER

    def words(self) -> Iterator[memoryview | bytes]:
        """Yield the data of the words' COPY."""
        yield HEADER
        if self._entries is not None:
            yield from self._entries.chunks()
        yield TRAILER


# --- Rows ---


@dataclass(frozen=True, slots=True)
class _Field:
    """A part of fixed width of each row: one value for all, or an array; `absent` are the rows without it."""

    form: np.dtype[Any]
    values: int | Values
    absent: Bools | None = None


def _place(column: pa.Array) -> int:
    if wire_of(column.type, "").form is None:
        return 2
    return 1 if column.null_count else 0


def _chunk(columns: Sequence[pa.Array], rows: int) -> memoryview:
    """Return the data of rows, of which columns are in the order of their places."""
    always, nullable = [_Field(_COUNT, len(columns))], list[_Field]()
    texts = []
    for column in columns:
        wire = wire_of(column.type, "")
        if wire.form is None or wire.convert is None:
            texts.append(column)
        elif column.null_count:
            null = column.is_null().to_numpy(zero_copy_only=False)
            lengths = np.where(null, -1, wire.form.itemsize)
            nullable += [_Field(_INT, lengths), _Field(wire.form, wire.convert(column), null)]
        else:
            # A column in which other chunks have nulls comes behind those that have none.
            to = nullable or always
            to += [_Field(_INT, wire.form.itemsize), _Field(wire.form, wire.convert(column))]
    if texts:
        (nullable or always).append(_length(texts[0]))
    pieces = [_records(fields, rows) for fields in (always, nullable) if fields]
    for at, text in enumerate(texts):
        if at:
            pieces.append(_records([_length(text)], rows))
        pieces.append(_bytes(text))
    return content(_joined(pieces))


def _records(fields: Sequence[_Field], rows: int) -> pa.Array:
    """Return the fields of each row, one after the other."""
    kind = np.dtype([(f"f{at}", field.form) for at, field in enumerate(fields)])
    usual = np.zeros(1, kind)
    for name, field in zip(kind.names or (), fields, strict=True):
        if isinstance(field.values, int):
            usual[name] = field.values
    records = np.repeat(usual, rows)
    for name, field in zip(kind.names or (), fields, strict=True):
        if not isinstance(field.values, int):
            records[name] = field.values
    if all(field.absent is None for field in fields):
        return _binary(np.arange(rows + 1, dtype=np.int64) * kind.itemsize, records)
    return _without_absent(records, fields)


def _without_absent(records: Values, fields: Sequence[_Field]) -> pa.Array:
    """Return records without the bytes of absent fields."""
    rows, width = len(records), records.dtype.itemsize
    kept = np.ones((rows, width), np.bool_)
    lengths = np.full(rows, width, np.int64)
    start = 0
    for field in fields:
        if field.absent is not None:
            kept[field.absent, start : start + field.form.itemsize] = False
            lengths -= field.absent * field.form.itemsize
        start += field.form.itemsize
    ends = np.zeros(rows + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    return _binary(ends, records.view(np.uint8).reshape(rows, width)[kept])


def _length(texts: pa.Array) -> _Field:
    return _Field(_INT, pc.binary_length(texts).cast(pa.int64()).fill_null(-1).to_numpy())


def _bytes(texts: pa.Array) -> pa.Array:
    data = texts.cast(pa.large_binary())
    return data.fill_null(b"") if data.null_count else data


# --- Words ---


@dataclass(frozen=True, slots=True, eq=False)
class _Words:
    """The words of one kind: the columns of them that have the same combinations."""

    columns: dict[str, pa.DictionaryArray]
    combinations: Combinations

    @classmethod
    def of(cls, columns: dict[str, pa.DictionaryArray], rows: int) -> _Words:
        """Number the combinations of columns; without any there is one."""
        codes = [_codes(column) for column in columns.values()] or [np.zeros(rows, np.int32)]
        return cls(columns, Combinations.of(codes))

    def fields(self, some: slice) -> list[pa.Array]:
        """Return the words of some combinations, each behind its length."""
        rows = self.combinations.row[some]
        return [_prefixed(column.dictionary).take(pa.array(_codes(column)[rows])) for column in self.columns.values()]


@dataclass(frozen=True, slots=True, eq=False)
class _Entries:
    """Entries of words: first the combinations of those that seldom change, then those of the others."""

    slow: _Words
    fast: _Words

    @classmethod
    def of(cls, words: dict[str, pa.DictionaryArray]) -> _Entries:
        """Divide words of at least one row, and number them."""
        rows = len(next(iter(words.values())))
        slow = {name: column for name, column in words.items() if _is_slow(_codes(column))}
        fast = {name: column for name, column in words.items() if name not in slow}
        return cls(_Words.of(slow, rows), _Words.of(fast, rows))

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of an entry."""
        return (*self.slow.columns, *self.fast.columns)

    @property
    def of_row(self) -> tuple[Values, Values]:
        """The numbers of each row's two entries."""
        slow, fast = self.slow.combinations, self.fast.combinations
        return slow.of_row.astype(np.int32), (fast.of_row + len(slow)).astype(np.int32)

    def chunks(self) -> Iterator[memoryview]:
        """Yield the data of the entries."""
        for start, words in ((0, self.slow), (len(self.slow.combinations), self.fast)):
            nulls = [pa.scalar(_NULL * (len(self.names) - len(words.columns)), pa.large_binary())]
            for at in range(0, len(words.combinations), ROWS_AT_ONCE):
                some = slice(at, min(at + ROWS_AT_ONCE, len(words.combinations)))
                numbers = np.arange(start + some.start, start + some.stop)
                head = [_Field(_COUNT, 1 + len(self.names)), _Field(_INT, _INT.itemsize), _Field(_INT, numbers)]
                before, after = (nulls, []) if words is self.fast else ([], nulls)
                yield content(_joined([_records(head, len(numbers)), *before, *words.fields(some), *after]))


def _codes(column: pa.DictionaryArray) -> Ints:
    """Return the number of each row's word; a null has the number after the last word."""
    indices = column.indices
    if indices.null_count:
        indices = indices.cast(pa.int64()).fill_null(len(column.dictionary))
    codes: Ints = indices.to_numpy()
    return codes


def _is_slow(codes: Ints) -> bool:
    return bool((1 + np.count_nonzero(codes[1:] != codes[:-1])) * _ROWS_A_RUN <= len(codes))


def _prefixed(words: pa.Array) -> pa.Array:
    """Return words behind their lengths, and what a null is as one more."""
    texts = [None if word is None else without_nul(word).encode() for word in words.to_pylist()]
    fields = [_NULL if text is None else len(text).to_bytes(_INT.itemsize, "big") + text for text in texts]
    return pa.array([*fields, _NULL], pa.large_binary())


def _binary(offsets: Ints, data: Values) -> pa.Array:
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets, np.int64)), pa.py_buffer(np.ascontiguousarray(data))]
    return pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


def _joined(pieces: Sequence[pa.Array | pa.Scalar]) -> pa.Array:
    return pieces[0] if len(pieces) == 1 else pc.binary_join_element_wise(*pieces, pa.scalar(b"", pa.large_binary()))
