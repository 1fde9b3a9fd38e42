"""Turn the tuple arrays (JSON arrays of strings) of many records into one text with one tuple per line. Pure.

The arrays are joined, and everything between the strings is overwritten with line feeds, in place and for all at once; the CSV
reader skips empty lines. JSON strings contain no control characters, so a line feed inside a tuple is impossible. If any array
is not plain (white space between the strings, escapes, other values), all are first rewritten one by one, which is rare and
slower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa

from services.parser.dictionary_columns import Rows

_QUOTE: Final = ord('"')
_BRACKET: Final = ord("[")
_LINE_FEED: Final = ord("\n")
_EMPTY_ARRAY: Final = b"[]"

_strings = msgspec.json.Decoder(list[msgspec.Raw] | None)
_string = msgspec.json.Decoder(str)


@dataclass(frozen=True, slots=True)
class Spoiled:
    """An element of a tuple array that cannot become a line of text: its JSON, and why."""

    json: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class TupleText:
    """Tuples as lines.

    Attributes:
        text: the lines, with empty lines between them.
        bounds: positions in `text` of the character before the first of each tuple and of the one after its last.
        counts: tuples of each array.
        spoiled: elements that are not text, by tuple number; their lines are empty.
    """

    text: bytearray
    bounds: Rows
    counts: Rows
    spoiled: dict[int, Spoiled]

    @property
    def rows(self) -> int:
        """Number of tuples."""
        return len(self.bounds) // 2

    def lines(self) -> pa.BinaryArray:
        """Return the tuples as an array."""
        # The text alternates between gaps and tuples.
        edges = np.zeros(2 * self.rows + 1, np.int32)
        edges[1::2] = self.bounds[0::2] + 1
        edges[2::2] = self.bounds[1::2]
        stretches = pa.Array.from_buffers(pa.binary(), 2 * self.rows, [None, pa.py_buffer(edges), pa.py_buffer(self.text)])
        return stretches.take(pa.array(np.arange(1, 2 * self.rows, 2)))


def tuple_text(arrays: list[msgspec.Raw]) -> TupleText:
    """Join the tuple arrays into lines."""
    joined = bytearray().join(arrays)
    lengths = np.fromiter(map(len, arrays), np.int64, len(arrays))
    found = None if b"\\" in joined else _plain(joined, lengths)
    return found or _rewritten(arrays)


def _plain(joined: bytearray, lengths: Rows, spoiled: dict[int, Spoiled] | None = None) -> TupleText | None:
    """Turn plain arrays into lines; None if any is not plain."""
    text = np.frombuffer(joined, np.uint8)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    quotes = np.flatnonzero(text == _QUOTE)
    opening, closing = quotes[0::2], quotes[1::2]
    if len(opening) != len(closing) or not (text[starts] == _BRACKET).all():
        return None
    # Outside its strings, an array of n > 0 strings has at least n + 1 characters: brackets and commas. Any other value in it
    # adds more than one, so equality for all together proves that there are no other values and no white space.
    empty = int((lengths == len(_EMPTY_ARRAY)).sum())
    outside = len(joined) - int((closing - opening + 1).sum())
    if outside != len(opening) + len(lengths) + empty:
        return None
    text[quotes] = _LINE_FEED
    text[closing + 1] = _LINE_FEED
    text[starts] = _LINE_FEED
    # `[]` leaves its closing bracket.
    text[ends - 1] = _LINE_FEED
    counts = np.diff(np.searchsorted(quotes, ends), prepend=0) // 2
    return TupleText(joined, quotes, counts, spoiled or {})


def _rewritten(arrays: list[msgspec.Raw]) -> TupleText:
    spoiled: dict[int, Spoiled] = {}
    rewritten: list[bytes] = []
    number = 0
    for array in arrays:
        lines = []
        for element in _elements_of(array):
            line = _line(element)
            if isinstance(line, Spoiled):
                spoiled[number] = line
                line = b""
            lines.append(line)
            number += 1
        rewritten.append(b'["' + b'","'.join(lines) + b'"]' if lines else _EMPTY_ARRAY)
    lengths = np.fromiter(map(len, rewritten), np.int64, len(rewritten))
    text = _plain(bytearray().join(rewritten), lengths, spoiled)
    if text is None:
        raise AssertionError("rewritten arrays are plain")
    return text


def _elements_of(array: msgspec.Raw) -> list[msgspec.Raw]:
    try:
        return _strings.decode(array) or []
    except msgspec.ValidationError:
        return [array]


def _line(element: msgspec.Raw) -> bytes | Spoiled:
    json = bytes(element)
    if not json.startswith(b'"'):
        return Spoiled(json, "a tuple is not a string, or the tuples are not an array")
    if b"\\" not in json:
        return json[1:-1]
    text = _string.decode(json)
    if '"' in text or min(text, default=" ") < " ":
        return Spoiled(json, "a tuple contains quotes or control characters")
    return text.encode()
