"""Cut the text of a compressed blob into lines, and tell how the step ends. Pure; moves the decoder's unpublished text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from libs.common.messages.events import CheckpointStatus
from libs.common.unpacking.unpacker import Halt, Unpacked
from services.ingest.cutting import lines
from services.ingest.cutting.window import REFERENCE_BYTES, Outlook, Progress, SizeLimits, Window
from services.ingest.reading.content import Content
from services.ingest.reading.cursor import Cursor, PackedPlace, Visit
from services.ingest.reading.decoders import Decoding
from services.ingest.reading.generation import MATERIAL_BYTES, name_generation

LINES: Final = frozenset({Content.LINES, Content.JSON_LINES})


class Ending(StrEnum):
    """How a step of reading compressed data ends."""

    MORE = "more"  # there is more to read now
    WAITING = "waiting"  # everything was read; more may be written
    COMPLETE = "complete"  # everything was read of a closed blob
    TRAILED = "trailed"  # the same, and what follows the last member is not another one
    CUT = "cut"  # a closed blob ends inside a member
    DAMAGED = "damaged"
    UNSUPPORTED = "unsupported"
    BOMB = "bomb"

    @property
    def status(self) -> CheckpointStatus:
        """The status of the generation."""
        if self in {Ending.MORE, Ending.WAITING}:
            return CheckpointStatus.OPEN
        return CheckpointStatus.COMPLETE if self in {Ending.COMPLETE, Ending.TRAILED} else CheckpointStatus.INCOMPLETE

    @property
    def gives_up(self) -> bool:
        """Whether nothing more of the generation will be read, whatever is written."""
        return self in {Ending.DAMAGED, Ending.UNSUPPORTED, Ending.BOMB}

    @property
    def is_reported(self) -> bool:
        """Whether there is something to report even if no line was found."""
        return self is Ending.TRAILED or self.status is CheckpointStatus.INCOMPLETE


_FINAL: Final = {Halt.DAMAGED: Ending.DAMAGED, Halt.UNSUPPORTED: Ending.UNSUPPORTED, Halt.BOMB: Ending.BOMB}


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a step has decoded.

    Attributes:
        data: begins `cursor.look_back` bytes before the cursor.
        done: how decoding it ended.
        text: ends where the decoder is; begins with what was not published before.
    """

    visit: Visit
    cursor: Cursor
    data: memoryview
    decoding: Decoding
    done: Unpacked
    text: bytes

    @property
    def start(self) -> int:
        """Decoded offset of the text."""
        return self.decoding.unpacker.decoded - len(self.text)

    @property
    def end(self) -> int:
        """Offset in the blob up to which it was decoded."""
        return self.decoding.unpacker.packed

    @property
    def used(self) -> memoryview:
        """The bytes of `data` that were decoded."""
        return self.data[: self.cursor.look_back + self.end - self.cursor.offset]

    @property
    def is_whole(self) -> bool:
        """Whether there is no more text in this version of the blob."""
        halt = self.done.halt
        at_end = self.cursor.offset + len(self.data) - self.cursor.look_back == self.visit.version.size
        return halt.is_final or halt is Halt.FOREIGN or (at_end and halt.needs_more)

    @property
    def is_last(self) -> bool:
        """Whether there will never be more text."""
        return self.done.halt.is_final or (self.is_whole and self.visit.closing)


@dataclass(frozen=True, slots=True)
class PackedReading:
    """What a step has read: lines, of which positions are decoded offsets, and what else there is to report."""

    decoded: Decoded
    generation: str
    content: Content
    progress: Progress
    place: PackedPlace  # where to continue in the text
    ending: Ending
    limits: SizeLimits
    excerpt: bytes = b""  # the first bytes of what is wrong, if something is

    @property
    def wrong_from(self) -> int:
        """Offset in the blob at which that begins."""
        if self.ending in {Ending.CUT, Ending.UNSUPPORTED}:
            return self.decoded.decoding.latest.packed if self.content in LINES else 0
        return self.decoded.end


def cut(decoded: Decoded, content: Content, limits: SizeLimits) -> PackedReading | None:
    """Cut the text into lines; return None if the generation cannot be named yet."""
    packed = decoded.cursor.packed
    if packed is None:
        raise AssertionError("the blob is compressed")
    if content in LINES:
        progress = _lines(decoded, content, limits)
        ending = _ending(decoded, progress)
    else:
        progress, ending = Progress(decoded.start, Outlook.DONE), Ending.UNSUPPORTED
    generation = decoded.cursor.generation or _name(decoded, progress, ending)
    if not generation:
        return None
    progress = _move(decoded, progress)
    place = replace(packed, start=decoded.decoding.start, text=progress.next_offset)
    return PackedReading(decoded, generation, content, progress, place, ending, limits)


def _lines(decoded: Decoded, content: Content, limits: SizeLimits) -> Progress:
    end = decoded.start + len(decoded.text)
    ends_with_member = decoded.done.halt in {Halt.BETWEEN, Halt.FOREIGN}
    window = Window(
        data=decoded.text,
        start=decoded.start,
        blob_end=end if decoded.is_whole and not decoded.done.halt.is_final else end + 1,
        closing=decoded.is_last and ends_with_member,
        widest=True,
        skip_from=decoded.cursor.skip_from,
    )
    progress = lines.advance(window, content.line_format, limits)
    if window.skip_from is None or progress.skip_from is not None:
        return progress
    begin = progress.next_offset  # the end of the over-long line that was skipped
    rest = lines.advance(
        replace(window, data=window.data[begin - window.start :], start=begin, skip_from=None), content.line_format, limits
    )
    return replace(rest, bad=progress.bad + rest.bad)


def _ending(decoded: Decoded, progress: Progress) -> Ending:
    halt = decoded.done.halt
    if halt in _FINAL:
        return _FINAL[halt]
    if not decoded.is_whole:
        return Ending.MORE
    if not decoded.is_last:
        return Ending.WAITING
    if halt is Halt.INSIDE:
        return Ending.CUT
    if progress.outlook is not Outlook.DONE:
        return Ending.MORE  # the last line
    return Ending.TRAILED if halt is Halt.FOREIGN else Ending.COMPLETE


def _name(decoded: Decoded, progress: Progress, ending: Ending) -> str:
    """Name the generation by its first line; if there is none but something to report, by whatever there is."""
    cursor, version = decoded.cursor, decoded.visit.version
    if progress.first is not None:
        begin, end = progress.first
        return name_generation(version, 0, decoded.text[begin:end], cursor.previous)
    if not ending.is_reported:
        return ""
    material = decoded.text or bytes(decoded.data[cursor.look_back :][:MATERIAL_BYTES])
    return name_generation(version, 0, material, cursor.previous)


def _move(decoded: Decoded, progress: Progress) -> Progress:
    """Leave to the decoder only what is not published; add the first bytes of an over-long line that began earlier."""
    decoding, start, skip_from = decoded.decoding, decoded.start, progress.skip_from
    bad = tuple(item if item.data else replace(item, data=decoding.head) for item in progress.bad)
    head = decoding.head if skip_from == decoded.cursor.skip_from else b""
    if skip_from is not None:
        begin = max(0, skip_from + len(head) - start)
        head = (head + decoded.text[begin : begin + REFERENCE_BYTES])[:REFERENCE_BYTES]
    decoding.head = head
    decoding.text = decoded.text[progress.next_offset - start :]
    decoding.pass_boundaries(decoded.done.boundaries, progress.next_offset if skip_from is None else skip_from)
    return replace(progress, bad=bad)
