"""Columns to JSON text, for document stores, message stores and NDJSON files.

One JSON object a row, built with string operations on whole columns: no Python object a row. The result reads back as the
row's dictionary:

- A dotted name nests: ``source.ip`` becomes ``{"source": {"ip": ...}}``.
- A null leaves its member out, and an object without members is left out too. A row of nulls is ``{}``.
- Timestamps are UTC, ISO 8601 with ``Z``; nanoseconds are written with seven digits, the resolution of Azure's logs.
- The order of members is not promised.

How: the dictionary-encoded columns of a batch ("words") have few distinct combinations together, so their text is made once
a combination and then taken by row. The other columns become text one by one. One join per object puts the pieces in a row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

CHUNK_ROWS: Final = 16_384
"""Bounds the working memory. Rows with seven names of the greatest length, all escaped, still stay below Arrow's 2 GiB."""

_MAX_CODE: Final = 2**62
_BYTE_BITS: Final = 8
_TIME_LENGTHS: Final = {"s": 19, "ms": 23, "us": 26, "ns": 27}  # without zone, as written
_ESCAPED: Final = '\\"' + "".join(map(chr, range(0x20)))  # the backslash first: the others bring backslashes in

_EMPTY: Final = pa.scalar("")
_NULL: Final = pa.scalar(None, pa.string())

_Piece: TypeAlias = "pa.Array | str"  # text by row, or the same text in all rows
_Tree: TypeAlias = dict[str, Any]  # name: pa.Array | _Word | _Tree


