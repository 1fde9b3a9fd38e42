"""Cut an over-long flow-log record into pieces that are valid records: the same envelope, each with some of the tuples. Pure.

The tuples of a record are numbered in document order across all its ``flowTuples`` arrays; a piece contains a contiguous run of
them and gives the index of its first. Arrays outside the run are empty in the piece. All other bytes are unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from libs.common.framing.scan import commas, value_end

# Correct on valid JSON: inside a string both quotes would be escaped, and a value is not followed by a colon.
_TUPLES = re.compile(rb'"flowTuples"[ \t\r\n]*:[ \t\r\n]*(?=\[)')
# Records inside a record would have different offsets, and different contents, in each piece.
_NESTED = re.compile(rb'"records"[ \t\r\n]*:')
_BLANK = b" \t\r\n"
# A record may have very many short arrays, each of which would cost as much as a long one.
_SHORT = re.compile(rb'\[[ \t\r\n]*+(?:"[^"\\]{0,500}+"[ \t\r\n]*+(?:,[ \t\r\n]*+|(?=\]))){0,50}+\]')
_ELEMENT = re.compile(rb'"[^"]*+"[ \t\r\n]*+.')


@dataclass(frozen=True, slots=True)
class PieceText:
    """A valid record with the tuples from `first_tuple` on."""

    first_tuple: int
    data: bytes


@dataclass(frozen=True, slots=True)
class _Array:
    start: int  # of the opening bracket
    end: int  # after the closing bracket
    ends: npt.NDArray[np.int32]  # ends of the tuples, each including the comma or bracket after it

    def run(self, first: int, last: int) -> tuple[int, int]:
        """Return the range of the tuples from `first` to `last`, without the comma after the last."""
        begin = int(self.ends[first - 1]) if first > 0 else self.start + 1
        return (begin, int(self.ends[last - 1]) - 1) if first < last else (begin, begin)


def cut_record(record: bytes, limit: int) -> list[PieceText] | None:
    """Return pieces of at most `limit` bytes, or None if the record, which is valid JSON, cannot be cut that small."""
    if _NESTED.search(record):
        return None
    arrays = list(_arrays(record))
    room = limit - len(record) + sum(array.end - array.start - 2 for array in arrays)
    sizes = [np.diff(array.ends, prepend=np.int32(array.start + 1)) for array in arrays]
    runs = _runs(np.concatenate([np.empty(0, np.int32), *sizes]), room)
    if runs is None:
        return None
    return [PieceText(first, _piece(record, arrays, first, last)) for first, last in runs]


def _arrays(record: bytes) -> Iterator[_Array]:
    for match in _TUPLES.finditer(record):
        start = match.end()
        if short := _SHORT.match(record, start):
            ends = [element.end() for element in _ELEMENT.finditer(record, start + 1, short.end())]
            yield _Array(start, short.end(), np.array(ends, np.int32))
            continue
        end = value_end(record, start)
        if end is not None:
            yield _Array(start, end, _tuple_ends(record, start + 1, end - 1))


def _tuple_ends(record: bytes, start: int, end: int) -> npt.NDArray[np.int32]:
    """Return the ends of the array's elements between `start` and `end`, separators included."""
    if not record[start:end].strip(_BLANK):
        return np.empty(0, np.int32)
    # int32: a record is always shorter than two gigabytes, and there may be very many tuples.
    ends = [(places + 1).astype(np.int32) for places in commas(record, start, end)]
    return np.concatenate([*ends, np.array([end + 1], np.int32)])


def _runs(sizes: npt.NDArray[np.int32], room: int) -> list[tuple[int, int]] | None:
    """Group consecutive tuples of these sizes so that each group fits in `room`."""
    if not len(sizes) or sizes.max() > room:
        return None
    ends = np.cumsum(sizes, dtype=np.int32)
    runs = []
    first = used = 0
    while first < len(sizes):
        last = int(np.searchsorted(ends, np.int32(used + room), side="right"))
        runs.append((first, last))
        first, used = last, int(ends[last - 1])
    return runs


def _piece(record: bytes, arrays: list[_Array], first: int, last: int) -> bytes:
    parts: list[bytes] = []
    position = passed = 0
    for array in arrays:
        count = len(array.ends)
        start, end = array.run(min(max(0, first - passed), count), min(max(0, last - passed), count))
        parts += (record[position : array.start], b"[", record[start:end], b"]")
        position = array.end
        passed += count
    return b"".join((*parts, record[position:]))
