"""Cut off what the lines of a segment end with: members that are the same in all of them. Pure.

Collectors append what they know of a container, the same several hundred bytes to each of its lines. Such a tail is found by
comparing two lines of the segment, and read once. It consists of whole members of the line's object: the rest of the line is an
object if a brace closes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa

from services.parser.dictionary_columns import Rows
from services.parser.logs.lines import Flags, Lines
from services.parser.logs.shapes import JsonShape, Shapes

FEWEST_LINES: Final = 16
"""In a segment of fewer lines, finding the tail costs more than it saves."""
_LONGEST: Final = 4_096
_SHORTEST: Final = 32


@dataclass(frozen=True, slots=True)
class Tails:
    """The tails of some lines.

    Attributes:
        shapes: each distinct tail, whose values are constant.
        of_line: for each line the index of its tail; -1 if it has none.
        sizes: for each line the size of what is cut off, with the comma and the brace.
    """

    shapes: list[JsonShape]
    of_line: Rows
    sizes: Rows


def tails_of(lines: Lines, numbers: Rows, shapes: Shapes) -> Tails:
    """Find the tails of lines, given by their numbers in ascending order."""
    found: dict[JsonShape, int] = {}
    of_line, sizes = np.full(len(numbers), -1, np.int64), np.zeros(len(numbers), np.int64)
    likely = np.full(len(numbers), -1, np.int64)  # for each line, the place of one that has the tail that it may have
    for begin, end in _stretches(lines.segment[numbers]):
        shape, size = _tail(lines.line(numbers[begin]), lines.line(numbers[(begin + end) // 2]), shapes)
        if shape is not None:
            of_line[begin:end], sizes[begin:end], likely[begin:end] = found.setdefault(shape, len(found)), size, begin
    if found:
        has_tail = _end_like(lines, numbers, sizes, likely)
        of_line[~has_tail], sizes[~has_tail] = -1, 0
    return Tails(list(found), of_line, sizes)


def _stretches(segments: Rows) -> Iterator[tuple[int, int]]:
    """Yield where the lines of each segment begin and end, of those with enough lines."""
    edges = [0, *(np.flatnonzero(segments[1:] != segments[:-1]) + 1).tolist(), len(segments)]
    for begin, end in pairwise(edges):
        if end - begin >= FEWEST_LINES:
            yield begin, end


def _tail(one: bytes, other: bytes, shapes: Shapes) -> tuple[JsonShape | None, int]:
    """Return the longest common end of two lines that consists of members, and its size; None if it is not worth cutting."""
    size = min(len(one), len(other), _LONGEST)
    ends = (np.frombuffer(text[len(text) - size :][::-1], np.uint8) for text in (one, other))
    differing = np.flatnonzero(np.not_equal(*ends))
    common = one[len(one) - (int(differing[0]) if len(differing) else size) :]
    place = common.find(b',"')
    while 0 <= place <= len(common) - _SHORTEST:
        shape = shapes.of_object(b"{" + common[place + 1 :])
        if shape is not None:
            return shape, len(common) - place
        place = common.find(b',"', place + 1)
    return None, 0


def _end_like(lines: Lines, numbers: Rows, sizes: Rows, likely: Rows) -> Flags:
    """Return which lines have more than `sizes` bytes and end with the same ones as the line at the place `likely`."""
    starts, ends = lines.starts[numbers], lines.ends[numbers]
    fits = (sizes > 0) & (ends - sizes > starts)
    edges = np.empty(2 * len(numbers) + 1, np.int32)
    edges[0:-1:2], edges[1::2], edges[-1] = np.where(fits, ends - sizes, ends), ends, len(lines.text)
    stretches = pa.Array.from_buffers(pa.binary(), len(edges) - 1, [None, pa.py_buffer(edges), pa.py_buffer(lines.text)])
    words = stretches.take(pa.array(np.arange(0, len(edges) - 1, 2))).dictionary_encode().indices.to_numpy()
    found: Flags = fits & (words == words[np.maximum(likely, 0)])
    return found