def json_documents(columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.ChunkedArray:
    """Return one JSON object a row, as strings without line ends.

    Columns are strings, integers, booleans, timestamps, lists of strings, or dictionaries of these, all of one length.

    Raises:
        TypeError: if a column has another type.
        ValueError: if one name is both a value and an object (``a`` and ``a.b``).
    """
    table = pa.table(list(columns.values()), names=list(columns))
    return _documents(table, [tuple(name.split(".")) for name in columns], "}")


def json_lines(table: pa.Table) -> bytes:
    """Return newline-delimited JSON: one object a row, each column a member under its own name, not nested.

    Raises:
        TypeError: if a column is of a type that `json_documents` does not take.
    """
    lines = _documents(table, [(name,) for name in table.column_names], "}\n")
    return b"".join(text_bytes(chunk).data for chunk in lines.chunks)


def escape_json(values: pa.Array) -> pa.Array:
    """Return the strings as they stand between the quotes of a JSON string; the same array if nothing needs escaping."""
    content = text_bytes(values)
    if not len(content) or not (content.min() < 0x20 or (content == ord('"')).any() or (content == ord("\\")).any()):  # noqa: PLR2004
        return values
    present = np.bincount(content, minlength=256)
    for character in filter(lambda c: present[ord(c)], _ESCAPED):
        values = pc.replace_substring(values, pattern=character, replacement=json.dumps(character)[1:-1])
    return values


def text_bytes(values: pa.Array) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the bytes of all strings of an array, one after the other, without copying them."""
    _, offsets, data = values.buffers()
    if not len(values) or data is None:
        return np.empty(0, np.uint8)
    ends = np.frombuffer(offsets, np.int32)
    return np.frombuffer(data, np.uint8)[ends[values.offset] : ends[values.offset + len(values)]]


def _documents(table: pa.Table, paths: list[tuple[str, ...]], end: str) -> pa.ChunkedArray:
    # Combined, because chunks of one column have other bounds and other dictionaries than chunks of the next.
    batches = table.combine_chunks().to_batches(max_chunksize=CHUNK_ROWS)
    return pa.chunked_array([_rows(batch, paths, end) for batch in batches if batch.num_rows], type=pa.string())


def _rows(batch: pa.RecordBatch, paths: list[tuple[str, ...]], end: str) -> pa.Array:
    words = _Words.of(batch.columns, batch.num_rows)
    tree: _Tree = {}
    for path, column in zip(paths, words.columns, strict=True):
        _insert(tree, path, column)
    pieces = ["{", *_members(tree, words).inner(), end]
    if all(isinstance(piece, str) for piece in pieces):
        return pa.repeat("".join(pieces), batch.num_rows)
    return _join(pieces)


def _insert(tree: _Tree, path: tuple[str, ...], column: pa.Array | _Word) -> None:
    *objects, name = path
    for part in objects:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ValueError(f"{'.'.join(path)}: {part} is a value and an object")  # noqa: TRY004 - names are values, not types
    if name in tree:
        raise ValueError(f"{'.'.join(path)} stands twice, or is a value and an object")
    tree[name] = column


# --- Words ---


@dataclass(frozen=True, slots=True)
class _Word:
    """A dictionary-encoded column, decoded for one row of each combination."""

    values: pa.Array


@dataclass(frozen=True, slots=True)
class _Words:
    """The columns of a batch, with words reduced to their combinations, and the combination of every row."""

    columns: list[pa.Array | _Word]
    combination: pa.Array

    @classmethod
    def of(cls, columns: list[pa.Array], rows: int) -> _Words:
        columns = [column.dictionary_encode() if _is_small(column.type) else column for column in columns]
        words = [column for column in columns if pa.types.is_dictionary(column.type)]
        combination, samples = _combinations(words, rows)
        return cls([_reduced(column, samples) for column in columns], combination)

    def by_row(self, text: pa.Array) -> _Piece:
        """Spread text by combination over the rows."""
        return text[0].as_py() if len(text) == 1 else text.take(self.combination)


def _is_small(kind: pa.DataType) -> bool:
    return bool(pa.types.is_boolean(kind) or (pa.types.is_integer(kind) and kind.bit_width == _BYTE_BITS))


def _reduced(column: pa.Array, samples: pa.Array) -> pa.Array | _Word:
    if not pa.types.is_dictionary(column.type):
        return column
    return _Word(column.dictionary.take(column.indices.take(samples)))


def _combinations(words: list[pa.Array], rows: int) -> tuple[pa.Array, pa.Array]:
    """Number the distinct combinations; return the number of every row, and one row of every number."""
    code, size = np.zeros(rows, np.int64), 1
    for word in words:
        values = len(word.dictionary) + 1  # one more for null
        if size * values > _MAX_CODE:
            dense = pa.array(code).dictionary_encode()
            code, size = dense.indices.to_numpy().astype(np.int64), len(dense.dictionary)
        code = code * values + word.indices.cast(pa.int64()).fill_null(values - 1).to_numpy()
        size *= values
    dense = pa.array(code).dictionary_encode()
    samples = np.empty(len(dense.dictionary), np.int64)
    samples[dense.indices.to_numpy()] = np.arange(rows)  # any row of a combination will do
    return dense.indices, pa.array(samples)


# --- Objects ---


@dataclass(frozen=True, slots=True)
class _Members:
    """The members of an object.

    `always` holds pieces that join to ``"name":value`` in every row; `optional` is text that is ``,"name":value`` any number
    of times, or null. A member of every row stands first, so that all others can bring their comma along.
    """

    always: list[list[_Piece]] = field(default_factory=list)
    optional: list[pa.Array] = field(default_factory=list)

    def add_value(self, name: str, value: list[_Piece]) -> None:
        """Add a member; it is left out where a piece of its value is null."""
        key = f"{json.dumps(name)}:"
        if any(isinstance(piece, pa.Array) and piece.null_count for piece in value):
            self.optional.append(_join_or_null([f",{key}", *value]))
        else:
            self.always.append([key, *value])

    def add_object(self, name: str, members: _Members) -> None:
        """Add a member that is an object; it is left out where it has no members."""
        if members.always:
            self.always.append([f"{json.dumps(name)}:{{", *members.inner(), "}"])
        elif members.optional:
            self.add_value(name, ["{", *members.inner(), "}"])

    def add_words(self, text: pa.Array, words: _Words) -> None:
        """Add text by combination that is ``,"name":value`` any number of times."""
        lengths = pc.binary_length(text)
        if pc.min(lengths).as_py() > 0:
            self.always.append([words.by_row(_without_first(text))])
        elif pc.max(lengths).as_py() > 0:
            self.optional.append(words.by_row(text))

    def with_commas(self) -> list[_Piece]:
        """Return pieces that join to ``,"name":value`` any number of times."""
        return [*(piece for member in self.always for piece in (",", *member)), *self.optional]

    def inner(self) -> list[_Piece]:
        """Return what stands between the braces: if no member is in every row, one piece that is null where there is none."""
        if self.always:
            return [*self.always[0], *_Members(self.always[1:], self.optional).with_commas()]
        if not self.optional:
            return []
        text = _join(self.optional)
        return [_without_first(pc.if_else(pc.equal(text, _EMPTY), _NULL, text))]


def _members(tree: _Tree, words: _Words) -> _Members:
    of_words, of_rows = _split(tree)
    members = _Members()
    if of_words:
        members.add_words(_join(_members(of_words, words).with_commas()), words)
    for name, value in of_rows.items():
        if not isinstance(value, dict):
            members.add_value(name, _value(value))
        else:
            members.add_object(name, _members(value, words))
    return members


def _split(tree: _Tree) -> tuple[_Tree, _Tree]:
    """Part what is made of words only, as plain columns by combination, from the rest."""
    of_words: _Tree = {}
    of_rows: _Tree = {}
    for name, value in tree.items():
        if isinstance(value, _Word):
            of_words[name] = value.values
        elif isinstance(value, dict):
            inner_words, inner_rows = _split(value)
            if inner_rows or not inner_words:
                of_rows[name] = value
            else:
                of_words[name] = inner_words
        else:
            of_rows[name] = value
    return of_words, of_rows


# --- Values ---


def _value(column: pa.Array) -> list[_Piece]:
    """Return pieces that join to the JSON values of a column; null where it is null."""
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return [column.cast(pa.string())]
    if pa.types.is_string(kind):
        return ['"', escape_json(column), '"']
    if pa.types.is_timestamp(kind):
        return ['"', _iso_time(column), '"']
    if pa.types.is_list(kind) and pa.types.is_string(kind.value_type):
        return ["[", _list(column), "]"]
    raise TypeError(f"no JSON text for a column of {kind}")


def _iso_time(column: pa.Array) -> pa.Array:
    unit = column.type.unit
    text = column.view(pa.timestamp(unit)).cast(pa.string())  # UTC as it is; with its zone the cast is 30 times slower
    if unit == "ns":
        text = pc.binary_slice(text.view(pa.binary()), 0, -2).view(pa.string())
    lengths = pc.min_max(pc.binary_length(text)).values()
    if all(length.as_py() in {_TIME_LENGTHS[unit], None} for length in lengths):
        text = pc.binary_replace_slice(text.view(pa.binary()), 10, 11, b"T").view(pa.string())
    else:  # years of other than four digits
        text = pc.replace_substring(text, pattern=" ", replacement="T", max_replacements=1)
    return _join_or_null([text, "Z"])


def _list(column: pa.Array) -> pa.Array:
    elements = _join_or_null(['"', escape_json(column.flatten()), '"']).fill_null("null")
    lengths = pc.list_value_length(column).fill_null(0).to_numpy()
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), elements, mask=column.is_null())
    return pc.binary_join(lists, ",")


def _join(pieces: list[_Piece]) -> pa.Array:
    """Join pieces row by row; a null piece counts as nothing."""
    # Not null_handling="skip": it drops rows in which all pieces are null.
    return pc.binary_join_element_wise(*_merged(pieces), _EMPTY, null_handling="replace", null_replacement="")


def _join_or_null(pieces: list[_Piece]) -> pa.Array:
    """Join pieces row by row; null where a piece is null."""
    return pc.binary_join_element_wise(*_merged(pieces), _EMPTY, null_handling="emit_null")


def _merged(pieces: list[_Piece]) -> list[pa.Array | pa.Scalar]:
    """Make neighbouring constants one piece: a piece costs as much as ten bytes."""
    merged: list[pa.Array | pa.Scalar] = []
    for constant, group in groupby(pieces, lambda piece: isinstance(piece, str)):
        run = list(group)
        merged += [_scalar("".join(run))] if constant else run
    return merged


def _scalar(text: str) -> pa.Scalar:
    """Return what `pa.scalar` returns; that looks for an optional module each time, which costs more than a small batch."""
    data = text.encode()
    return pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, len(data)], np.int32)), pa.py_buffer(data))[0]


def _without_first(text: pa.Array) -> pa.Array:
    # Not binary_slice(1): without a stop it overflows on long values (apache/arrow#51222).
    return pc.binary_replace_slice(text.view(pa.binary()), 0, 1, b"").view(pa.string())
