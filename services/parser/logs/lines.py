"""The lines of many segments, as one text with the position of each line. Pure; no bytes make it raise.

Lines end with a line feed, perhaps after a carriage return. A segment of documents that span lines (``records``) is brought
into the same form: each of its outermost values becomes a line without white space between its parts, with the value's offset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from libs.common.framing.encoding import utf16_of
from libs.common.framing.lead import BOM
from libs.common.messages.dead_letters import ErrorCode
from libs.common.messages.segments import Segment, SegmentFormat
from services.parser.dictionary_columns import Rows
from services.parser.framing import frame

PADDING: Final = b"\0" * 32
"""Follows every text, so that a look at the bytes behind a position needs no check."""

_UTF_16: Final = "UTF-16 text: logs must be UTF-8"
_BLOCK: Final = 262_144
_LINES: Final = frozenset({SegmentFormat.LINES, SegmentFormat.JSON_LINES})
_LINE_FEED, _RETURN, _SPACE = ord("\n"), ord("\r"), ord(" ")

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines in order of segments.

    Attributes:
        text: all lines and their ends, and `PADDING`.
        starts, ends: where each line begins and ends in `text`, without its end and a byte order mark before it.
        segment: number of the segment of each line.
        offset: of each line in its blob.
        controls: where `text` has control characters, except line feeds, and carriage returns before them.
    """

    text: bytes
    starts: Rows
    ends: Rows
    segment: Rows
    offset: Rows
    controls: Rows

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def content(self) -> Bytes:
        """The text as an array."""
        return np.frombuffer(self.text, np.uint8)

    def line(self, number: int) -> bytes:
        """Return one line, as it stands in the blob, without its end."""
        return self.text[self.starts[number] : self.ends[number]]


@dataclass(frozen=True, slots=True)
class Broken:
    """Bytes of a segment that are no lines, and why."""

    segment: int
    start: int
    end: int
    code: ErrorCode
    reason: str


def lines_of(segments: Sequence[Segment]) -> tuple[Lines, list[Broken]]:
    """Return the lines of segments, and what is none: text in UTF-16, and what stands between the values of documents."""
    texts: list[bytes] = []
    broken: list[Broken] = []
    documents: dict[int, list[int]] = {}
    for number, segment in enumerate(segments):
        if utf16_of(segment.data):
            broken.append(Broken(number, 0, len(segment.data), ErrorCode.BAD_TEXT, _UTF_16))
            texts += (b"", b"")
        elif segment.format in _LINES:
            texts += (segment.data, b"" if segment.data.endswith(b"\n") or not segment.data else b"\n")
        else:
            framed = frame(segment.data, segment.format)
            broken += (Broken(number, start, end, ErrorCode.BAD_JSON, "not JSON") for start, end in framed.broken)
            documents[number] = framed.offsets
            texts += (b"".join(msgspec.json.format(value, indent=-1) + b"\n" for value in framed.values), b"")
    return _lines(segments, texts, documents), broken


def _lines(segments: Sequence[Segment], texts: list[bytes], documents: dict[int, list[int]]) -> Lines:
    text = b"".join((*texts, PADDING))
    content = np.frombuffer(text, np.uint8)[: len(text) - len(PADDING)]
    low = _low(content)
    feeds = low[content.take(low) == _LINE_FEED]
    starts = np.concatenate(([0], feeds + 1))[:-1]
    returned = (content.take(feeds - 1, mode="wrap") == _RETURN) & (feeds > starts)
    sizes = np.fromiter(map(len, texts), np.int64, len(texts)).reshape(-1, 2).sum(axis=1)
    ends_of_texts = np.cumsum(sizes)
    segment = np.searchsorted(ends_of_texts, starts, side="right")
    firsts = np.fromiter((one.start for one in segments), np.int64, len(segments)) - (ends_of_texts - sizes)
    offset = starts + firsts[segment]
    for number, offsets in documents.items():
        offset[segment == number] = np.array(offsets, np.int64) + segments[number].start
    marks = _marks(content, starts, feeds)
    controls = low[:0] if len(low) == len(feeds) else np.setdiff1d(low, np.concatenate((feeds, feeds[returned] - 1)))
    ends = feeds - returned
    return Lines(text, np.minimum(starts + marks, ends), ends, segment, offset, controls)


def _low(content: Bytes) -> Rows:
    """Return where control characters are: block by block, to stay in the processor's cache."""
    blocks = (np.flatnonzero(content[start : start + _BLOCK] < _SPACE) + start for start in range(0, len(content), _BLOCK))
    return np.concatenate((np.empty(0, np.int64), *blocks))


def _marks(content: Bytes, starts: Rows, ends: Rows) -> Rows:
    """Return the size of the byte order mark that each line begins with."""
    sizes = np.zeros(len(starts), np.int64)
    likely = np.flatnonzero(content.take(starts) == BOM[0]) if len(starts) else starts
    for number in likely.tolist():
        if content[starts[number] : ends[number]].tobytes().startswith(BOM):
            sizes[number] = len(BOM)
    return sizes
