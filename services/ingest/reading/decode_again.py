"""Decode parts of a compressed blob whose text is not published: it was before, or it counts as read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from libs.common.unpacking.unpacker import Halt, Unpacked
from services.ingest import metrics
from services.ingest.cutting.lines import resync
from services.ingest.cutting.window import REFERENCE_BYTES
from services.ingest.reading.content import MOST_UNDECIDED, Sample, detect
from services.ingest.reading.cursor import Cursor, Visit
from services.ingest.reading.decoders import Decoding
from services.ingest.reading.generation import name_generation
from services.ingest.reading.resume import Replaced, read

AT_ONCE_BYTES: Final = 1_048_576  # read, and of text
_NEWLINE: Final = b"\n"


def catch_up(visit: Visit, cursor: Cursor, decoding: Decoding) -> None:
    """Decode up to the cursor, and keep only the text that was not published.

    Raises:
        Replaced: the bytes cannot be those that were read.
        StorageError: like `resume.read`; `decoding` has come as far as it could.
    """
    place = cursor.packed
    if place is None:
        raise AssertionError("the blob is compressed")
    unpacker = decoding.unpacker
    while unpacker.packed < cursor.offset:
        begin = unpacker.packed
        data = memoryview(read(visit, cursor, begin, min(cursor.offset, begin + AT_ONCE_BYTES)))
        is_more = True
        while is_more:
            done = unpacker.decode(data[unpacker.packed - begin :], AT_ONCE_BYTES)
            _take_over(decoding, done, cursor, place.text)
            is_more = done.halt is Halt.ENOUGH
        if unpacker.packed == begin:
            raise Replaced
        metrics.DECODED_AGAIN.inc(unpacker.packed - begin)
    if unpacker.decoded < place.text:
        raise Replaced


def _take_over(decoding: Decoding, done: Unpacked, cursor: Cursor, begin: int) -> None:
    """Keep the text from the decoded offset `begin` on, and the first bytes of a line that is being skipped."""
    text = b"".join(done.texts)
    first = decoding.unpacker.decoded - len(text)
    decoding.latest = done.boundaries[-1] if done.boundaries else decoding.latest
    if cursor.skip_from is not None:
        head = text[max(0, cursor.skip_from + len(decoding.head) - first) :]
        decoding.head = (decoding.head + head)[:REFERENCE_BYTES]
    decoding.text += text[max(0, begin - first) :]


@dataclass(frozen=True, slots=True)
class Behind:
    """The cursor behind what counts as read, and the decoder there."""

    cursor: Cursor
    decoding: Decoding


def skip_counted(visit: Visit, cursor: Cursor) -> Behind | None:
    """Decode the part of a new blob that counts as read, and the rest of the line that begins in it.

    Return None while that line has no end, or while too little is known to name the generation.

    Raises:
        StorageError: like `resume.read`.
    """
    if cursor.packed is None:
        raise AssertionError("the blob is compressed")
    skipped = _Skipped(Decoding.at(cursor.packed))
    unpacker, counted = skipped.decoding.unpacker, cursor.counted
    while unpacker.packed < counted or skipped.is_line_open:
        begin = unpacker.packed
        end = counted if begin < counted else visit.version.size
        done = unpacker.decode(read(visit, cursor, begin, min(end, begin + AT_ONCE_BYTES)), AT_ONCE_BYTES)
        skipped.add(done, counts=begin < counted)
        if done.halt.is_final or (unpacker.packed == begin and begin >= counted):
            break
        if unpacker.packed == begin:
            counted = begin  # the rest is the beginning of a member, or not one, and has no text
    return skipped.behind(visit, cursor)


@dataclass(slots=True)
class _Skipped:
    """Text that counts as read. `beginning` is its first part; it ends inside a line, or where `decoding.text` begins."""

    decoding: Decoding
    beginning: bytes = b""
    is_line_open: bool = False
    is_final: bool = False

    def add(self, done: Unpacked, *, counts: bool) -> None:
        """Add decoded text; if it does not count as read, only up to the end of the line that began before."""
        text = b"".join(done.texts)
        self.beginning += text if len(self.beginning) < MOST_UNDECIDED else b""
        self.is_final = done.halt.is_final
        rest = b""
        if text and counts:
            self.is_line_open = not text.endswith(_NEWLINE)
        elif text:
            _, newline, rest = text.partition(_NEWLINE)
            self.is_line_open = not newline
        self.decoding.text = rest
        self.decoding.pass_boundaries(done.boundaries, self.decoding.offset)

    def behind(self, visit: Visit, cursor: Cursor) -> Behind | None:
        """Return where to continue."""
        if not self.beginning and not self.is_final:
            return Behind(replace(cursor, counted=0), self.decoding)  # nothing counts as read
        content = detect(Sample(self.beginning, whole=visit.closing or self.is_final, appended=True))
        if cursor.packed is None or content is None or (self.is_line_open and not visit.closing and not self.is_final):
            return None
        place = replace(cursor.packed, start=self.decoding.start, text=self.decoding.offset)
        line = self.beginning[: resync(self.beginning) or len(self.beginning)]
        generation = name_generation(visit.version, 0, line, "")
        offset = self.decoding.unpacker.packed
        return Behind(Cursor(offset, generation=generation, content=content, packed=place), self.decoding)
