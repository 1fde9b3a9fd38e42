"""What the bytes of a blob are, found by looking at them; names and content types lie. Pure.

Gzip is known by its magic bytes. After an optional byte-order mark, an object whose first key is ``records`` and holds an array
is an envelope; anything else is text lines, JSON lines if the first one begins with a brace.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from libs.common.segments import SegmentFormat

BOM = b"\xef\xbb\xbf"
HEAD = re.compile(rb'(?:\xef\xbb\xbf)?[ \t\r\n]*\{[ \t\r\n]*"records"[ \t\r\n]*:[ \t\r\n]*\[')
PROBE_BYTES = 4_096  # enough to decide for every sane blob

_GZIP = b"\x1f\x8b"
_RECORDS = b'{"records":['
_BLANK = b" \t\r\n"


class Content(StrEnum):
    """The kinds of content."""

    ENVELOPE = "envelope"
    JSON_LINES = "jsonl"
    LINES = "lines"
    GZIP = "gzip"

    @property
    def line_format(self) -> SegmentFormat:
        """What segments of lines are called."""
        return SegmentFormat.JSON_LINES if self is Content.JSON_LINES else SegmentFormat.LINES


@dataclass(frozen=True, slots=True)
class Sample:
    """The first bytes of a blob. `whole`: no more will come. `appended`: the blob can only grow at its end."""

    data: bytes
    whole: bool
    appended: bool


def detect(sample: Sample) -> Content | None:
    """Return what the blob is, or None while there are too few bytes to tell."""
    data = sample.data
    if data.startswith(_GZIP):
        return Content.GZIP
    text = data.removeprefix(BOM).lstrip(_BLANK)
    if not sample.whole and (not text or _GZIP.startswith(data) or BOM.startswith(data)):
        return None
    if not text.startswith(b"{"):
        return Content.LINES
    if HEAD.match(data):
        return _envelope_or_lines_of_them(sample, text)
    if not sample.whole and _may_become_head(text):
        return None
    return Content.JSON_LINES


def _may_become_head(text: bytes) -> bool:
    """Tell whether `text`, white space aside, is the beginning of a head that is not all there yet."""
    squeezed = text[: 4 * PROBE_BYTES].translate(None, _BLANK)
    return len(squeezed) < len(_RECORDS) and _RECORDS.startswith(squeezed)


def _envelope_or_lines_of_them(sample: Sample, text: bytes) -> Content | None:
    """Tell one document from lines that are each a whole document."""
    line, newline, following = text.partition(b"\n")
    if not newline:
        undecided = sample.appended and not sample.whole and len(text) < PROBE_BYTES
        return None if undecided else Content.ENVELOPE
    if (sample.appended or following.lstrip(_BLANK).startswith(b"{")) and _is_document(line):
        return Content.JSON_LINES
    return Content.ENVELOPE


def _is_document(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True
