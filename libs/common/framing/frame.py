"""Find where the records in a text begin and end. Pure: bytes in, positions out; no input raises an exception.

The common case, complete records and perhaps the tail, is handled by typed decodes that skip over records' contents at C speed.
Only if that fails (the bytes end inside a record, hold several documents, or are not JSON) is the end of each value found by
its brackets and strings, and each value decoded separately. Anything that is not a value is either incomplete or broken.

At most about `MOST_RECORDS` are found at once, so that millions of tiny records need no more memory than a few large ones.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from heapq import merge

import msgspec

from libs.common.framing.lead import BOM, Next, gap_end, skip_lead
from libs.common.framing.scan import value_end, value_ends

Span = tuple[int, int]

MOST_RECORDS = 50_000


class Rest(StrEnum):
    """What follows the last complete record."""

    NOTHING = "nothing"  # nothing but white space and a comma
    TAIL = "tail"  # the end of a document, and nothing after it
    PARTIAL = "partial"  # the beginning of a record
    BROKEN = "broken"  # something that further bytes cannot turn into a record
    MORE = "more"  # more records than one call finds


@dataclass(frozen=True, slots=True)
class FramedRecords:
    """Complete records, as index ranges, and what follows them."""

    spans: list[Span]
    rest: Rest


_SEPARATOR = re.compile(rb"[ \t\r\n]*(?:,[ \t\r\n]*)?")
_BLANK = re.compile(rb"[ \t\r\n]*")
_TAIL_AT_END = re.compile(rb"\][ \t\r\n]*\}[ \t\r\n]*\Z")
_SCALAR = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[^ \t\r\n,\[\]{}"]++', re.DOTALL)
_BEFORE_OBJECT = re.compile(rb"(?:,[ \t\r\n]*+|(?<=[}\]\n]))(?=\{)")
_TAIL_REACH = 64
_COMMA = ord(",")
_OPENERS = b"{["
_BRACKETS = b"{}[]"
_CLOSERS = b'}]"'
_FIRST_ENDS = 64
_FIRST_STRETCH = 32_768
_STRETCH = 1_048_576  # bytes decoded at once: even if full of tiny values, they need little of a worker's memory

_RAW_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_RAW = msgspec.json.Decoder(msgspec.Raw)
_NO_JSON = (msgspec.MsgspecError, UnicodeDecodeError)
_TRUNCATED = "truncated"  # in the decoder's message

_RESYNC_TRIES = 10_000
_RESYNC_WORK = 64 * 1024 * 1024


class _Sign(msgspec.Struct, gc=False):
    """Keys that identify a record."""

    category: msgspec.Raw = msgspec.Raw()
    records: msgspec.Raw = msgspec.Raw()
    properties: msgspec.Raw = msgspec.Raw()
    flowRecords: msgspec.Raw = msgspec.Raw()  # noqa: N815 - the log's spelling
    resourceId: msgspec.Raw = msgspec.Raw()  # noqa: N815
    systemId: msgspec.Raw = msgspec.Raw()  # noqa: N815
    operationName: msgspec.Raw = msgspec.Raw()  # noqa: N815


_SIGN = msgspec.json.Decoder(_Sign)


def frame(data: bytes, begin: int = 0) -> FramedRecords:
    """Find the complete records in `data` from index `begin` on, which must not be inside a record."""
    lead = skip_lead(data, begin)
    if lead.next is not Next.VALUE:
        return FramedRecords([], Rest(lead.next.value))
    return _fast(data, lead.end) or _Walk(data, lead.end).framed()


def ends_document(data: bytes, begin: int) -> bool:
    """Return whether only separators and ends of documents follow from `begin` on."""
    return skip_lead(data, begin).next in {Next.NOTHING, Next.TAIL}


def blank_end(data: bytes, begin: int) -> int:
    """Return where the white space at `begin` ends."""
    match = _BLANK.match(data, begin)
    return match.end() if match else begin


def resync(data: bytes, begin: int, block_starts: Sequence[int]) -> int | None:
    """Return the index of the first brace after `begin` that opens a record, or None.

    A candidate counts if it opens a complete object that looks like a record or, at the start of a block, any complete object.
    The search is bounded: on hostile input it gives up and returns None.
    """
    work = 0
    for tries, (index, at_block) in enumerate(_candidates(data, begin + 1, block_starts)):
        end = value_end(data, index)
        if end is not None and _is_record(data[index:end], anything=at_block):
            return index
        work += (end or len(data)) - index
        if tries >= _RESYNC_TRIES or work >= _RESYNC_WORK:
            break
    return None


def is_json(data: bytes | memoryview) -> bool:
    """Return whether `data` is one JSON value, with optional white space around it, without building the value."""
    try:
        _RAW.decode(data)
    except (*_NO_JSON, RecursionError):
        return False
    return True


def _fast(data: bytes, start: int) -> FramedRecords | None:
    """Find all records in stretches that consist only of records of one array; None if there is anything else."""
    spans: list[Span] = []
    record = b"," + data[start : start + 8]
    stretch = _FIRST_STRETCH  # short, since the first record may be broken
    while len(data) - start > stretch:
        # Guess where a record ends: before a comma followed by the bytes that begin the first record. A guess that decodes is
        # right, since the array then closes at depth one.
        guess = data.rfind(record, start + 1, start + stretch)
        if guess < 0 and stretch < _STRETCH:
            stretch = _STRETCH
            continue
        found = _decode(data, start, guess) if guess > 0 else None
        if found is None:
            return None
        stretch = _STRETCH
        spans += found
        start = guess + 1
        if len(spans) >= MOST_RECORDS:
            return FramedRecords(spans, Rest.MORE)
    last = _last_stretch(data, start, record)
    return last and FramedRecords(spans + last.spans, last.rest)


def _last_stretch(data: bytes, start: int, record: bytes) -> FramedRecords | None:
    tail = _TAIL_AT_END.search(data, max(start, len(data) - _TAIL_REACH))
    if tail and (spans := _decode(data, start, tail.start())) is not None:
        return FramedRecords(spans, Rest.TAIL)
    if (spans := _decode(data, start, len(data))) is not None:
        return FramedRecords(spans, Rest.NOTHING)
    # The bytes may end inside a record.
    guess = data.rfind(record, start + 1)
    if guess > 0 and (spans := _decode(data, start, guess)) is not None and unfinished(data, guess + 1) is Rest.PARTIAL:
        return FramedRecords(spans, Rest.PARTIAL)
    return None


def _decode(data: bytes, start: int, end: int) -> list[Span] | None:
    """Return the records in ``[start, end)`` if it consists only of complete records."""
    if data[end - 1 : end] not in (b"}", b"]", b'"', b"\n", b"\r", b" ", b"\t"):
        return None  # a number or word at the end may be truncated
    try:
        spans = _spans(data, start, _RAW_ARRAY.decode(b"".join((b"[", memoryview(data)[start:end], b"]"))))
    except (*_NO_JSON, RecursionError):
        return None
    return spans if not spans or data[spans[-1][1] - 1] in _CLOSERS else None


def _spans(data: bytes, start: int, raws: list[msgspec.Raw]) -> list[Span]:
    spans = []
    position = start
    for raw in raws:
        if data[position] == _COMMA:
            position += 1
        if data[position] <= 0x20:  # noqa: PLR2004 - white space
            position = _separator_end(data, position)
        end = position + len(memoryview(raw))
        spans.append((position, end))
        position = end
        if end < len(data) and data[end] <= 0x20:  # noqa: PLR2004
            position = blank_end(data, end)
    return spans


def _separator_end(data: bytes, begin: int) -> int:
    match = _SEPARATOR.match(data, begin)
    return match.end() if match else begin


class _Walk:
    """Goes from value to value, through any number of documents."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data = data
        self._position = start
        self._spans: list[Span] = []

    def framed(self) -> FramedRecords:
        """Find all records from the first value on."""
        while True:
            rest = self._values()
            if rest is None:
                lead = skip_lead(self._data, self._position)
                self._position = lead.end
                rest = None if lead.next is Next.VALUE else Rest(lead.next.value)
            if rest is not None:
                return FramedRecords(self._spans, rest)

    def _values(self) -> Rest | None:
        """Take values up to the next end of a document; if there is none, return why."""
        most = _FIRST_ENDS  # few, since the first value may be broken
        while True:
            ends = value_ends(self._data, self._position, most).tolist()
            for end in ends:
                rest = self._scalars() or self._take(end)
                if rest is not None:
                    return rest
            if len(ends) < most:
                break
            most *= 8
        rest = self._scalars()
        if rest is None and self._data[self._position : self._position + 1] in (b"{", b"["):
            return unfinished(self._data, self._position)
        return rest

    def _scalars(self) -> Rest | None:
        """Take the values before the next bracket: they are not records, but may appear in their place."""
        data = self._data
        while True:
            self._position = position = gap_end(data, self._position)
            if len(self._spans) >= MOST_RECORDS:
                return Rest.MORE
            if position == len(data) or data[position] in _BRACKETS:
                return None
            match = _SCALAR.match(data, position)
            if match is None or (match.end() == len(data) and data[-1] not in _CLOSERS):
                return unfinished(data, position)
            rest = self._take(match.end())
            if rest is not None:
                return rest

    def _take(self, end: int) -> Rest | None:
        start = self._position
        try:
            _RAW.decode(memoryview(self._data)[start:end])
        except RecursionError:
            pass  # too deeply nested to be read, but it has an end: nothing else is lost
        except _NO_JSON:
            return Rest.BROKEN
        self._spans.append((start, end))
        self._position = end
        return None


