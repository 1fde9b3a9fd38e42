"""Find the records in the bytes of a segment, and where each of them stands. Pure; never raises on any bytes.

A segment of an envelope may begin with a byte order mark, the document's head ``{"records":[`` and separators, and a whole
document also has the tail ``]}``. Which of these are there is decided by what makes the bytes valid JSON, not by their looks.
Bytes that are no JSON as a whole are cut at the commas between the outermost values, so that a broken record costs only itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from libs.common.segments import SegmentFormat

_LEAD = re.compile(rb"(?:\xef\xbb\xbf)?[\s,]*")
_HEAD = re.compile(rb'\{\s*"records"\s*:\s*\[[\s,]*')
_GAP = re.compile(rb"[\s,]*")
_SPACE = b" \t\r\n"
_BRACE = ord("{")

# Whole strings are one token, so that brackets inside them do not count; a quote on its own opens a string that never ends.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["{}\[\],]', re.DOTALL)
_DEPTH = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}
_TAILS = (b"", b"]", b"]}")

_elements = msgspec.json.Decoder(list[msgspec.Raw])
_element = msgspec.json.Decoder(msgspec.Raw)
NOT_JSON = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


@dataclass(slots=True)
class Framed:
    """The outermost values of a segment, in order, with their offsets in its bytes; and the byte ranges that are no JSON."""

    values: list[msgspec.Raw] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    broken: list[tuple[int, int]] = field(default_factory=list)


def frame(data: bytes, form: SegmentFormat) -> Framed:
    """Split the bytes of a segment of format `form` into JSON values."""
    if form in {SegmentFormat.JSON_LINES, SegmentFormat.LINES}:
        return _lines(data)
    if _is_utf8(data):
        for start, end in _bodies(data):
            try:
                return _decoded(data, start, end)
            except NOT_JSON:
                continue
    return _salvaged(data)


def children(value: msgspec.Raw) -> Framed:
    """Split a JSON array into its values, with offsets relative to `value`.

    Raises:
        DecodeError, RecursionError: if it is no array.
    """
    values = _elements.decode(value)
    return Framed(values, _offsets(bytes(value), values, 1))


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _bodies(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the ranges that may be a comma-separated list of values, the likeliest first."""
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
    """Return where the first record likely begins: after the document's head, if there is one, and separators."""
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


def _decoded(data: bytes, start: int, end: int) -> Framed:
    document = b"".join((b"[", memoryview(data)[start:end], b"]"))
    values = _elements.decode(document)
    offsets = _offsets(document, values, 1)
    shift = start - 1
    return Framed(values, [offset + shift for offset in offsets])


def _offsets(document: bytes, values: list[msgspec.Raw], position: int) -> list[int]:
    offsets = []
    for value in values:
        if document[position] != _BRACE:
            gap = _GAP.match(document, position)
            position = gap.end() if gap else position
        offsets.append(position)
        position += len(value) + 1
    return offsets


def _lines(data: bytes) -> Framed:
    framed = Framed()
    position = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    for line in data[position:].split(b"\n"):
        _take(data, position, position + len(line), framed)
        position += len(line) + 1
    return framed


def _salvaged(data: bytes) -> Framed:
    framed = Framed()
    start = _start(data)
    head = _HEAD.match(data, start)
    for first, last in _pieces(data, head.end() if head else start):
        _take(data, first, last, framed)
    return framed


def _take(data: bytes, start: int, end: int, framed: Framed) -> None:
    """Add the range to `framed` as a value if it is JSON, else as broken; nothing if it is blank."""
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


def _pieces(data: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Yield ranges between the outermost commas; what follows a closing bracket too many is a last piece, unless a tail."""
    depth = 0
    for token in _TOKEN.finditer(data, start):
        match token.group():
            case b"{" | b"[" | b"}" | b"]" as bracket:
                depth += _DEPTH[bracket]
            case b"," if depth == 0:
                yield start, token.start()
                start = token.end()
            case b'"':
                break
        if depth < 0:
            yield start, token.start()
            start = token.start()
            break
    if b"".join(data[start:].split()) not in _TAILS:
        yield start, len(data)
