"""Find the values in lines of JSON. Pure: a few operations on arrays for all lines together.

A slot is the value of a member: the inside of a string, a number, ``true``, ``false`` or ``null``, or a whole array. What is
between the slots is the skeleton of the line: braces, names, and the quotes around strings. Lines of the same source have the
same few skeletons, so a skeleton is understood once (`services.parser.logs.shapes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import pyarrow as pa

from services.parser.dictionary_columns import Rows
from services.parser.logs.lines import PADDING, Bytes, Flags
from services.parser.logs.quotes import quotes_in

_COLON, _COMMA, _SPACE = ord(":"), ord(","), ord(" ")
_OPEN_ARRAY, _CLOSE_ARRAY = ord("["), ord("]")
_OPEN_OBJECT, _CLOSE_OBJECT, _QUOTE = ord("{"), ord("}"), ord('"')
_LOOK: Final = 24  # most numbers and words are shorter


class SlotKind(IntEnum):
    """What a slot holds."""

    STRING = 0  # escapes as written
    SCALAR = 1  # a number, true, false or null
    ARRAY = 2


@dataclass(frozen=True, slots=True)
class JsonText:
    """Lines of JSON, one directly after the other: line i is ``text[bounds[i]:bounds[i + 1]]``. `PADDING` follows."""

    text: pa.Buffer
    bounds: Rows

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def content(self) -> Bytes:
        """The lines as an array, with the padding."""
        return np.frombuffer(self.text, np.uint8)

    @classmethod
    def of(cls, lines: Sequence[bytes]) -> JsonText:
        """Join lines."""
        bounds = np.concatenate(([0], np.cumsum(np.fromiter(map(len, lines), np.int64, len(lines)))))
        return cls(pa.py_buffer(b"".join((*lines, PADDING))), bounds)


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots of some lines, in order.

    Attributes:
        json: the lines.
        starts, ends, kinds: of each slot; kinds are those of `SlotKind`.
        first: number of the first slot of each line, and the number of all slots.
        line: of each slot.
        backslashes: where the text has some.
    """

    json: JsonText
    starts: Rows
    ends: Rows
    kinds: Bytes
    first: Rows
    line: Rows
    backslashes: Rows

    def pieces(self) -> pa.BinaryArray:
        """Cut all lines at their slots: `2 k + 1` pieces for a line of `k` slots, of which every second one is a slot.

        The very last piece is an additional one, which is empty.
        """
        count, lines = len(self.starts), len(self.json)
        edges = np.empty(2 * count + lines + 2, np.int32)
        places = self.numbers_of_pieces()
        edges[places] = self.starts
        edges[places + 1] = self.ends
        edges[self.first_piece()] = self.json.bounds
        edges[-1] = edges[-2]
        return pa.Array.from_buffers(pa.binary(), len(edges) - 1, [None, pa.py_buffer(edges), self.json.text])

    def numbers_of_pieces(self) -> Rows:
        """Return the number of the piece that each slot is."""
        numbers: Rows = 2 * np.arange(len(self.starts)) + self.line + 1
        return numbers

    def first_piece(self) -> Rows:
        """Return the number of the first piece of each line, and the number of all pieces."""
        pieces: Rows = 2 * self.first + np.arange(len(self.first), dtype=np.int64)
        return pieces


def slots_of(json: JsonText) -> Slots:
    """Find the slots of lines. Those of a line that is not JSON may be anywhere in it, but each ends before the next begins."""
    content, end = json.content, int(json.bounds[-1])
    quotes, backslashes = _quotes(json)
    behind = quotes[1::2] + 1
    keys = np.flatnonzero(content.take(behind) == _COLON)
    places = behind.take(keys) + 1
    kind = content.take(places)
    spaced = kind == _SPACE
    if spaced.any():
        places += spaced
        kind = content.take(places)
    is_value = (kind != _OPEN_OBJECT) & (places < end)
    arrays = _arrays(json, quotes) if (kind == _OPEN_ARRAY).any() else None
    if arrays is not None:
        is_value &= _is_outside(places, *arrays)
    chosen = np.flatnonzero(is_value)
    places, kind = places.take(chosen), kind.take(chosen)
    first = np.searchsorted(places, json.bounds)
    next_string = 2 * keys.take(chosen) + 2
    next_quote = quotes.take(next_string, mode="clip")  # if none follows the last value, that is not looked at
    _stay_in_line(next_quote, first, json.bounds)
    is_string = kind == _QUOTE
    ends = quotes.take(next_string + 1, mode="clip")
    kinds = (~is_string).view(np.uint8)
    scalars = np.flatnonzero(kinds)
    if arrays is not None:
        is_array = kind == _OPEN_ARRAY
        kinds[is_array], ends[is_array] = SlotKind.ARRAY, _ends_of_arrays(places[is_array], *arrays)
        scalars = np.flatnonzero(kinds == SlotKind.SCALAR)
    ends[scalars] = _ends_of_scalars(content, places.take(scalars), next_quote.take(scalars))
    line = np.repeat(np.arange(len(json)), np.diff(first))
    return Slots(json, places + is_string, ends, kinds, first, line, backslashes)


