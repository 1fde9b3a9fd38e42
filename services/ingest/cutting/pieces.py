"""Cut one over-long flow-log record into pieces that are valid records: the same envelope, each part of the tuples. Pure.

The tuples of a record are counted in document order over all its ``flowTuples`` arrays; a piece holds a contiguous run of them
and says the index of its first. Arrays that lie outside the run are empty in the piece. All other bytes are the record's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from libs.common.framing.scan import commas, value_end

# Sound on valid JSON: inside a string both quotes would be escaped, and a value is not followed by a colon.
_TUPLES = re.compile(rb'"flowTuples"[ \t\r\n]*:[ \t\r\n]*(?=\[)')
# Records inside a record would stand at another offset in each piece, and be others in each.
_NESTED = re.compile(rb'"records"[ \t\r\n]*:')
_BLANK = b" \t\r\n"
# Records may have very many short arrays, each of which would cost as much as a long one.
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
    end: int  # behind the closing bracket
    ends: npt.NDArray[np.int32]  # where the tuples end, each with the comma or bracket behind it

    def run(self, first: int, last: int) -> tuple[int, int]:
        """Return where the tuples from number `first` to `last` stand, without the comma behind the last."""
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
    """Return where the elements of the array between `start` and `end` end, with what separates them."""
    if not record[start:end].strip(_BLANK):
        return np.empty(0, np.int32)
    # A record is never as long as two gigabytes, and there may be very many tuples.
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
