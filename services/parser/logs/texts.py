"""Look at the bytes of a column of text, where Arrow's functions would cost more: a few operations for all rows. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.column_values import text_ends
from services.parser.dictionary_columns import Rows
from services.parser.logs.lines import Bytes, Flags

EMPTY: Final = pa.scalar("", pa.string())
"""Comparing with a scalar that is there already takes a third of the time."""
NO_TEXT: Final = pa.scalar(None, pa.string())

_DIGITS: Final = 10
_DASH: Final = pa.scalar("-", pa.string())
_BLANK: Final = ord(" ")
_ZERO: Final = np.uint8(ord("0"))


@dataclass(frozen=True, slots=True)
class Texts:
    """The bytes of a column of text: those of row i are ``content[starts[i]:starts[i] + sizes[i]]``. A null has no bytes."""

    content: Bytes
    starts: Rows
    sizes: Rows

    @classmethod
    def of(cls, column: pa.StringArray) -> Texts:
        """Look at a column that was just made: its nulls have no bytes, and no others are between its texts."""
        edges, data = text_ends(column).astype(np.int64), column.buffers()[2]
        content = np.frombuffer(data if data is not None else b"", np.uint8)
        return cls(content, edges[:-1], np.diff(edges))

    @property
    def whole(self) -> Bytes:
        """The bytes of all rows."""
        if not len(self.starts):
            return self.content[:0]
        return self.content[self.starts[0] : self.starts[-1] + self.sizes[-1]]

    def first(self) -> Bytes:
        """Return the first byte of each row; 0 if it has none."""
        if not len(self.content):
            return np.zeros(len(self.starts), np.uint8)
        return np.where(self.sizes > 0, self.content.take(self.starts, mode="clip"), np.uint8(0))

    def are_digits(self) -> bool:
        """Return whether no row has anything but digits."""
        return bool((self.whole - _ZERO < _DIGITS).all())


def as_words(column: pa.StringArray) -> pa.DictionaryArray:
    """Return a column as words; at once if all rows are the same."""
    if not len(column) or column.null_count or not column[0] == column[len(column) // 2] == column[-1]:
        return column.dictionary_encode()
    texts = Texts.of(column)
    if (texts.sizes != texts.sizes[0]).any():
        return column.dictionary_encode()
    rows = texts.whole.reshape(len(texts.sizes), -1)
    if (rows != rows[0]).any():
        return column.dictionary_encode()
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(rows), np.int32)), column.slice(0, 1), safe=False)


def without_dashes(column: pa.Array) -> pa.Array:
    """Return text, or words, in which ``-`` and nothing are null, as access logs mean it."""
    if pa.types.is_dictionary(column.type):
        words = without_dashes(column.dictionary)
        return words.take(column.indices).dictionary_encode() if words.null_count else column
    absent = pc.or_(pc.equal(column, _DASH), pc.equal(column, EMPTY))
    return pc.if_else(absent, NO_TEXT, column) if absent.true_count else column


def are_blank(column: pa.StringArray) -> Flags:
    """Return which rows have nothing but white space, or are null."""
    likely = Texts.of(column).first() <= _BLANK
    if column.null_count:
        likely |= column.is_null().to_numpy(zero_copy_only=False)
    if likely.any():
        some = column.filter(pa.array(likely))
        likely[likely] = pc.fill_null(pc.match_substring_regex(some, r"^\s*$"), fill_value=True).to_numpy(zero_copy_only=False)
    return likely
