"""Read lines of JSON objects: find their slots and understand their shapes. Pure but for the shapes that are kept.

Lines that are not of the usual form (white space in unusual places, members that repeat) are rewritten one by one and read
again; what then still is no object is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa

from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.column_values import text_ends
from services.parser.dictionary_columns import Rows
from services.parser.logs.contents import SlotContents, examine
from services.parser.logs.finding import find_shapes
from services.parser.logs.lines import PADDING, Flags, Lines
from services.parser.logs.shapes import NOT_JSON, JsonShape, Shapes
from services.parser.logs.slots import JsonText, SlotKind, Slots, slots_of
from services.parser.logs.tails import tails_of

Refuse = Callable[[Rows, ErrorCode, str], None]
"""Takes the numbers of lines that become dead letters, and why."""

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

_NULL: Final = ord("n")
_DASH: Final = ord("-")
_BROKEN: Final = "not JSON"
_TOO_DEEP: Final = "objects are nested too deeply"


@dataclass(frozen=True, eq=False)
class Objects:
    """Lines that were understood, each as an object and perhaps a tail.

    Attributes:
        numbers: of the lines among all lines, ascending.
        places: of the lines in `slots`.
        slots, pieces, contents: of these and other lines.
        shapes, shape: the distinct shapes, and the index in them of each line.
        tails, tail: the distinct tails, and the index in them of each line, -1 if it has none.
    """

    numbers: Rows
    places: Rows
    slots: Slots
    pieces: pa.BinaryArray
    contents: SlotContents
    shapes: Sequence[JsonShape]
    shape: Rows
    tails: Sequence[JsonShape]
    tail: Rows

    def __len__(self) -> int:
        return len(self.numbers)

    def values(self, lines: Rows, slots: Sequence[Rows | int], dashed: Sequence[bool]) -> list[pa.StringArray]:
        """Return the contents of slots as text; null for JSON's null, where a slot is below 0, and for ``-`` if `dashed`.

        `lines` are given by their places in `slots`. All columns are taken at once, which is much faster than one by one.
        """
        count, first = len(lines), self.slots.first[lines]
        numbers = np.empty((len(slots), count), np.int64)
        for number, slot in enumerate(slots):
            np.add(first, np.maximum(slot, 0), out=numbers[number])
        missing = self._missing(numbers, slots, dashed)
        pool, pieces = self._pieces(numbers, lines)
        if missing is None or not missing.any():
            found = pool.take(pa.array(pieces.ravel()))
        else:
            pieces[missing] = len(self.pieces) - 1  # an empty one
            taken = pool.take(pa.array(pieces.ravel()))
            validity = pa.array(~missing.ravel()).buffers()[1]
            found = pa.Array.from_buffers(pa.string(), len(taken), [validity, *taken.buffers()[1:]])
        return [found.slice(number * count, count) for number in range(len(slots))]

    def _missing(self, numbers: Rows, slots: Sequence[Rows | int], dashed: Sequence[bool]) -> Flags | None:
        found: Flags | None = None
        if self._nulls is not None:
            found = self._nulls.take(numbers, mode="clip")
        if any(dashed) and self._dashes is not None:
            found = np.zeros(numbers.shape, np.bool_) if found is None else found
            chosen = np.flatnonzero(dashed)
            found[chosen] |= self._dashes.take(numbers[chosen], mode="clip")
        for number, slot in enumerate(slots):
            if not isinstance(slot, int) and (slot < 0).any():
                found = np.zeros(numbers.shape, np.bool_) if found is None else found
                found[number] |= slot < 0
        return found

    def _pieces(self, numbers: Rows, lines: Rows) -> tuple[pa.StringArray, Rows]:
        """Return texts, and the number among them of what each slot holds."""
        pieces = 2 * numbers
        pieces += lines + 1
        escaped = self.contents.escaped
        if not len(escaped) or not (is_escaped := self._is_escaped.take(numbers, mode="clip")).any():
            return self._strings, pieces
        pieces[is_escaped] = len(self.pieces) + np.searchsorted(escaped, numbers[is_escaped])
        return self._with_decoded, pieces

    @cached_property
    def _strings(self) -> pa.StringArray:
        """The pieces, as what they are: the lines are UTF-8, and slots begin and end at characters of ASCII."""
        return pa.Array.from_buffers(pa.string(), len(self.pieces), self.pieces.buffers())

    @cached_property
    def _with_decoded(self) -> pa.StringArray:
        return pa.concat_arrays([self._strings, self.contents.decoded])

    @cached_property
    def _is_escaped(self) -> Flags:
        """Which slots hold strings with escapes."""
        found = np.zeros(len(self.slots.starts), np.bool_)
        found[self.contents.escaped] = True
        return found

    @cached_property
    def _nulls(self) -> Flags | None:
        """Which slots hold null; None if none does."""
        slots = self.slots
        nulls: Flags = (slots.kinds == SlotKind.SCALAR) & (slots.json.content.take(slots.starts) == _NULL)
        return nulls if nulls.any() else None

    @cached_property
    def _dashes(self) -> Flags | None:
        """Which slots hold nothing, or ``-``; None if none does."""
        sizes = self.slots.ends - self.slots.starts
        dashes: Flags = (sizes == 0) | ((sizes == 1) & (self.slots.json.content.take(self.slots.starts) == _DASH))
        return dashes if dashes.any() else None


@dataclass(frozen=True, slots=True)
class _Batch:
    """Lines to be read: their numbers, what of them is read, and their tails as in `Objects`."""

    numbers: Rows
    json: JsonText
    has_controls: bool
    tails: Sequence[JsonShape]
    tail: Rows

    @classmethod
    def of(cls, numbers: Rows, texts: Sequence[bytes]) -> _Batch:
        """Take lines as they are."""
        return cls(numbers, JsonText.of(texts), has_controls=False, tails=(), tail=np.full(len(numbers), -1, np.int64))


def read_objects(lines: Lines, numbers: Rows, shapes: Shapes, refuse: Refuse) -> Iterator[Objects]:
    """Yield lines that are JSON objects; all others are refused."""
    if not len(numbers):
        return
    objects, bad, others = _understood(_heads(lines, numbers, shapes), shapes)
    refuse(bad, ErrorCode.BAD_JSON, _BROKEN)
    yield objects
    if len(others):
        kept, texts = _rewritten(others, [lines.line(number) for number in others.tolist()], refuse)
        yield from read_texts(kept, texts, shapes, refuse)


def read_texts(numbers: Rows, texts: Sequence[bytes], shapes: Shapes, refuse: Refuse) -> Iterator[Objects]:
    """Yield objects of JSON in the usual form, given as text and by numbers; all others are refused."""
    if not len(numbers):
        return
    objects, bad, others = _understood(_Batch.of(numbers, texts), shapes)
    refuse(bad, ErrorCode.BAD_JSON, _BROKEN)
    refuse(others, ErrorCode.BAD_RECORD, _TOO_DEEP)
    yield objects


def _understood(batch: _Batch, shapes: Shapes) -> tuple[Objects, Rows, Rows]:
    """Return the lines that are understood and not bad, the numbers of those that are bad, and of those not understood."""
    found = find_shapes(slots_of(batch.json), shapes)
    contents = examine(found.slots, found.pieces, has_controls=batch.has_controls)
    known = found.shape >= 0
    good = np.flatnonzero(known & ~contents.bad)
    objects = Objects(
        batch.numbers[good], good, found.slots, found.pieces, contents,
        found.shapes, found.shape[good], batch.tails, batch.tail[good],
    )  # fmt: skip
    return objects, batch.numbers[known & contents.bad], batch.numbers[~known]


def _heads(lines: Lines, numbers: Rows, shapes: Shapes) -> _Batch:
    """Return lines without their tails."""
    tails = tails_of(lines, numbers, shapes)
    is_all = len(numbers) == len(lines) and bool((lines.starts[1:] == lines.ends[:-1] + 1).all())
    if is_all and not tails.shapes:  # no need to copy
        json = JsonText(pa.py_buffer(lines.text), np.append(lines.starts, len(lines.text) - len(PADDING)))
    else:
        json = _cut(lines, numbers, tails.sizes)
    return _Batch(numbers, json, len(lines.controls) > 0, tails.shapes, tails.of_line)


def _cut(lines: Lines, numbers: Rows, sizes: Rows) -> JsonText:
    """Copy lines without so many bytes at their ends, of which the very last one, a brace, is kept. No line is empty."""
    ends = lines.ends[numbers]
    edges = np.empty(4 * len(numbers) + 2, np.int32)
    edges[0:-2:4], edges[1:-2:4] = lines.starts[numbers], ends - np.maximum(sizes, 1)
    edges[2:-2:4], edges[3:-2:4] = ends - 1, ends
    edges[-2:] = len(lines.text) - len(PADDING), len(lines.text)
    buffers = [None, pa.py_buffer(edges), pa.py_buffer(lines.text)]
    stretches = pa.Array.from_buffers(pa.binary(), len(edges) - 1, buffers)
    kept = stretches.take(pa.array(np.arange(0, len(edges) - 1, 2)))
    bounds = text_ends(kept)[: len(kept) : 2].astype(np.int64)
    return JsonText(kept.buffers()[2], bounds)


def _rewritten(numbers: Rows, texts: Sequence[bytes], refuse: Refuse) -> tuple[Rows, list[bytes]]:
    """Return lines in the usual form."""
    written: list[bytes] = []
    kept: list[int] = []
    for number, text in zip(numbers.tolist(), texts, strict=True):
        try:
            written.append(_distinct(msgspec.json.format(text, indent=-1)))
            kept.append(number)
        except RecursionError:
            refuse(np.array([number]), ErrorCode.BAD_RECORD, _TOO_DEEP)
        except NOT_JSON:
            refuse(np.array([number]), ErrorCode.BAD_JSON, _BROKEN)
    return np.array(kept, np.int64), written


def _distinct(text: bytes) -> bytes:
    """Return an object whose members are there once each: the last of each name."""
    members = {name: bytes(member) for name, member in _members.decode(text).items()}
    objects = {name: _distinct(member) for name, member in members.items() if member.startswith(b"{")}
    return msgspec.json.encode({name: msgspec.Raw(member) for name, member in (members | objects).items()})
