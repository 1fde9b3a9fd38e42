"""Walk the records of many segments and gather the inputs of columns: one list entry per record or tuple array. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np

from libs.common.framing.encoding import utf16_of
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.messages.segments import RecordPiece, Segment, SegmentFormat
from services.parser.flows.formats.layout import TupleLayout
from services.parser.flows.groups import TupleArrays
from services.parser.flows.log_records import BadRecord, LogRecord, collect, decode
from services.parser.framing import NOT_JSON, children, first_record, frame
from services.parser.letters import Refusal, SourceOf, TooManyLetters, letter_of

MAX_ENVELOPES: Final = 16
"""Maximum nesting of envelopes; Azure's own published sample has two."""

LONE_FORMATS: Final = frozenset({SegmentFormat.VNET, SegmentFormat.NSG, SegmentFormat.RECORDS})
_WHOLE = RecordPiece(0, 1, 0)
_UTF_16: Final = "UTF-16 text: flow logs must be UTF-8; rewrite the blob as UTF-8, or read it with `blobtide convert`"
_CATEGORY = b'"category"'
_ARRAY: Final = re.compile(rb"\[\s*+\{")


def give_up(gathered: Gathered) -> None:
    """Raise `TooManyLetters`."""
    raise TooManyLetters(gathered.letters)


@dataclass(frozen=True, slots=True)
class Bound:
    """Maximum number of dead letters held at once, and a callback for when it is reached, which may remove them."""

    letters: float = math.inf
    reached: Callable[[Gathered], None] = give_up


NO_BOUND: Final = Bound()


@dataclass(slots=True)
class Gathered:
    """Records and tuple arrays in order of segments, and the dead letters so far.

    `segment_of`, `offsets`, `layouts`, `first_tuples` and `array_ends` have one entry per record; the last is the number of
    tuple arrays up to and including that record.
    """

    segments: Sequence[Segment]
    source_of: SourceOf
    records: list[LogRecord] = field(default_factory=list)
    segment_of: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    layouts: list[TupleLayout] = field(default_factory=list)
    first_tuples: list[int] = field(default_factory=list)
    array_ends: list[int] = field(default_factory=list)
    groups: TupleArrays = field(default_factory=TupleArrays)
    letters: list[DeadLetter] = field(default_factory=list)
    bound: Bound = NO_BOUND

    def add_segment(self, number: int) -> None:
        """Add all records of one segment."""
        segment = self.segments[number]
        if self._add_lone_record(number, segment):
            return
        framed = frame(segment.data, segment.format)
        if framed.broken and utf16_of(segment.data):
            self.refuse(number, segment.start, Refusal(ErrorCode.BAD_JSON, _UTF_16, segment.data))
            return
        for start, end in framed.broken:
            self.refuse(number, segment.start + start, Refusal(ErrorCode.BAD_JSON, "not JSON", segment.data[start:end]))
        for value, offset in zip(framed.values, framed.offsets, strict=True):
            # All pieces of a record begin with the same separators, so its offset is the same in each of them.
            self._add_value(number, segment.start + offset, value, MAX_ENVELOPES)

    def _add_lone_record(self, number: int, segment: Segment) -> bool:
        """Add the single record of a quiet interface's segment in one pass over its bytes; return whether there was one.

        The general path scans the bytes twice, to find the records and to decode them, which matters most for such segments. It
        also handles everything unusual, so here it is enough to return False.
        """
        data = segment.data
        if segment.format not in LONE_FORMATS or _has_several(data) or not data.isascii():
            return False
        start = first_record(data)
        try:
            record = decode(memoryview(data)[start:])
            layout = None if record.is_envelope else collect(record, self.groups)
        except BadRecord:
            return False
        if layout is not None:
            self._append(number, segment.start + start, record, layout)
        return layout is not None

    def refuse(self, number: int, offset: int, refusal: Refusal) -> None:
        """Add a dead letter for something at `offset` in the blob of segment `number`.

        Raises:
            TooManyLetters: the bound is reached, and its callback does not remove any.
        """
        if len(self.letters) >= self.bound.letters:
            self.bound.reached(self)
        self.letters.append(letter_of(self.segments[number], offset, refusal, self.source_of(number)))

    def _add_value(self, number: int, offset: int, value: msgspec.Raw, envelopes: int) -> None:
        try:
            record = decode(value)
            if record.is_envelope:
                self._add_envelope(number, offset, value, record.records, envelopes)
                return
            layout = collect(record, self.groups)
        except BadRecord as error:
            self._add_array(number, offset, value, envelopes, error)
            return
        self._append(number, offset, record, layout)

    def _add_array(self, number: int, offset: int, value: msgspec.Raw, envelopes: int, error: BadRecord) -> None:
        """Add something that is not a record as an array of records, or refuse it because of `error`."""
        if _ARRAY.match(value):
            try:
                self._add_envelope(number, offset, value, value, envelopes)
            except BadRecord as other:
                error = other
            else:
                return
        self.refuse(number, offset, Refusal(error.code, str(error), bytes(value)))

    def _append(self, number: int, offset: int, record: LogRecord, layout: TupleLayout) -> None:
        self.records.append(record)
        self.segment_of.append(number)
        self.offsets.append(offset)
        self.layouts.append(layout)
        self.first_tuples.append((self.segments[number].piece or _WHOLE).first_tuple)
        self.array_ends.append(len(self.groups.tuples))

    def _add_envelope(self, number: int, offset: int, value: msgspec.Raw, inner: msgspec.Raw, envelopes: int) -> None:
        try:
            framed = children(inner)
        except NOT_JSON as error:
            raise BadRecord(ErrorCode.BAD_RECORD, f"`records` is not an array: {error}") from None
        if not envelopes:
            raise BadRecord(ErrorCode.BAD_RECORD, "envelopes are nested too deeply")
        offset += _address(inner) - _address(value)
        for child, position in zip(framed.values, framed.offsets, strict=True):
            self._add_value(number, offset + position, child, envelopes - 1)


def gather(segments: Sequence[Segment], source_of: SourceOf, bound: Bound = NO_BOUND) -> Gathered:
    """Gather the records of `segments`.

    Raises:
        TooManyLetters: there are more dead letters than `bound` allows.
    """
    result = Gathered(segments, source_of, bound=bound)
    for number in range(len(segments)):
        result.add_segment(number)
    return result


def _has_several(data: bytes) -> bool:
    """Return whether there seem to be several records, without looking beyond the second."""
    return data.find(_CATEGORY, data.find(_CATEGORY) + 1) >= 0


def _address(value: msgspec.Raw) -> int:
    """Return the memory address of `value`: a raw value is a view of the text from which it was decoded."""
    address: int = np.frombuffer(value, np.uint8).__array_interface__["data"][0]
    return address
