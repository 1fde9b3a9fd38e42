"""Detect the kind of content from a blob's bytes; names and content types are unreliable. Pure.

Compressed content is recognised by its magic bytes; what is in it is then detected from its text. Documents are objects whose
first key is ``records`` with an array, arrays of objects, and objects that span several lines or share one. Anything else is
text lines, or JSON lines if the first one begins with a brace; documents that each occupy one line are JSON lines too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from libs.common.framing.frame import Rest, is_json, unfinished
from libs.common.framing.lead import BOM, HEAD, gap_end
from libs.common.framing.scan import value_end
from libs.common.messages.segments import SegmentFormat
from libs.common.unpacking.member import may_be_packed, packing_of

PROBE_BYTES = 4_096  # enough to decide for every sane blob

_RECORDS = b'{"records":['
_BLANK = b" \t\r\n"
# If the first value does not end within this much text, it is taken for a broken line; as much white space, for empty lines.
MOST_UNDECIDED = 1_048_576


class Content(StrEnum):
    """Kinds of content."""

    ENVELOPE = "envelope"  # also other documents
    JSON_LINES = "jsonl"
    LINES = "lines"
    GZIP = "gzip"
    ZSTD = "zstd"
    GIVEN_UP = "given_up"  # compressed, and not read any further: damaged, a bomb, or something other than lines

    @property
    def line_format(self) -> SegmentFormat:
        """Format of segments with such lines."""
        return SegmentFormat.JSON_LINES if self is Content.JSON_LINES else SegmentFormat.LINES


@dataclass(frozen=True, slots=True)
class Sample:
    """The first bytes of a blob. `whole`: no more will follow. `appended`: the blob can only grow at its end."""

    data: bytes
    whole: bool
    appended: bool


def detect(sample: Sample) -> Content | None:
    """Return the kind of content, or None while there are too few bytes to decide."""
    data = sample.data
    packing = packing_of(data)
    if packing is not None:
        return Content(packing.value)
    text = data.removeprefix(BOM).lstrip(_BLANK)
    is_blank = not text and len(data) < MOST_UNDECIDED
    if not sample.whole and (is_blank or may_be_packed(data) or BOM.startswith(data)):
        return None
    if text.startswith(b"["):
        return _array_or_lines(sample, text)
    return _objects_or_lines(sample, text) if text.startswith(b"{") else Content.LINES


def _may_become_head(text: bytes) -> bool:
    """Return whether `text`, white space aside, is an incomplete head of a document."""
    squeezed = text[: 4 * PROBE_BYTES].translate(None, _BLANK)
    return len(squeezed) < len(_RECORDS) and _RECORDS.startswith(squeezed)


def _array_or_lines(sample: Sample, text: bytes) -> Content | None:
    inside = text[1:].lstrip(_BLANK)
    if not inside and not sample.whole:
        return None
    return _document_or_lines_of_them(sample, text, b"[") if inside.startswith(b"{") else Content.LINES


def _document_or_lines_of_them(sample: Sample, text: bytes, opening: bytes) -> Content | None:
    """Distinguish documents, which begin with `opening`, from lines that are each a complete document."""
    line, newline, following = text.partition(b"\n")
    if not newline:
        undecided = sample.appended and not sample.whole and len(text) < PROBE_BYTES and value_end(text, 0) is None
        return None if undecided else Content.ENVELOPE
    if (sample.appended or following.lstrip(_BLANK).startswith(opening)) and is_json(line):
        return Content.JSON_LINES if opening == b"{" else Content.LINES
    return Content.ENVELOPE


def _objects_or_lines(sample: Sample, text: bytes) -> Content | None:
    if HEAD.match(text):
        return _document_or_lines_of_them(sample, text, b"{")
    if not sample.whole and _may_become_head(text):
        return None
    return _records_or_lines(sample, text)


def _records_or_lines(sample: Sample, text: bytes) -> Content | None:
    """Distinguish objects that span several lines, or share one, from lines that are each an object."""
    line, newline, following = text.partition(b"\n")
    if newline and _is_object(line):
        return Content.JSON_LINES
    end = value_end(text, 0)
    if end is None:
        return _unfinished(sample, text, following)
    if not is_json(text[:end]):
        return Content.JSON_LINES
    behind = gap_end(text, end)
    if end > len(line) or text[behind : behind + 1] in (b"{", b"["):
        return Content.ENVELOPE
    return Content.JSON_LINES if sample.whole or behind < len(text) or newline else None


def _unfinished(sample: Sample, text: bytes, following: bytes) -> Content | None:
    """Distinguish a broken line from an object whose end has not arrived yet."""
    second, newline, _ = following.lstrip(_BLANK).partition(b"\n")
    broken = unfinished(text, 0) is Rest.BROKEN or (newline and _is_object(second))
    return Content.JSON_LINES if sample.whole or broken or len(text) >= MOST_UNDECIDED else None


def _is_object(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True