def _quotes(json: JsonText) -> tuple[Rows, Rows]:
    """Return where strings begin and end, in turn, without the lines in which one does not end; and all backslashes."""
    quotes, backslashes = quotes_in(json.content[: json.bounds[-1]])
    counts = np.diff(np.searchsorted(quotes, json.bounds))
    broken = counts & 1 == 1
    return quotes[np.repeat(~broken, counts)] if broken.any() else quotes, backslashes


def _stay_in_line(next_quote: Rows, first: Rows, bounds: Rows) -> None:
    """Let the end of the line stand for a quote after the last value of each line."""
    has_any = np.diff(first) > 0
    next_quote[first[1:][has_any] - 1] = bounds[1:][has_any]


def _ends_of_scalars(content: Bytes, starts: Rows, next_quotes: Rows) -> Rows:
    """Return where numbers and words end: most of them at the comma before the next key, all of them before the next quote."""
    ends = next_quotes - 1
    last = content.take(next_quotes - 2, mode="clip")
    others = np.flatnonzero((content.take(ends) != _COMMA) | (last == _CLOSE_OBJECT) | (last <= _SPACE))
    windows = np.lib.stride_tricks.sliding_window_view(content, _LOOK)[starts[others]]
    is_end = (windows == _COMMA) | (windows == _CLOSE_OBJECT) | (windows <= _SPACE)
    sizes = is_end.argmax(axis=1)
    for number in np.flatnonzero(~is_end[np.arange(len(others)), sizes]).tolist():
        sizes[number] = _long_scalar(content, int(starts[others[number]]))
    ends[others] = np.minimum(starts[others] + sizes, next_quotes[others])
    return np.maximum(ends, starts)


def _long_scalar(content: Bytes, start: int) -> int:
    size = 0
    while content[start + size] > _SPACE and content[start + size] not in (_COMMA, _CLOSE_OBJECT):
        size += 1
    return size


def _arrays(json: JsonText, quotes: Rows) -> tuple[Rows, Rows]:
    """Return where the outermost arrays begin and end. In lines whose brackets do not match, there are none."""
    content = json.content[: json.bounds[-1]]
    brackets = np.flatnonzero((content == _OPEN_ARRAY) | (content == _CLOSE_ARRAY))
    brackets = brackets[np.searchsorted(quotes, brackets) & 1 == 0]
    steps = np.where(content.take(brackets) == _OPEN_ARRAY, 1, -1)
    after = np.cumsum(steps)
    line = np.searchsorted(json.bounds, brackets, side="right") - 1
    edges = np.searchsorted(brackets, json.bounds)
    at_start = np.concatenate(([0], after))[edges[:-1]]
    depth = after - at_start[line]
    unmatched = np.zeros(len(json), np.bool_)
    unmatched[line[depth < 0]] = True
    unmatched |= np.concatenate(([0], after))[edges[1:]] != at_start
    matched = ~unmatched[line]
    opens = matched & (steps > 0) & (depth == 1)
    closes = matched & (steps < 0) & (depth == 0)
    return brackets[opens], brackets[closes] + 1


def _is_outside(places: Rows, starts: Rows, ends: Rows) -> Flags:
    """Return which places are in no array; where one begins, counts as outside."""
    if not len(starts):
        return np.ones(len(places), np.bool_)
    before = np.searchsorted(starts, places, side="left") - 1
    outside: Flags = (before < 0) | (places >= ends[before])
    return outside


def _ends_of_arrays(places: Rows, starts: Rows, ends: Rows) -> Rows:
    """Return where the arrays end that begin at these places; those that are none are empty."""
    if not len(starts):
        return places
    at = np.minimum(np.searchsorted(starts, places), len(starts) - 1)
    return np.where(starts[at] == places, ends[at], places)
