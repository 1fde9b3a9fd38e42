"""Local files as segments, read in bounded memory: what a file is follows from its content, as it does for blobs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from libs.common.dead_letters import DeadLetter, ErrorCode
from libs.common.segments import Segment, SegmentFormat
from services.cli.local_file import Broken, CutText, Pieces, TrailingBytes, opened, text_pieces
from services.ingest.content import BOM, HEAD, Content, Sample, detect
from services.ingest.framing import Rest, ends_document, frame, resync

CHUNK_BYTES: Final = 8_388_608
MAX_PENDING_BYTES: Final = 8 * CHUNK_BYTES
"""A record or line without an end is given up after so much."""
GENERATION: Final = "local"
STAGE: Final = "convert"

_PIECE_BYTES: Final = 65_536
_SEPARATORS = b" \t\r\n,"


@dataclass(slots=True)
class _Text:
    """The text of one file that has not been handed on: `data` stands at offset `start`; `whole` if nothing follows it."""

    name: str
    pieces: Pieces
    data: bytes = b""
    start: int = 0
    number: int = 0
    whole: bool = False
    broken: Broken | None = None

    def read_on(self) -> None:
        """Add the next chunk, at least as much as is there already, so that a long record is looked at seldom."""
        wanted = max(CHUNK_BYTES, len(self.data))
        parts = [self.data]
        for piece in self.pieces:
            if not isinstance(piece, bytes):
                self.broken = piece
                continue
            parts.append(piece)
            wanted -= len(piece)
            if wanted <= 0:
                break
        else:
            self.whole = True
        self.data = b"".join(parts)

    @property
    def is_cut(self) -> bool:
        """Tell whether the text may end in the middle of a record, which is then nobody's fault but the file's."""
        return isinstance(self.broken, CutText)

    def take(self, end: int, form: SegmentFormat) -> Segment:
        """Hand on the text up to index `end`."""
        segment = Segment(self.name, GENERATION, self.start, self.start + end, self.number, form, self.data[:end])
        self.data, self.start, self.number = self.data[end:], self.start + end, self.number + 1
        return segment


def segments_of(name: str) -> Iterator[Segment | DeadLetter]:
    """Yield the content of a file, or of standard input for ``-``, as segments in order.

    If the file is broken, all its whole records come as segments, and one dead letter at the end has what is left of it.

    Raises:
        BlobtideError: if it cannot be opened.
    """
    with opened(name) as stream:
        text = _Text(name, text_pieces(stream, min(CHUNK_BYTES, _PIECE_BYTES)))
        yield from _segments(text)
        if text.broken:
            yield _letter(text, text.broken)


def _segments(text: _Text) -> Iterator[Segment]:
    text.read_on()
    data = text.data
    match detect(Sample(data, whole=True, appended=True)):
        case Content.ENVELOPE:
            yield from _records(text, _head_end(data))
        case Content.JSON_LINES if _are_lines(data):
            yield from _lines(text)
        case _:
            # Records without an envelope, or a block from the middle of a blob, which begins with a comma.
            body = data.removeprefix(BOM).lstrip(_SEPARATORS)
            yield from _records(text, len(data) - len(body)) if body.startswith(b"{") else _lines(text)


def _letter(text: _Text, broken: Broken) -> DeadLetter:
    match broken:
        case CutText():
            data = b"" if ends_document(text.data, 0) else text.data
            code, offset = ErrorCode.CUT_FILE, text.start
        case TrailingBytes():
            code, data, offset = ErrorCode.TRAILING_BYTES, broken.data, text.start + len(text.data)
    return DeadLetter(
        STAGE, code, broken.reason, data, key=text.name.encode(), blob=text.name, generation=GENERATION, record_offset=offset
    )


def _head_end(data: bytes) -> int:
    head = HEAD.match(data)
    return head.end() if head else 0


def _records(text: _Text, begin: int) -> Iterator[Segment]:
    """Yield whole records; what is none goes along, for the parser to judge, but for the end of a text that is cut."""
    while True:
        framed = frame(text.data, begin)
        if framed.spans:
            yield text.take(framed.spans[-1][1], SegmentFormat.RECORDS)
            begin = 0
        stuck = text.whole or len(text.data) >= MAX_PENDING_BYTES
        if framed.rest is Rest.BROKEN or (framed.rest is Rest.PARTIAL and stuck):
            next_record = resync(text.data, begin, [])
            if next_record is not None:
                yield text.take(next_record, SegmentFormat.RECORDS)
                begin = 0
                continue
        if text.whole and text.is_cut:
            return
        if stuck:
            if not ends_document(text.data, begin):
                yield text.take(len(text.data), SegmentFormat.RECORDS)
                begin = 0
            if text.whole:
                return
        text.read_on()


def _lines(text: _Text) -> Iterator[Segment]:
    while True:
        cut = text.whole and text.is_cut
        end = len(text.data) if text.whole and not cut else text.data.rfind(b"\n") + 1
        if not end and len(text.data) >= MAX_PENDING_BYTES:
            end = len(text.data)
        if end:
            yield text.take(end, SegmentFormat.JSON_LINES)
        if cut:
            # The last line may be whole all the same, or be a document that holds whole records.
            yield from _records(text, _head_end(text.data))
        if text.whole:
            return
        text.read_on()


class _Known(msgspec.Struct):
    """An object that is a record or a document, as far as keys tell; other keys are skipped."""

    category: str | None = None
    records: msgspec.Raw = msgspec.Raw()


def _are_lines(data: bytes) -> bool:
    """Tell values a line from records that take several lines or are separated by commas.

    The first line tells if it is JSON. If it is not, it may be broken: then the first line that is a record tells.
    """
    lines = [line for line in map(bytes.strip, data.removeprefix(BOM).split(b"\n")) if line]
    if _is_json(lines[0]):
        return True
    records = (line for line in lines if line.startswith(b"{") and _is_record(line.rstrip(b", \t")))
    return not next(records, b",").endswith(b",")


def _is_record(line: bytes) -> bool:
    try:
        found = msgspec.json.decode(line, type=_Known)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return found.category is not None or len(found.records) > 0


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True
