"""Columns as JSON text, for document stores, message brokers and NDJSON files.

Each row becomes one JSON object, built column by column (`libs.common.rows.row_text`) without a Python object per row. The
result reads back as the row's dictionary:

- Members are in the order of the columns; this is the only place that decides it.
- A dotted name nests: ``source.ip`` becomes ``{"source": {"ip": ...}}``, at the place of its first member.
- Nulls and objects without members are left out. A row of nulls is ``{}``. JSON cannot express infinity and NaN, so these are
  left out like nulls.
- Timestamps are UTC, ISO 8601 with ``Z``; nanoseconds have seven digits, the resolution of Azure's logs, or nine if
  seven do not suffice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.column_values import (
    A_SECOND,
    FRACTION,
    Tree,
    combined,
    integers,
    second_texts,
    text_ends,
    time_words,
    tree_of,
    validity,
    word_codes,
)
from libs.common.rows.row_text import Bools, CodedTexts, RowText, TextColumn, numbers, when, where

_BYTE_BITS: Final = 8
_ESCAPED: Final = '\\"' + "".join(map(chr, range(0x20)))  # the backslash first, since escaping the others adds backslashes


def json_documents(columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.ChunkedArray:
    """Return one JSON object per row, as strings without line endings; dots in names nest.

    Columns are strings, integers, floating-point numbers, booleans, timestamps, lists of strings, or dictionaries of these. All
    have the same length.

    Raises:
        TypeError: if a column has another type.
        ValueError: if a name is both a value and an object (``a`` and ``a.b``).
    """
    table = pa.table(list(columns.values()), names=list(columns))
    return pa.chunked_array(RowText(document_text(table), table.num_rows).slices(), type=pa.string())


def json_lines(table: pa.Table, *, nested: bool = False) -> bytes:
    """Return newline-delimited JSON: one object per row, one member per column. Dots in names nest only if `nested`.

    Raises:
        TypeError: if a column has a type that `json_documents` does not support.
    """
    columns: Tree = {name: combined(table, name) for name in table.column_names}
    texts = document_text(table) if nested else _object(columns, table.num_rows)
    return b"".join(text_bytes(lines).data for lines in RowText([*texts, "\n"], table.num_rows).slices())


def document_text(table: pa.Table) -> list[TextColumn]:
    """Return the documents of `json_documents` as text columns, to embed in a longer text per row. Raises as that does."""
    return _object(tree_of(table), table.num_rows)


def escape_json(values: pa.Array) -> pa.Array:
    """Return the strings as they appear between the quotes of a JSON string; the same array if nothing needs escaping."""
    content = text_bytes(values)
    if not len(content) or not (content.min() < 0x20 or (content == ord('"')).any() or (content == ord("\\")).any()):  # noqa: PLR2004
        return values
    present = np.bincount(content, minlength=256)
    for character in filter(lambda c: present[ord(c)], _ESCAPED):
        values = pc.replace_substring(values, pattern=character, replacement=json.dumps(character)[1:-1])
    return values


def text_bytes(values: pa.Array) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the concatenated bytes of all strings of an array, without copying."""
    data, ends = values.buffers()[2], text_ends(values)
    return np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]


# --- Objects ---


def _object(tree: Tree, rows: int) -> list[TextColumn]:
    return ["{", *_members(tree, rows)[0], "}"]


def _members(tree: Tree, rows: int) -> tuple[list[TextColumn], Bools]:
    """Return the texts between the braces of an object, and the rows in which they are not empty."""
    texts: list[TextColumn] = []
    any_before = np.zeros(rows, np.bool_)
    for name, node in tree.items():
        comma = "," if any_before.all() else ""
        key = f"{comma}{encode_basestring(name)}:"
        if isinstance(node, dict):
            inner, present = _members(node, rows)
            own = [when(f"{key}{{", present), *inner, when("}", present)]
        else:
            own, present = value_text(key, node)
        if not comma:
            texts.append(when(",", any_before & present))
        texts += own
        any_before |= present
    return texts, any_before


# --- Values ---


def value_text(key: str, column: pa.Array) -> tuple[list[TextColumn], Bools]:
    """Return the texts of ``key`` and JSON value, empty where the value is null, and the rows in which it is not null.

    Raises:
        TypeError: if the column's type is not supported.
    """
    kind = column.type
    if _is_often_the_same(kind):
        column, kind = (encoded := column.dictionary_encode()), encoded.type
    if pa.types.is_dictionary(kind):
        return _words(key, column)
    present = validity(column)
    if pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
        return numbers(key, integers(column), present), present
    if pa.types.is_timestamp(kind):
        return _time(key, column, present), present
    if pa.types.is_string(kind):
        return [when(f'{key}"', present), escape_json(column), when('"', present)], present
    # Columns of these types never have many rows.
    return [when(key, present), pa.array(json_texts(column), pa.string())], present


def _is_often_the_same(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_boolean(kind) or pa.types.is_floating(kind) or (pa.types.is_integer(kind) and kind.bit_width == _BYTE_BITS)
    )


def _words(key: str, column: pa.DictionaryArray) -> tuple[list[TextColumn], Bools]:
    texts = ["" if text is None else key + text for text in json_texts(column.dictionary)]
    if column.indices.null_count:
        texts.append("")
    words = CodedTexts(texts, word_codes(column))
    return [words], words.present


def _time(key: str, column: pa.Array, valid: Bools) -> list[TextColumn]:
    seconds, ends = time_words(column)
    texts = [f'{key}"{text}' for text in seconds.texts]
    closed = [f'{text}"' for text in ends.texts]
    return [where(valid, CodedTexts(texts, seconds.codes)), where(valid, CodedTexts(closed, ends.codes))]


def json_texts(values: pa.Array) -> list[str | None]:
    """Return the JSON text of each value; None for null. Raises TypeError if their type is not supported."""
    kind = values.type
    if pa.types.is_timestamp(kind):
        return _time_texts(values)
    text = _text_of(kind)
    found = values.to_pylist()
    if pa.types.is_floating(kind):
        found = [value if value is not None and math.isfinite(value) else None for value in found]
    return [None if value is None else text(value) for value in found]


def _text_of(kind: pa.DataType) -> Callable[[Any], str]:
    if pa.types.is_string(kind):
        return encode_basestring
    if pa.types.is_integer(kind):
        return str
    if pa.types.is_floating(kind):
        return repr
    if pa.types.is_boolean(kind):
        return lambda value: "true" if value else "false"
    if pa.types.is_list(kind) and pa.types.is_string(kind.value_type):
        return lambda value: f"[{','.join('null' if one is None else encode_basestring(one) for one in value)}]"
    raise TypeError(f"no JSON representation for a column of type {kind}")


def _time_texts(times: pa.Array) -> list[str | None]:
    unit = times.type.unit
    seconds, parts = np.divmod(integers(times), A_SECOND[unit])
    texts = [f'"{second}{FRACTION[unit](part)}Z"' for second, part in zip(second_texts(seconds), parts.tolist(), strict=True)]
    return [text if valid else None for text, valid in zip(texts, times.is_valid().to_pylist(), strict=True)]
