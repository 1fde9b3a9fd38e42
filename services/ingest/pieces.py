"""Cut one over-long flow-log record into pieces that are valid records: the same envelope, each part of the tuples. Pure.

The tuples of a record are counted in document order over all its ``flowTuples`` arrays; a piece holds a contiguous run of them
and says the index of its first. Arrays that lie outside the run are empty in the piece. All other bytes are the record's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from services.ingest.framing import Span, array_spans

# Sound on valid JSON: inside a string both quotes would be escaped, and a value is not followed by a colon.
_TUPLES = re.compile(rb'"flowTuples"[ \t\r\n]*:[ \t\r\n]*(?=\[)')
# Records inside a record would stand at another offset in each piece, and be others in each.
_NESTED = re.compile(rb'"records"[ \t\r\n]*:')
_SCANNER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class PieceText:
    """A valid record with the tuples from `first_tuple` on."""

    first_tuple: int
    data: bytes


@dataclass(frozen=True, slots=True)
class _Array:
    start: int  # of the opening bracket
    end: int  # behind the closing bracket
    tuples: list[Span]  # absolute


def cut_record(record: bytes, limit: int) -> list[PieceText] | None:
    """Return pieces of at most `limit` bytes, or None if the record cannot be cut that small."""
    if _NESTED.search(record):
        return None
    try:
        arrays = list(_arrays(record))
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None
    tuples = [span for array in arrays for span in array.tuples]
    room = limit - len(record) + sum(array.end - array.start - 2 for array in arrays)
    runs = _runs(tuples, room)
    if runs is None:
        return None
    return [PieceText(first, _piece(record, arrays, first, last)) for first, last in runs]


def _arrays(record: bytes) -> Iterator[_Array]:
    text = record.decode("latin-1")
    for match in _TUPLES.finditer(record):
        start = match.end()
        _, end = _SCANNER.raw_decode(text, start)
        yield _Array(start, end, [(start + a, start + b) for a, b in array_spans(record[start:end])])


def _runs(tuples: list[Span], room: int) -> list[tuple[int, int]] | None:
    """Group consecutive tuples so that each group, with a separator a tuple, fits in `room`."""
    runs: list[tuple[int, int]] = []
    first = used = 0
    for index, (start, end) in enumerate(tuples):
        size = end - start + 1
        if size > room:
            return None
        if used + size > room:
            runs.append((first, index))
            first, used = index, 0
        used += size
    return [*runs, (first, len(tuples))] if tuples else None


def _piece(record: bytes, arrays: list[_Array], first: int, last: int) -> bytes:
    parts: list[bytes] = []
    position = passed = 0
    for array in arrays:
        chosen = array.tuples[max(0, first - passed) : max(0, last - passed)]
        parts += (record[position : array.start], b"[", b",".join(record[a:b] for a, b in chosen), b"]")
        position = array.end
        passed += len(array.tuples)
    return b"".join((*parts, record[position:]))
