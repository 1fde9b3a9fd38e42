"""Local files as segments, read in bounded memory: what a file is follows from its content, as it does for blobs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from gzip import BadGzipFile
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import BinaryIO, Final, cast

import msgspec
from isal import igzip, igzip_lib

from libs.common.errors import BlobtideError
from libs.common.segments import Segment, SegmentFormat
from services.ingest.content import BOM, HEAD, Content, Sample, detect
from services.ingest.framing import Rest, ends_document, frame, resync

CHUNK_BYTES: Final = 8_388_608
MAX_PENDING_BYTES: Final = 8 * CHUNK_BYTES
"""A record or line without an end is given up after so much."""
STANDARD_INPUT: Final = "-"
GENERATION: Final = "local"

_GZIP = b"\x1f\x8b"
_BAD_GZIP: Final[tuple[type[Exception], ...]] = (EOFError, BadGzipFile, cast("type[Exception]", igzip_lib.IsalError))
_SEPARATORS = b" \t\r\n,"


@dataclass(slots=True)
class _Text:
    """The text of one file that has not been handed on: `data` stands at offset `start`; `whole` if nothing follows it."""

    name: str
    stream: BinaryIO
    data: bytes = b""
    start: int = 0
    number: int = 0
    whole: bool = False

    def read_on(self) -> None:
        """Add the next chunk, at least as much as is there already, so that a long record is looked at seldom."""
        more = _read(self.stream, max(CHUNK_BYTES, len(self.data)), self.name)
        self.whole = not more
        self.data += more

    def take(self, end: int, form: SegmentFormat) -> Segment:
        """Hand on the text up to index `end`."""
        segment = Segment(self.name, GENERATION, self.start, self.start + end, self.number, form, self.data[:end])
        self.data, self.start, self.number = self.data[end:], self.start + end, self.number + 1
        return segment


def segments_of(name: str) -> Iterator[Segment]:
    """Yield the content of a file, or of standard input for ``-``, as segments in order.

    Raises:
        BlobtideError: if it cannot be read or is broken gzip.
    """
    with _opened(name) as stream:
        text = _Text(name, stream)
        text.read_on()
        data = text.data
        match detect(Sample(data, whole=True, appended=True)):
            case Content.ENVELOPE:
                head = HEAD.match(data)
                yield from _records(text, head.end() if head else 0)
            case Content.JSON_LINES if _are_lines(data):
                yield from _lines(text)
            case _:
                # Records without an envelope, or a block from the middle of a blob, which begins with a comma.
                body = data.removeprefix(BOM).lstrip(_SEPARATORS)
                yield from _records(text, len(data) - len(body)) if body.startswith(b"{") else _lines(text)


def _records(text: _Text, begin: int) -> Iterator[Segment]:
    """Yield whole records; what is none goes along, for the parser to judge."""
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
        if stuck:
            if not ends_document(text.data, begin):
                yield text.take(len(text.data), SegmentFormat.RECORDS)
                begin = 0
            if text.whole:
                return
        text.read_on()


def _lines(text: _Text) -> Iterator[Segment]:
    while True:
        end = len(text.data) if text.whole else text.data.rfind(b"\n") + 1
        if not end and len(text.data) >= MAX_PENDING_BYTES:
            end = len(text.data)
        if end:
            yield text.take(end, SegmentFormat.JSON_LINES)
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


def _read(stream: BinaryIO, size: int, name: str) -> bytes:
    """Read `size` bytes, fewer only at the end."""
    parts = []
    try:
        while size > 0 and (part := stream.read(size)):
            parts.append(part)
            size -= len(part)
    except _BAD_GZIP as error:
        raise BlobtideError(f"{name}: broken gzip data: {error}") from error
    except OSError as error:
        raise BlobtideError(f"{name}: {error.strerror or error}") from error
    return b"".join(parts)


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == STANDARD_INPUT:
        yield _plain(BufferedReader(cast("RawIOBase", sys.stdin.buffer)))
        return
    with ExitStack() as stack:
        try:
            file = stack.enter_context(Path(name).open("rb"))
        except OSError as error:
            raise BlobtideError(f"{name}: {error.strerror}") from error
        yield _plain(file)


def _plain(stream: BufferedReader) -> BinaryIO:
    """Return `stream`, unpacked if it holds gzip members."""
    packed = stream.peek(len(_GZIP)).startswith(_GZIP)
    return cast("BinaryIO", igzip.open(stream)) if packed else stream  # type: ignore[no-untyped-call]
