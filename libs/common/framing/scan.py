"""Find where JSON values end, by brackets and strings alone. Pure.

No value is built, so hostile text needs no more memory than valid text: the memory used is proportional to one block.
Mismatched kinds of brackets are not noticed; callers that need to know decode what was found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_FIRST_BLOCK = 2_048  # most values are short
_BLOCK = 131_072
_QUOTE, _BACKSLASH, _COMMA = ord('"'), ord("\\"), ord(",")
# With this bit set, both opening brackets are "{" and both closing ones "}".
_CURLY = 0x20
_OPEN, _CLOSE = ord("{"), ord("}")


@dataclass(slots=True)
class Scanner:
    """The state needed to continue between any two bytes of a text: however the text is split, the result is the same."""

    depth: int = 0  # number of open brackets
    quoted: bool = False  # inside a string
    escaped: bool = False  # after a backslash that escapes the next character

    def brackets(self, block: Bytes) -> tuple[Positions, Positions]:
        """Scan `block`; return the positions of the brackets outside strings, and the depth after each of them."""
        quotes = self._quotes(block)
        curly = block | _CURLY
        places = np.flatnonzero((curly == _OPEN) | (curly == _CLOSE))
        places = places[self._outside(places, quotes)]
        depths = self.depth + np.cumsum(np.where(curly[places] == _OPEN, 1, -1))
        if len(depths):
            self.depth = int(depths[-1])
        self.quoted ^= bool(len(quotes) & 1)
        return places, depths

    def commas(self, block: Bytes) -> Positions:
        """Scan `block`; return the positions of the commas outside strings and brackets."""
        depth, quoted, escaped = self.depth, self.quoted, self.escaped
        brackets, depths = self.brackets(block)
        before = Scanner(depth, quoted, escaped)
        places = np.flatnonzero(block == _COMMA)
        places = places[before._outside(places, before._quotes(block))]
        outermost: Positions = places[np.concatenate(([depth], depths))[np.searchsorted(brackets, places)] == 0]
        return outermost

    def _outside(self, places: Positions, quotes: Positions) -> npt.NDArray[np.bool_]:
        inside: npt.NDArray[np.bool_] = (np.searchsorted(quotes, places) + self.quoted) & 1 == 0
        return inside

    def _quotes(self, block: Bytes) -> Positions:
        """Return the positions of the quotes that begin or end a string."""
        quotes = np.flatnonzero(block == _QUOTE)
        slashes = np.flatnonzero(block == _BACKSLASH)
        if not len(slashes) and not self.escaped:
            return quotes
        escaped = np.zeros(len(block) + 1, np.bool_)
        escaped[0] = self.escaped
        if self.escaped and len(slashes) and slashes[0] == 0:
            slashes = slashes[1:]
        # In a run of backslashes, every second one is itself escaped.
        new_row = np.diff(slashes, prepend=-2) != 1
        row_starts = slashes[new_row][np.cumsum(new_row) - 1]
        escaped[slashes[(slashes - row_starts) & 1 == 0] + 1] = True
        self.escaped = bool(escaped[-1])
        return quotes[~escaped[quotes]]


def value_ends(data: bytes, start: int, most: int) -> Positions:
    """Return the ends of the consecutive objects and arrays from `start` on.

    The list stops at the last one in `data`, before a bracket that closes none of them, or after about `most` of them.
    """
    found = [np.empty(0, np.int64)]
    count = 0
    for places, depths in _brackets(data, start):
        below = np.flatnonzero(depths < 0)
        stop = int(below[0]) if len(below) else len(depths)
        found.append(places[:stop][depths[:stop] == 0] + 1)
        count += len(found[-1])
        if len(below) or count >= most:
            break
    return np.concatenate(found)[:most]


def value_end(data: bytes, start: int) -> int | None:
    """Return where the object or array that begins at `start` ends; None if it does not end in `data`."""
    for places, depths in _brackets(data, start):
        ends = np.flatnonzero(depths == 0)
        if len(ends):
            return int(places[ends[0]]) + 1
    return None


def closing(data: bytes, start: int) -> int | None:
    """Return the position of the first bracket that closes something opened before `start`; None if there is none."""
    for places, depths in _brackets(data, start):
        below = np.flatnonzero(depths < 0)
        if len(below):
            return int(places[below[0]])
    return None


def commas(data: bytes, start: int, end: int) -> Iterator[Positions]:
    """Yield, block by block, the positions of the commas in ``[start, end)`` outside strings and brackets."""
    scanner = Scanner()
    for place, block in _blocks(data, start, end):
        yield place + scanner.commas(block)


def _brackets(data: bytes, start: int) -> Iterator[tuple[Positions, Positions]]:
    scanner = Scanner()
    for place, block in _blocks(data, start, len(data)):
        places, depths = scanner.brackets(block)
        yield places + place, depths


def _blocks(data: bytes, start: int, end: int) -> Iterator[tuple[int, Bytes]]:
    text = np.frombuffer(data, np.uint8)
    size = _FIRST_BLOCK
    while start < end:
        yield start, text[start : min(end, start + size)]
        start += size
        size = min(8 * size, _BLOCK)
