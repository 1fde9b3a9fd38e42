"""Columns as MessagePack maps, without a Python object per row.

Each row becomes one map. Its bytes are those that the library gives for the row's dictionary, so they depend on nothing but the
row; members, nesting and nulls are as in JSON (`libs.common.rows.formats.json`), and times are the same text.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Final

import msgpack
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.column_values import Tree, integers, time_words, tree_of, validity, word_codes
from libs.common.rows.row_text import (
    SMALL,
    Bools,
    CodedTexts,
    Ints,
    Numbers,
    Spelling,
    TextColumn,
    distinct,
    runs,
    when,
    where,
)

_BYTE_BITS: Final = 8
_WORD_BYTES: Final = 8

# The forms of an integer, shortest first: the bytes behind the first, and the first byte if there are more.
_SIZES: Final = np.array([0, 1, 2, 4, 8])
_FIRST: Final = np.array([0, 0xCC, 0xCD, 0xCE, 0xCF], np.uint8)
_FIRST_OF_NEGATIVE: Final = np.array([0, 0xD0, 0xD1, 0xD2, 0xD3], np.uint8)
# The smallest numbers that do not fit each form but the last; of negative ones, those of their complement.
_LIMITS: Final = (0x80, 0x100, 0x1_0000, 0x1_0000_0000)
_LIMITS_OF_NEGATIVE: Final = (0x20, 0x80, 0x8000, 0x8000_0000)

_PACKER: Final = msgpack.Packer()


def map_columns(table: pa.Table) -> list[TextColumn]:
    """Return one map per row as columns for `RowBytes`, in which numbers are `PACKED`. Dots in names nest.

    Raises:
        ValueError: if a name is both a value and a map (``a`` and ``a.b``).
    """
    members, counts = _members(tree_of(table), table.num_rows)
    return [_header("", _map_header(0), counts), *members]


def fixed_bytes(cells: np.ndarray[Any, np.dtype[np.uint8]]) -> pa.Array:
    """Return each row of a matrix as a binary value."""
    rows, width = cells.shape
    ends = np.arange(0, (rows + 1) * width, width, dtype=np.int32) if width else np.zeros(rows + 1, np.int32)
    data = np.ascontiguousarray(cells)
    return pa.Array.from_buffers(pa.binary(), rows, [None, pa.py_buffer(ends), pa.py_buffer(data)])


def packed_integers(values: Ints) -> pa.Array:
    """Return each integer in its shortest form."""
    form, first = _forms(values)
    most = int(_SIZES[form.max(initial=0)])
    rows = len(values)
    cells = np.empty((rows, most + 1), np.uint8)
    tail = max(most, 1)  # a number without a first byte is in the last cell
    cells[:, most + 1 - tail :] = values.astype(">i8").view(np.uint8).reshape(rows, _WORD_BYTES)[:, _WORD_BYTES - tail :]
    start = most - _SIZES[form]
    longer = np.flatnonzero(form)
    cells[longer, start[longer]] = first[longer]
    ends = np.zeros(rows + 1, np.int32)
    np.cumsum(most + 1 - start, out=ends[1:])
    data = cells[np.arange(most + 1) >= start[:, None]]
    return pa.Array.from_buffers(pa.binary(), rows, [None, pa.py_buffer(ends), pa.py_buffer(data)])


@cache
def _small_integers() -> pa.Array:
    return packed_integers(np.arange(SMALL))


PACKED: Final = Spelling(_small_integers, packed_integers)


def _forms(values: Ints) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], np.ndarray[Any, np.dtype[np.uint8]]]:
    """Return the number of each integer's form, and its first byte."""
    form = _steps(values, _LIMITS)
    first = _FIRST[form]
    negative = values < 0
    if negative.any():
        below = _steps(~values, _LIMITS_OF_NEGATIVE)
        form = np.where(negative, below, form)
        first = np.where(negative, _FIRST_OF_NEGATIVE[below], first)
    return form, first


