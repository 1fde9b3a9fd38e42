"""Find the records in the bytes of a segment, with their offsets. Pure; no bytes make it raise.

A segment of documents may begin with the tail of the previous one, a byte order mark, the head ``{"records":[`` and separators,
and a complete document also has the tail ``]}``. Which of these are present is decided by what makes the bytes valid JSON, not
by appearance. Several documents, and records without separators, are found value by value. Bytes that are not JSON are cut at
the commas between the outermost values, so that a broken record costs only itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from libs.common.framing.frame import Rest
from libs.common.framing.frame import frame as find_records
from libs.common.framing.lead import BOM
from libs.common.framing.scan import closing, commas
from libs.common.messages.segments import SegmentFormat

_LEAD = re.compile(rb"(?:\xef\xbb\xbf|[\s,])*+(?:\](?:\s*+\})?(?:\xef\xbb\xbf|[\s,])*+)*+")
_HEAD = re.compile(rb'\{\s*"records"\s*:\s*\[[\s,]*')
_GAP = re.compile(rb"[\s,]*")
_SPACE = b" \t\r\n"
_BRACE = ord("{")

_NO_RECORDS = re.compile(rb"(?:\xef\xbb\xbf)?\s*+\[\s*+\]\s*+")
_BEGINNINGS = b"{[,]\xef"  # of a line that may contain values without being one
_UNREAD = frozenset({Rest.PARTIAL, Rest.BROKEN})
_TAIL = re.compile(rb"\s*+(?:\]\s*+\}?+\s*+)?+")
_MOST_PIECES = 100_000

_elements = msgspec.json.Decoder(list[msgspec.Raw])
_element = msgspec.json.Decoder(msgspec.Raw)
NOT_JSON = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


@dataclass(slots=True)
class FramedValues:
    """The outermost values of a segment, in order, with their offsets in its bytes; and the byte ranges that are not JSON."""

    values: list[msgspec.Raw] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    broken: list[tuple[int, int]] = field(default_factory=list)


def frame(data: bytes, form: SegmentFormat) -> FramedValues:
    """Split the bytes of a segment of format `form` into JSON values."""
    if _NO_RECORDS.fullmatch(data):
        return FramedValues()
    if form in {SegmentFormat.JSON_LINES, SegmentFormat.LINES}:
        return _lines(data)
    if _is_utf8(data):
        for start, end in _bodies(data):
            try:
                return _decoded(data, start, end)
            except NOT_JSON:
                continue
    return _walked(data)


def children(value: msgspec.Raw) -> FramedValues:
    """Split a JSON array into its values, with offsets relative to `value`.

    Raises:
        DecodeError, RecursionError: it is not an array.
    """
    values = _elements.decode(value)
    return FramedValues(values, _offsets(bytes(value), values, 1))


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _bodies(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the ranges that may be a comma-separated list of values, most likely first."""
    start = _start(data)
    end = max(start, len(data.rstrip(_SPACE + b",")))
    head = _HEAD.match(data, start)
    if head:
        yield min(head.end(), end), end
    yield start, end
    cut = _without_tail(data, end)
    if cut is not None:
        if head:
            yield min(head.end(), cut), cut
        yield min(start, cut), cut


def first_record(data: bytes) -> int:
    """Return the likely beginning of the first record: after the document's head, if there is one, and separators."""
    start = _start(data)
    head = _HEAD.match(data, start)
    return head.end() if head else start


def _start(data: bytes) -> int:
    lead = _LEAD.match(data)
    return lead.end() if lead else 0


def _without_tail(data: bytes, end: int) -> int | None:
    body = data[:end]
    if not body.endswith(b"}"):
        return None
    body = body[:-1].rstrip(_SPACE)
    return len(body[:-1].rstrip(_SPACE + b",")) if body.endswith(b"]") else None


def _decoded(data: bytes, start: int, end: int) -> FramedValues:
    document = b"".join((b"[", memoryview(data)[start:end], b"]"))
    values = _elements.decode(document)
    offsets = _offsets(document, values, 1)
    shift = start - 1
    return FramedValues(values, [offset + shift for offset in offsets])


def _offsets(document: bytes, values: list[msgspec.Raw], position: int) -> list[int]:
    offsets = []
    for value in values:
        if document[position] != _BRACE:
            gap = _GAP.match(document, position)
            position = gap.end() if gap else position
        offsets.append(position)
        position += len(value) + 1
    return offsets


def _lines(data: bytes) -> FramedValues:
    framed = FramedValues()
    position = 0
    while position < len(data):
        newline = data.find(b"\n", position)
        end = newline if newline >= 0 else len(data)
        _take_line(data, position + len(BOM) * data.startswith(BOM, position), end, framed)
        position = end + 1
    if not framed.broken:
        return framed
    # A broken line may be part of a value that spans lines.
    walked = _walk(data)
    return framed if walked.rest in _UNREAD else walked.framed


def _take_line(data: bytes, start: int, end: int, framed: FramedValues) -> None:
    """Add the value or values of a line, or the whole line as broken."""
    before = len(framed.broken)
    _take(data, start, end, framed)
    if len(framed.broken) > before and data[framed.broken[-1][0]] in _BEGINNINGS:
        walked = _walk(data[start:end])
        if walked.rest not in _UNREAD and not walked.framed.broken:
            framed.broken.pop()
            framed.values += walked.framed.values
            framed.offsets += [start + offset for offset in walked.framed.offsets]


@dataclass(frozen=True, slots=True)
class _Walked:
    """Consecutive values, and what follows `end`."""

    framed: FramedValues
    end: int
    rest: Rest


def _walk(data: bytes) -> _Walked:
    framed = FramedValues()
    start = 0
    while True:
        found = find_records(data, start)
        for first, last in found.spans:
            _take(data, first, last, framed)
            start = last
        if found.rest is not Rest.MORE:
            return _Walked(framed, start, found.rest)


def _walked(data: bytes) -> FramedValues:
    """Take values one by one as far as possible, and after that whatever is between commas."""
    walked = _walk(data)
    framed = walked.framed
    if walked.rest in _UNREAD:
        start = walked.end or first_record(data)
        for first, last in _stretches(data, start):
            _take(data, first, last, framed)
    return framed


def _take(data: bytes, start: int, end: int, framed: FramedValues) -> None:
    """Add the range to `framed` as a value if it is JSON, otherwise as broken; add nothing if it is blank."""
    text = data[start:end]
    blank = len(text) - len(text.lstrip(_SPACE))
    text = text.strip(_SPACE)
    if not text:
        return
    start += blank
    try:
        if not _is_utf8(text):
            raise msgspec.DecodeError
        framed.values.append(_element.decode(text))
        framed.offsets.append(start)
    except NOT_JSON:
        framed.broken.append((start, start + len(text)))


def _stretches(data: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Yield ranges between the outermost commas; anything after an unmatched closing bracket is a last range, unless a tail.

    Their number is limited: the last one contains all the rest.
    """
    end = closing(data, start)
    places = (place for block in commas(data, start, len(data) if end is None else end) for place in block.tolist())
    for place in islice(places, _MOST_PIECES):
        yield start, place
        start = place + 1
    if end is not None and next(places, None) is None:
        yield start, end
        start = end
    if not _TAIL.fullmatch(data, start):
        yield start, len(data)
