"""Skip what lies between two records: separators, ends of documents, beginnings of new ones. Pure.

A document is an array or ``{"records":[...]}``, where more keys may follow ``records``. Documents, and records outside of any
document, may follow each other directly or with white space, commas or byte order marks in between. When reading resumes after
a record, its nesting depth is unknown. Closing brackets are therefore accepted as they come, and a document may begin only
where it cannot be taken for a record: at the very beginning, after a closing bracket, or where no comma precedes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from libs.common.framing.scan import closing

BOM = b"\xef\xbb\xbf"
HEAD = re.compile(rb'(?:\xef\xbb\xbf)?[ \t\r\n]*\{[ \t\r\n]*"records"[ \t\r\n]*:[ \t\r\n]*\[')

_SPACE = rb"(?:[ \t\r\n]|\xef\xbb\xbf)*+"
_GAP = re.compile(rb"(?:[ \t\r\n,]|\xef\xbb\xbf)*+")
_CLOSERS = re.compile(rb"(?:\](?:[ \t\r\n]*+\})?(?:[ \t\r\n,]|\xef\xbb\xbf)*+)++")
_MORE_KEYS = re.compile(rb'\][ \t\r\n]*+,[ \t\r\n]*+(?=")')
_ARRAY = re.compile(rb"\[(?=" + _SPACE + rb"\{)")


class Next(StrEnum):
    """What comes next."""

    NOTHING = "nothing"
    TAIL = "tail"  # nothing, after the end of a document
    PARTIAL = "partial"  # incomplete keys at the end of a document
    VALUE = "value"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Lead:
    """What was skipped ends at `end`, and `next` follows."""

    end: int
    next: Next


class _Keys(msgspec.Struct, gc=False):
    """Keys after `records` that would hold flows; all others are skipped."""

    records: msgspec.Raw = msgspec.Raw()
    properties: msgspec.Raw = msgspec.Raw()
    flowRecords: msgspec.Raw = msgspec.Raw()  # noqa: N815 - the log's spelling


_keys = msgspec.json.Decoder(_Keys)


def gap_end(data: bytes, begin: int) -> int:
    """Return where white space, commas and byte order marks at `begin` end."""
    match = _GAP.match(data, begin)
    return match.end() if match else begin


def skip_lead(data: bytes, begin: int) -> Lead:
    """Skip what precedes the next record at or after `begin`, which must not be inside a record."""
    position = gap_end(data, begin)
    closed, may_open = False, b"," not in data[begin:position]
    while position < len(data):
        if match := _CLOSERS.match(data, position):
            closed = may_open = True
            bracket = data.rfind(b"]", position, match.end())
            position = match.end()
            if _MORE_KEYS.match(data, bracket):
                end = _keys_end(data, bracket + 1)
                if end is None or end < 0:
                    return Lead(bracket, Next.PARTIAL if end is None else Next.BROKEN)
                position = gap_end(data, end)
        elif may_open and (match := HEAD.match(data, position) or _ARRAY.match(data, position)):
            may_open = data.startswith(b"[", position)
            position = gap_end(data, match.end())
        else:
            return Lead(position, Next.BROKEN if data.startswith(b"}", position) else Next.VALUE)
    return Lead(position, Next.TAIL if closed else Next.NOTHING)


def _keys_end(data: bytes, begin: int) -> int | None:
    """Return where the document ends whose last keys begin at `begin`.

    Return None if it does not end in `data`, and -1 if these are not keys or they hold flows.
    """
    end = closing(data, begin)
    if end is None:
        return None
    try:
        keys = _keys.decode(b'{"":0' + data[begin : end + 1])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return -1
    return -1 if len(keys.records) or len(keys.properties) or len(keys.flowRecords) else end + 1
