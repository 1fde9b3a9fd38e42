"""Segments: contiguous byte ranges of one blob generation, as they travel in ``Raw.*``.

The value of a segment message is exactly the bytes ``[start, end)`` of the blob, or of its decoded text if the blob is
compressed; the headers give their position. A flow-log segment may therefore begin with the document's head ``{"records":[`` or
with the comma before its first record, and never contains the tail ``]}``. Segments of one generation tile it: the end of one
is the start of the next.

A record larger than the limit is cut into *pieces*. Every piece is itself a valid record (same envelope, some of the
tuples), and carries the range of the *whole* record, its number among the pieces and the index of its first tuple, so that the
identity of a tuple does not depend on how its record was cut. Text that precedes the record in the blob (the head, a comma)
also precedes each piece, so that a record's offset is found as in every segment: start plus the position of its brace.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from libs.common.errors import CodecError
from libs.common.messages.headers import Headers


class SegmentFormat(StrEnum):
    """The content of a segment."""

    VNET = "vnet"  # records of an envelope {"records":[...]}, category FlowLogFlowEvent
    NSG = "nsg"  # the same, category NetworkSecurityGroupFlowEvent
    RECORDS = "records"  # the same, category unknown to the framing; the parser decides per record
    JSON_LINES = "jsonl"  # one JSON document per line
    LINES = "lines"  # text lines


@dataclass(frozen=True, slots=True)
class RecordPiece:
    """The part of a cut record that a segment contains."""

    number: int  # 0-based
    count: int
    first_tuple: int  # index, in the whole record, of the first tuple in this piece


class Segment(msgspec.Struct, frozen=True, gc=False):
    """Bytes ``[start, end)`` of `generation` of `blob`, or a piece of the one record that has this range.

    `labels` is a JSON object of strings that says where the bytes come from (service, pod, ...); empty if nothing is known.
    `encoding` is ``gzip`` or ``zstd`` if the blob is compressed: `start` and `end` then count decoded bytes; otherwise empty.

    A `msgspec.Struct` like all that is made once a message: see `libs.common.kafka.records`.
    """

    blob: str
    generation: str
    start: int
    end: int
    ordinal: int  # 0-based, consecutive within the generation
    format: SegmentFormat
    data: bytes
    piece: RecordPiece | None = None
    labels: bytes = b""
    encoding: str = ""

    def headers(self) -> Headers:
        """Return the message headers that `from_message` reads back."""
        fields = [
            ("type", "segment"),
            ("blob", self.blob),
            ("generation", self.generation),
            ("start", str(self.start)),
            ("end", str(self.end)),
            ("ordinal", str(self.ordinal)),
            ("format", self.format.value),
            ("content-type", _CONTENT_TYPES[self.format]),
        ]
        if self.piece is not None:
            fields.append(("piece", f"{self.piece.number}/{self.piece.count}/{self.piece.first_tuple}"))
        if self.encoding:
            fields.append(("encoding", self.encoding))
        headers = tuple((name, value.encode()) for name, value in fields)
        return (*headers, ("labels", self.labels)) if self.labels else headers

    @classmethod
    def from_message(cls, headers: Iterable[tuple[str, bytes]], value: bytes) -> Segment:
        """Read a ``Raw.*`` message.

        Raises:
            CodecError: if a header is missing or malformed.
        """
        h = dict(headers)
        try:
            return cls(
                blob=h["blob"].decode(),
                generation=h["generation"].decode(),
                start=int(h["start"]),
                end=int(h["end"]),
                ordinal=int(h["ordinal"]),
                format=_format(h["format"]),
                data=value,
                piece=_piece(h["piece"]) if "piece" in h else None,
                labels=h.get("labels", b""),
                encoding=h.get("encoding", b"").decode(),
            )
        except (KeyError, ValueError) as error:
            raise CodecError(f"not a segment: header {error}") from error


_FORMATS = {form.value.encode(): form for form in SegmentFormat}
_CONTENT_TYPES = {
    SegmentFormat.VNET: "application/json",
    SegmentFormat.NSG: "application/json",
    SegmentFormat.RECORDS: "application/json",
    SegmentFormat.JSON_LINES: "application/x-ndjson",
    SegmentFormat.LINES: "text/plain",
}


def _format(text: bytes) -> SegmentFormat:
    form = _FORMATS.get(text)
    if form is None:
        raise ValueError(f"format: unknown value {text!r}")
    return form


def _piece(text: bytes) -> RecordPiece:
    number, count, first_tuple = text.split(b"/")
    return RecordPiece(int(number), int(count), int(first_tuple))
