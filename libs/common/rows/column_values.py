"""What formats read from columns: which values are there, integers, and the two halves of the text of a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa

from libs.common.rows.row_text import Bools, CodedTexts, Codes, Ints, distinct

A_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""The ticks of a second, by the unit of a time."""


def _of_nanoseconds(nanoseconds: int) -> str:
    hundreds, rest = divmod(nanoseconds, 100)
    return f".{hundreds:07}{rest:02}" if rest else f".{hundreds:07}"


FRACTION: Final[dict[str, Callable[[int], str]]] = {
    "s": lambda _: "",
    "ms": ".{:03}".format,
    "us": ".{:06}".format,
    "ns": _of_nanoseconds,
}
"""The text after the seconds, by the unit of a time; seven digits for nanoseconds, unless nine are needed."""

_ENDS: Final = 4_096  # texts after the seconds that are remembered: all of milliseconds

Tree: TypeAlias = "dict[str, pa.Array | Tree]"
"""Columns by name; those whose names begin alike before a dot are together in one more of these."""


def tree_of(table: pa.Table) -> Tree:
    """Return the columns of a table nested by the dots in their names, each at the place of its first member.

    Raises:
        ValueError: if a name is both a value and an object (``a`` and ``a.b``).
    """
    tree: Tree = {}
    for name in table.column_names:
        _insert(tree, tuple(name.split(".")), combined(table, name))
    return tree


def _insert(tree: Tree, path: tuple[str, ...], column: pa.Array) -> None:
    *objects, name = path
    for part in objects:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ValueError(f"{'.'.join(path)}: {part} is both a value and an object")  # noqa: TRY004 - names are values, not types
    if name in tree:
        raise ValueError(f"{'.'.join(path)} is a duplicate column, or both a value and an object")
    tree[name] = column


def combined(table: pa.Table, name: str) -> pa.Array:
    """Return a column as one array, with one dictionary if it has dictionaries."""
    return one_array(table.column(name))


def one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return a column as one array, with one dictionary if it has dictionaries; a copy only if it is in several pieces."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.unify_dictionaries().combine_chunks()


def validity(column: pa.Array) -> Bools:
    """Return which values are not null."""
    if not column.null_count:
        return np.ones(len(column), np.bool_)
    valid: Bools = column.is_valid().to_numpy(zero_copy_only=False)
    return valid


def integers(column: pa.Array) -> Ints:
    """Return integers or times, with 0 for nulls."""
    kind = pa.int64() if pa.types.is_timestamp(column.type) else column.type
    # Treat all values as valid: with nulls, NumPy would return floating-point numbers.
    values = pa.Array.from_buffers(kind, len(column), [None, column.buffers()[1]], offset=column.offset).to_numpy()
    found: Ints = values.astype(np.int64, copy=False)
    return np.where(validity(column), found, 0) if column.null_count else found


def text_ends(values: pa.Array) -> Ints:
    """Return where the texts (or binary values) of an array begin and end within its bytes: one more than there are texts."""
    places = values.buffers()[1]
    if not len(values) or places is None:
        return np.zeros(1, np.int64)
    large = pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type)
    width = np.dtype(np.int64 if large else np.int32)
    # Only those that belong to the array: what another program wrote may end amid a number.
    return np.frombuffer(places, width, len(values) + 1, values.offset * width.itemsize)


def word_codes(column: pa.DictionaryArray) -> Codes:
    """Return the index of each row's word in the dictionary; that of a null is behind the last word."""
    indices = column.indices
    if not indices.null_count and indices.type == pa.int32():
        codes: Codes = indices.to_numpy().view(np.uint32)
        return codes
    codes = integers(indices).astype(np.uint32)
    return np.where(validity(column), codes, np.uint32(len(column.dictionary))) if indices.null_count else codes


def second_texts(seconds: Ints) -> list[str]:
    """Return seconds since 1970 as ISO 8601 text without a zone."""
    texts: list[str] = pa.array(seconds, pa.timestamp("s")).cast(pa.string()).to_pylist()
    return [text.replace(" ", "T") for text in texts]


def time_words(column: pa.Array) -> tuple[CodedTexts, CodedTexts]:
    """Return the text of times in two halves: to the second, and what follows, with the ``Z``.

    Both are words: a batch has few distinct ones of either, even if it has many times.
    """
    unit = column.type.unit
    seconds, parts = np.divmod(integers(column), A_SECOND[unit])
    whole, of_second = distinct(seconds)
    rest, of_part = distinct(parts)
    return CodedTexts(second_texts(whole), of_second), CodedTexts([_end(unit, part) for part in rest.tolist()], of_part)


@lru_cache(_ENDS)
def _end(unit: str, part: int) -> str:
    return f"{FRACTION[unit](part)}Z"