def _steps(values: Ints, limits: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    steps = np.zeros(len(values), np.uint8)
    for limit in limits:
        steps += values >= limit
    return steps


def _members(tree: Tree, rows: int) -> tuple[list[TextColumn], Ints]:
    """Return the members of a map, and how many each row has."""
    texts: list[TextColumn] = []
    counts = np.zeros(rows, np.int64)
    for name, node in tree.items():
        key = _packed(name)
        if isinstance(node, dict):
            inner, inner_counts = _members(node, rows)
            present = inner_counts > 0
            texts += [_header(key, "", inner_counts), *inner]
        else:
            own, present = _value(key, node)
            texts += own
        counts += present
    return texts, counts


def _header(key: str, empty: str, counts: Ints) -> TextColumn:
    """Return the key of a map and its first bytes; `empty` stands for a map without members."""
    least, most = int(counts.min(initial=0)), int(counts.max(initial=0))
    if least == most and len(counts):
        return key + _map_header(most) if most else empty
    texts = [empty, *(key + _map_header(count) for count in range(1, most + 1))]
    return CodedTexts(texts, counts.astype(np.uint32))


def _value(key: str, column: pa.Array) -> tuple[list[TextColumn], Bools]:
    """Return key and value, both empty where the value is null, and the rows in which it is not null."""
    kind = column.type
    if _is_often_the_same(kind):
        column, kind = (encoded := column.dictionary_encode()), encoded.type
    if pa.types.is_dictionary(kind):
        return _words(key, column)
    present = validity(column)
    if pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
        return _numbers(key, integers(column), present), present
    if pa.types.is_timestamp(kind):
        return _times(key, column, present), present
    if pa.types.is_string(kind):
        return _strings(key, column, present), present
    # Columns of these types never have many rows.
    return [
        when(key, present),
        pa.array([None if v is None else msgpack.packb(v) for v in column.to_pylist()], pa.binary()),
    ], present


def _is_often_the_same(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_boolean(kind) or pa.types.is_floating(kind) or (pa.types.is_integer(kind) and kind.bit_width == _BYTE_BITS)
    )


def _words(key: str, column: pa.DictionaryArray) -> tuple[list[TextColumn], Bools]:
    texts = ["" if _is_nothing(value) else key + _packed(value) for value in _plain(column.dictionary).to_pylist()]
    if column.indices.null_count:
        texts.append("")
    words = CodedTexts(texts, word_codes(column))
    return [words], words.present


def _is_nothing(value: object) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _plain(values: pa.Array) -> pa.Array:
    """Return times as text."""
    if not pa.types.is_timestamp(values.type):
        return values
    seconds, ends = time_words(values)
    pairs = zip(seconds.codes.tolist(), ends.codes.tolist(), values.is_valid().to_pylist(), strict=True)
    return pa.array([seconds.texts[one] + ends.texts[other] if valid else None for one, other, valid in pairs], pa.string())


def _numbers(key: str, values: Ints, present: Bools) -> list[TextColumn]:
    seldom = runs(values)
    if seldom is None:
        return [when(key, present), Numbers(values, present)]
    few, codes = seldom
    return [where(present, CodedTexts([key + _packed(value) for value in few.tolist()], codes))]


def _times(key: str, column: pa.Array, present: Bools) -> list[TextColumn]:
    seconds, ends = time_words(column)
    sizes = sorted({len(text) for text in ends.texts})  # one, or two of nanoseconds
    texts = [f"{key}{_text_header(len(text) + size)}{text}" for text in seconds.texts for size in sizes]
    size_of_end = np.array([sizes.index(len(text)) for text in ends.texts], np.uint32)
    codes = seconds.codes * np.uint32(len(sizes)) + size_of_end[ends.codes]
    return [where(present, CodedTexts(texts, codes)), where(present, ends)]


def _strings(key: str, column: pa.Array, present: Bools) -> list[TextColumn]:
    lengths, codes = distinct(integers(pc.binary_length(column)))
    headers = CodedTexts([key + _text_header(length) for length in lengths.tolist()], codes)
    return [where(present, headers), column.cast(pa.binary())]


def _packed(value: object) -> str:
    data: bytes = msgpack.packb(value)
    return data.decode("latin-1")


def _map_header(count: int) -> str:
    data: bytes = _PACKER.pack_map_header(count)
    return data.decode("latin-1")


def _text_header(length: int) -> str:
    """Return the first bytes of a text of so many bytes."""
    if length < 0x20:  # noqa: PLR2004 - the forms of text, shortest first
        return chr(0xA0 | length)
    for first, size in ((0xD9, 1), (0xDA, 2), (0xDB, 4)):
        if length < 1 << 8 * size:
            return (bytes((first,)) + length.to_bytes(size, "big")).decode("latin-1")
    raise ValueError(f"no text has {length} bytes")