def unfinished(data: bytes, start: int) -> Rest:
    """Return whether the value that begins at `start` and does not end here can still be completed."""
    if BOM.startswith(data[start : start + len(BOM)]):
        return Rest.PARTIAL
    try:
        _RAW.decode(memoryview(data)[start:])
    except _NO_JSON as error:
        return Rest.PARTIAL if _TRUNCATED in str(error) else Rest.BROKEN
    except RecursionError:
        return Rest.BROKEN
    return Rest.PARTIAL  # a number or a word that may go on


def _is_record(data: bytes, *, anything: bool) -> bool:
    """Return whether an object looks like a record or, with `anything`, whether it is an object at all."""
    try:
        sign = _SIGN.decode(data)
    except (*_NO_JSON, RecursionError):
        return False
    return anything or any(len(getattr(sign, key)) for key in sign.__struct_fields__)


def _candidates(data: bytes, begin: int, block_starts: Sequence[int]) -> Iterator[tuple[int, bool]]:
    """Yield, in order, the positions of braces that may open a record, and whether a block starts there."""
    at_blocks = ((index, True) for index in _block_braces(data, begin, block_starts))
    elsewhere = ((match.end(), False) for match in _BEFORE_OBJECT.finditer(data, begin))
    yield from merge(at_blocks, elsewhere)


def _block_braces(data: bytes, begin: int, block_starts: Sequence[int]) -> Iterator[int]:
    for start in block_starts[bisect_right(block_starts, begin - 1) :]:
        end = _separator_end(data, start)
        if data.startswith(b"{", end):
            yield end
