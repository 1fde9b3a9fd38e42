"""Local files as segments, read in bounded memory; as for blobs, the format is detected from the content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from libs.common.framing.frame import Rest, Span, ends_document, frame, is_json, resync
from libs.common.framing.lead import BOM
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.messages.segments import RecordPiece, Segment, SegmentFormat
from services.cli.convert.local_file import Broken, Chunks, CutText, Foreign, TrailingBytes, opened, text_chunks
from services.ingest.cutting.pieces import cut_record
from services.ingest.reading.content import Content, Sample, detect

CHUNK_BYTES: Final = 4_194_304
MAX_PENDING_BYTES: Final = 8 * CHUNK_BYTES
"""A record or line that has not ended after this many bytes is given up."""
LINES_BYTES: Final = 1_048_576
"""Size of segments of lines; smaller, because millions of lines may be broken."""
RECORD_BYTES: Final = 1_048_576
"""A longer record is passed on in pieces."""
GENERATION: Final = "local"
STAGE: Final = "convert"

_READ_BYTES: Final = 65_536
_SEPARATORS = b" \t\r\n,"


@dataclass(slots=True)
class _FileText:
    """The text of one file not yet passed on: `data` from index `at`; `whole` if nothing follows it."""

    name: str
    chunks: Chunks
    data: bytes = b""
    at: int = 0
    before: int = 0  # offset of data[0] in the text
    number: int = 0
    whole: bool = False
    broken: Broken | None = None

    def read_on(self) -> None:
        """Read at least as much as is already buffered, so that a long record is rescanned only a few times."""
        wanted = max(CHUNK_BYTES, self.left)
        parts = [self.data[self.at :]]
        self.before, self.at = self.start, 0
        for chunk in self.chunks:
            if not isinstance(chunk, bytes):
                self.broken = chunk
                continue
            parts.append(chunk)
            wanted -= len(chunk)
            if wanted <= 0:
                break
        else:
            self.whole = True
        self.data = b"".join(parts)

    @property
    def start(self) -> int:
        """Offset in the text of the first byte not yet passed on."""
        return self.before + self.at

    @property
    def left(self) -> int:
        """Number of buffered bytes."""
        return len(self.data) - self.at

    @property
    def is_cut(self) -> bool:
        """Whether the text may end in the middle of a record because the file breaks off."""
        return isinstance(self.broken, CutText)

    def take(self, end: int, form: SegmentFormat) -> Segment:
        """Pass on the text up to index `end`."""
        segment = self._segment(end, form, self.data[self.at : end])
        self.at = end
        return segment

    def take_record(self, span: Span) -> list[Segment]:
        """Pass on the text up to the end of the record at `span`, cut into pieces; return nothing if it cannot be cut."""
        begin, end = span
        pieces = cut_record(self.data[begin:end], RECORD_BYTES) or []
        segments = [
            self._segment(
                end,
                SegmentFormat.RECORDS,
                self.data[self.at : begin] + piece.data,
                RecordPiece(number, len(pieces), piece.first_tuple),
            )
            for number, piece in enumerate(pieces)
        ]
        if segments:
            self.at = end
        return segments

    def _segment(self, end: int, form: SegmentFormat, data: bytes, piece: RecordPiece | None = None) -> Segment:
        self.number += 1
        return Segment(self.name, GENERATION, self.start, self.before + end, self.number - 1, form, data, piece)


def segments_of(name: str) -> Iterator[Segment | DeadLetter]:
    """Yield the content of a file, or of standard input for ``-``, as segments in order.

    If the file is broken, its complete records still come as segments, followed by one dead letter with the remainder.

    Raises:
        BlobtideError: if it cannot be opened.
    """
    with opened(name) as stream:
        text = _FileText(name, text_chunks(stream, min(CHUNK_BYTES, _READ_BYTES)))
        yield from _segments(text)
        if text.broken:
            yield _letter(text, text.broken)


def _segments(text: _FileText) -> Iterator[Segment]:
    text.read_on()
    data = text.data
    match detect(Sample(data, whole=True, appended=True)):
        case Content.ENVELOPE:
            yield from _records(text)
        case Content.JSON_LINES if _are_lines(data):
            yield from _lines(text)
        case _:
            # Records without an envelope, or a block from the middle of a blob, which begins with a comma.
            body = data.removeprefix(BOM).lstrip(_SEPARATORS)
            yield from _records(text) if body.startswith(b"{") else _lines(text)


def _letter(text: _FileText, broken: Broken) -> DeadLetter:
    match broken:
        case CutText():
            data = b"" if ends_document(text.data, text.at) else text.data[text.at :]
            code, offset = ErrorCode.CUT_FILE, text.start
        case TrailingBytes():
            code, data, offset = ErrorCode.TRAILING_BYTES, broken.data, text.start + text.left
        case Foreign():
            code, data, offset = ErrorCode.UNSUPPORTED_BLOB, b"", 0
    return DeadLetter(
        STAGE, code, broken.reason, data, key=text.name.encode(), blob=text.name, generation=GENERATION, record_offset=offset
    )


def _records(text: _FileText) -> Iterator[Segment]:
    """Yield complete records. Other content is passed on for the parser to judge, except the end of a text that breaks off."""
    while True:
        framed = frame(text.data, text.at)
        yield from _taken(text, framed.spans)
        if framed.rest is Rest.MORE:
            continue
        stuck = text.whole or text.left >= MAX_PENDING_BYTES
        if framed.rest is Rest.BROKEN or (framed.rest is Rest.PARTIAL and stuck):
            next_record = resync(text.data, text.at, [])
            if next_record is not None:
                yield text.take(next_record, SegmentFormat.RECORDS)
                continue
        if text.whole and text.is_cut:
            return
        if stuck and not ends_document(text.data, text.at):
            yield text.take(len(text.data), SegmentFormat.RECORDS)
        elif stuck:
            text.at = len(text.data)
        if text.whole:
            return
        text.read_on()


def _taken(text: _FileText, spans: list[Span]) -> Iterator[Segment]:
    """Pass on records together, except over-long ones, which are passed on in pieces."""
    last = text.at
    for begin, end in spans:
        if end - begin > RECORD_BYTES:
            if last > text.at:
                yield text.take(last, SegmentFormat.RECORDS)
            yield from text.take_record((begin, end))
        last = end
    if last > text.at:
        yield text.take(last, SegmentFormat.RECORDS)


def _lines(text: _FileText) -> Iterator[Segment]:
    while True:
        cut = text.whole and text.is_cut
        while end := text.data.rfind(b"\n", text.at, text.at + LINES_BYTES) + 1 or text.data.find(b"\n", text.at) + 1:
            yield text.take(end, SegmentFormat.JSON_LINES)
        if text.left and not cut and (text.whole or text.left >= MAX_PENDING_BYTES):
            yield text.take(len(text.data), SegmentFormat.JSON_LINES)
        if cut:
            # The last line may still be complete, or be a document that contains complete records.
            yield from _records(text)
        if text.whole:
            return
        text.read_on()


class _KnownKeys(msgspec.Struct):
    """A record or document, judging by its keys; other keys are skipped."""

    category: str | None = None
    records: msgspec.Raw = msgspec.Raw()


def _are_lines(data: bytes) -> bool:
    """Distinguish one value per line from records that span lines or are separated by commas.

    The first line decides if it is JSON. Otherwise it may be broken, and the first line that is a record decides.
    """
    lines = _lines_of(data.removeprefix(BOM))
    if is_json(next(lines, b"")):
        return True
    records = (line for line in lines if line.startswith(b"{") and _is_record(line.rstrip(b", \t")))
    return not next(records, b",").endswith(b",")


def _lines_of(data: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(data):
        end = data.find(b"\n", position)
        end = len(data) if end < 0 else end
        line = data[position:end].strip()
        if line:
            yield line
        position = end + 1


def _is_record(line: bytes) -> bool:
    try:
        found = msgspec.json.decode(line, type=_KnownKeys)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return found.category is not None or len(found.records) > 0
