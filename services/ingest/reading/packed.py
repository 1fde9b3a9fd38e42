"""One step of reading a compressed blob: decode what is new, and publish the complete lines of its text.

A decoder cannot be stored. So a step that has none at hand decodes again, from the last boundary between two members before the
unpublished text up to where the blob was read, and continues from there. This changes nothing in what is published: the text of
the bytes read so far depends on nothing else.

Each step reads a range that is expected to give as much text as a step may hold, and decodes at most that much. What the
checkpoint says of the blob's bytes (fingerprint, read offset) is about all bytes that were decoded, even if the last of their
text, an incomplete line, could not be published yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from libs.common.azure.storage.api import StorageError
from libs.common.messages.events import Stream
from libs.common.unpacking.member import Packing
from libs.common.unpacking.unpacker import Boundary, Halt
from services.ingest.cutting.window import REFERENCE_BYTES, SizeLimits
from services.ingest.reading.content import MOST_UNDECIDED, Content, Sample, detect
from services.ingest.reading.cursor import Cursor, PackedPlace, Visit
from services.ingest.reading.decode_again import Behind, catch_up, skip_counted
from services.ingest.reading.decoders import Decoders, Decoding, NextUse
from services.ingest.reading.outcome import checkpoint_at
from services.ingest.reading.packed_lines import Decoded, PackedReading, cut
from services.ingest.reading.packed_outcome import given_up_again, place_in, published
from services.ingest.reading.resume import read
from services.ingest.work import Skip, Step

_PACKINGS: Final = {Content.GZIP: Packing.GZIP, Content.ZSTD: Packing.ZSTD}
_LEAST_TEXT: Final = MOST_UNDECIDED + 1  # bytes of text that a step may hold, however little it may read
_USUAL_RATIO: Final = 8.0  # of text to compressed bytes, while nothing is known of a blob
_LEAST_RANGE: Final = 16  # bytes; longer than the mark of a member
_MOST_ROUNDS: Final = 16  # of decoding in a step, if members are so small that one gives little text


def is_packed(cursor: Cursor, content: Content | None) -> bool:
    """Return whether a blob, of which `content` was detected, is compressed."""
    return cursor.packed is not None or content in _PACKINGS


def range_of(cursor: Cursor, allowance: int) -> int:
    """Return how many bytes to read, so that there is about as much text as a step may hold."""
    if cursor.content is Content.GIVEN_UP:
        return 0
    if cursor.packed is None:
        return allowance
    ratio = max(1.0, cursor.packed.text / cursor.offset) if cursor.packed.text else _USUAL_RATIO
    return max(_LEAST_RANGE, min(allowance, int(max(allowance, _LEAST_TEXT) / ratio)))


class PackedReader:
    """Reads compressed blobs step by step. Thread-safe."""

    def __init__(self, limits: Callable[[Stream], SizeLimits], decoders: Decoders) -> None:
        self._limits = limits
        self._decoders = decoders

    def read(self, visit: Visit, cursor: Cursor, content: Content | None, data: bytes) -> Step:
        """Perform a step. `data` begins `cursor.look_back` bytes before the cursor; `content` was detected of a new blob.

        Raises:
            Replaced: the blob is not the one that was read.
            StorageError: like `resume.read`.
        """
        if cursor.content is Content.GIVEN_UP:
            return given_up_again(visit, cursor, memoryview(data))
        if cursor.packed is None and content is not None:
            cursor = replace(cursor, packed=PackedPlace(_PACKINGS[content], Boundary(), 0), content=None)
        if cursor.counted:
            behind = skip_counted(visit, cursor)
            if behind is None:
                return Step(skipped=Skip.EMPTY if visit.closing else None)
            if behind.cursor.offset:
                return self._begin(visit, behind)
            cursor = behind.cursor
        return self._advance(self._decode(visit, cursor, memoryview(data)))

    def _begin(self, visit: Visit, behind: Behind) -> Step:
        """Record that what counts as read was decoded; nothing is published."""
        cursor = behind.cursor
        if cursor.packed is None or cursor.content is None:
            raise AssertionError("the blob is compressed, and it is known what is in it")
        below = read(visit, cursor, cursor.offset - cursor.look_back, cursor.offset)
        checkpoint = replace(checkpoint_at(visit, cursor, memoryview(below)), content=cursor.content.value)
        checkpoint = place_in(checkpoint, cursor.packed, cursor.offset)
        self._decoders.keep(checkpoint.blob, Cursor.of(checkpoint), behind.decoding)
        return Step(checkpoint=checkpoint, more=True)

    def _advance(self, decoded: Decoded) -> Step:
        """Publish what was decoded, or wait for more of it."""
        visit, cursor = decoded.visit, decoded.cursor
        limits = self._limits(visit.task.stream)
        is_widest = visit.task.allowance >= limits.record or decoded.done.halt is Halt.ENOUGH
        content = cursor.content or detect(Sample(decoded.text, whole=decoded.is_last, appended=True))
        if content is None and is_widest and not decoded.is_whole:
            content = Content.LINES  # as much as a step may hold, and nothing but white space
        reading = None if content is None else cut(decoded, content, limits)
        if reading is not None:
            return self._publish(reading)
        if decoded.is_whole:
            return Step(skipped=Skip.EMPTY if visit.closing else None)
        if not is_widest:
            return Step(more=True, wanted=2 * visit.task.allowance)
        decoded.done.give_up(f"{decoded.decoding.unpacker.packing} data of which the first {decoded.end} bytes contain no line")
        return self._advance(decoded)

    def _publish(self, reading: PackedReading) -> Step:
        visit, cursor, decoding = reading.decoded.visit, reading.decoded.cursor, reading.decoded.decoding
        if reading.ending.is_reported:
            begin = reading.wrong_from
            excerpt = read(visit, cursor, begin, min(visit.version.size, begin + REFERENCE_BYTES))
            reading = replace(reading, excerpt=excerpt)
        step = published(reading)
        if step.checkpoint is not None and not reading.ending.gives_up and (decoding.text or decoding.unpacker.held_bytes):
            use = NextUse.NOW if step.more else NextUse.PERHAPS
            self._decoders.keep(step.checkpoint.blob, Cursor.of(step.checkpoint), decoding, use)
        return replace(step, soon=step.more and self._decoders.is_crowded)

    def _decode(self, visit: Visit, cursor: Cursor, data: memoryview) -> Decoded:
        decoding = self._decoding(visit, cursor)
        unpacker = decoding.unpacker
        most = max(visit.task.allowance, self._limits(visit.task.stream).line + 1, _LEAST_TEXT) - len(decoding.text)
        new = data[cursor.look_back :]
        done = unpacker.decode(new, max(1, most))
        for _ in range(_MOST_ROUNDS):
            if done.halt is Halt.ENOUGH and done.size < most:
                done = done.then(unpacker.decode(new[unpacker.packed - cursor.offset :], most - done.size))
        text = b"".join([decoding.text, *done.texts])
        done.texts.clear()  # it is megabytes
        return Decoded(visit, cursor, data, decoding, done, text)

    def _decoding(self, visit: Visit, cursor: Cursor) -> Decoding:
        """Return a decoder at the cursor: the one that was kept, or one that decodes again."""
        if cursor.packed is None:
            raise AssertionError("the blob is compressed")
        blob, at = str(visit.task.announcement.blob), replace(cursor, compare_from=None)
        decoding = self._decoders.take(blob, at) or Decoding.at(cursor.packed)
        try:
            catch_up(visit, cursor, decoding)
        except StorageError:
            self._decoders.keep(blob, at, decoding)  # the next attempt continues here
            raise
        return decoding
