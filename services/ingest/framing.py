"""Where the records of an envelope begin and end. Pure: bytes in, positions out; any bytes at all, never an exception.

The common case, whole records and perhaps the tail, is found by one typed decode that skips over the records' insides at C
speed. Only when that fails (the bytes end inside a record, or are no JSON) does a slower scan go from record to record and tell
"not all there yet" from "broken".
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from heapq import merge

import msgspec

Span = tuple[int, int]


class Rest(StrEnum):
    """What stands behind the last whole record."""

    NOTHING = "nothing"  # at most white space and a comma
    TAIL = "tail"  # the array's closing bracket
    PARTIAL = "partial"  # the beginning of a record
    BROKEN = "broken"  # something that no further bytes make a record


@dataclass(frozen=True, slots=True)
class Framed:
    """Whole records, as index ranges, and what comes behind them."""

    spans: list[Span]
    rest: Rest


_SEPARATOR = re.compile(rb"[ \t\r\n]*(?:,[ \t\r\n]*)?")
_TEXT_SEPARATOR = re.compile(r"[ \t\r\n]*(?:,[ \t\r\n]*)?")
_BLANK = re.compile(rb"[ \t\r\n]*")
_TAIL = re.compile(rb"[ \t\r\n]*,?[ \t\r\n]*\][ \t\r\n]*\}[ \t\r\n]*")
_TAIL_AT_END = re.compile(rb"\][ \t\r\n]*\}[ \t\r\n]*\Z")
_NEXT_OBJECT = re.compile(r",[ \t\r\n]*(?=\{)")
_TAIL_REACH = 64
_COMMA = ord(",")
_CLOSERS = b'}]"'

_RAW_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
# Numbers stay text: nothing is computed from them, and Python refuses to convert very long ones.
_SCANNER = json.JSONDecoder(parse_int=str, parse_float=str)
# A truncated escape or literal is reported where it starts; the longest is a pair of \uXXXX.
_TRUNCATION_REACH = 12

_RECORD_KEYS = frozenset({"category", "records", "properties", "flowRecords", "resourceId", "systemId", "operationName"})
_RESYNC_TRIES = 10_000
_RESYNC_WORK = 64 * 1024 * 1024


def frame(data: bytes, begin: int = 0) -> Framed:
    """Find the whole records in `data`, which is at record level at index `begin`."""
    start = separator_end(data, begin)
    if start == len(data):
        return Framed([], Rest.NOTHING)
    if data[start : start + 1] == b"]":
        return Framed([], Rest.TAIL)
    return _fast(data, start) or _slow(data, start)


def ends_document(data: bytes, begin: int) -> bool:
    """Tell whether nothing or a whole tail, and nothing else, stands from `begin` on."""
    return _TAIL.fullmatch(data, begin) is not None or separator_end(data, begin) == len(data)


def blank_end(data: bytes, begin: int) -> int:
    """Return where the white space at `begin` ends."""
    match = _BLANK.match(data, begin)
    return match.end() if match else begin


def resync(data: bytes, begin: int, block_starts: Sequence[int]) -> int | None:
    """Return the index of the first brace behind `begin` that opens a record, or None.

    A candidate counts if a whole object stands there that looks like a record, or any whole object at the start of a block. The
    search is bounded: on hostile input it gives up and returns None.
    """
    text = data.decode("latin-1")
    work = 0
    for tries, (index, at_block) in enumerate(_candidates(text, begin + 1, block_starts)):
        end, value = _scan(text, index)
        if isinstance(value, dict) and (at_block or _RECORD_KEYS & value.keys()):
            return index
        work += end - index
        if tries >= _RESYNC_TRIES or work >= _RESYNC_WORK:
            break
    return None


def array_spans(data: bytes) -> list[Span]:
    """Return where the elements of the JSON array `data` stand.

    Raises:
        msgspec.DecodeError: if `data` is not an array.
    """
    return _spans(data, 1, _RAW_ARRAY.decode(data))


def separator_end(data: bytes, begin: int) -> int:
    """Return where the white space and the comma at `begin` end."""
    match = _SEPARATOR.match(data, begin)
    return match.end() if match else begin


def _fast(data: bytes, start: int) -> Framed | None:
    tail = _TAIL_AT_END.search(data, max(start, len(data) - _TAIL_REACH))
    if tail and (spans := _decode(data, start, tail.start())) is not None:
        return Framed(spans, Rest.TAIL)
    if (spans := _decode(data, start, len(data))) is not None:
        return Framed(spans, Rest.NOTHING)
    # The bytes end inside a record. Guess where it begins: a comma, then what the first record begins with. A guess that
    # decodes is right, since the array then closes at depth one.
    guess = data.rfind(b"," + data[start : start + 8], start + 1)
    if guess > 0 and (spans := _decode(data, start, guess)) is not None:
        _, value = _scan(data[guess + 1 :].decode("latin-1"), 0)
        if value is _TRUNCATED:
            return Framed(spans, Rest.PARTIAL)
    return None


def _decode(data: bytes, start: int, end: int) -> list[Span] | None:
    """Return the records in ``[start, end)`` if that is nothing but whole records."""
    if data[end - 1 : end] not in (b"}", b"]", b'"', b"\n", b"\r", b" ", b"\t"):
        return None  # a number or word at the end may be cut
    try:
        spans = _spans(data, start, _RAW_ARRAY.decode(b"[" + data[start:end] + b"]"))
    except (msgspec.DecodeError, RecursionError):
        return None
    return spans if not spans or data[spans[-1][1] - 1] in _CLOSERS else None


def _spans(data: bytes, start: int, raws: list[msgspec.Raw]) -> list[Span]:
    spans = []
    position = start
    for raw in raws:
        if data[position] == _COMMA:
            position += 1
        if data[position] <= 0x20:  # noqa: PLR2004 - white space
            position = separator_end(data, position)
        end = position + len(memoryview(raw))
        spans.append((position, end))
        position = end
        if end < len(data) and data[end] <= 0x20:  # noqa: PLR2004
            position = blank_end(data, end)
    return spans


def _slow(data: bytes, start: int) -> Framed:
    text = data.decode("latin-1")  # one character a byte, so that indexes stay the same
    spans: list[Span] = []
    position = start
    while True:
        match = _TEXT_SEPARATOR.match(text, position)
        position = match.end() if match else position
        if position == len(text):
            return Framed(spans, Rest.NOTHING)
        if text[position] == "]":
            return Framed(spans, Rest.TAIL)
        end, value = _scan(text, position)
        if value is _BROKEN:
            return Framed(spans, Rest.BROKEN)
        if value is _TRUNCATED or (end == len(text) and ord(text[end - 1]) not in _CLOSERS):
            return Framed(spans, Rest.PARTIAL)
        spans.append((position, end))
        position = end


class _Failure:
    """Why no value was found."""


_TRUNCATED = _Failure()
_BROKEN = _Failure()


def _scan(text: str, start: int) -> tuple[int, object]:
    """Read one JSON value; return the index behind it and the value, or how far was read and why there is none."""
    try:
        value, end = _SCANNER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        cut = error.msg.startswith("Unterminated string") or error.pos >= len(text) - _TRUNCATION_REACH
        return (len(text), _TRUNCATED) if cut else (error.pos, _BROKEN)
    except (RecursionError, ValueError):
        return len(text), _BROKEN
    return end, value


def _candidates(text: str, begin: int, block_starts: Sequence[int]) -> Iterator[tuple[int, bool]]:
    """Yield the positions of opening braces that may open a record, in order, and whether a block starts there."""
    at_blocks = ((index, True) for index in _block_braces(text, begin, block_starts))
    behind_commas = ((match.end(), False) for match in _NEXT_OBJECT.finditer(text, begin))
    yield from merge(at_blocks, behind_commas)


def _block_braces(text: str, begin: int, block_starts: Sequence[int]) -> Iterator[int]:
    for start in block_starts[bisect_right(block_starts, begin - 1) :]:
        match = _TEXT_SEPARATOR.match(text, start)
        if match and match.end() < len(text) and text[match.end()] == "{":
            yield match.end()
