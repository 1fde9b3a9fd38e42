"""Check what is in slots, and decode strings with escapes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.column_values import text_ends
from services.parser.dictionary_columns import Rows
from services.parser.logs.lines import Flags
from services.parser.logs.shapes import NOT_JSON
from services.parser.logs.slots import SlotKind, Slots

_NUMBER: Final = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$"
_FOUR: Final = 4
_TRUE, _NULL, _FALS = (int.from_bytes(word, "little") for word in (b"true", b"null", b"fals"))
_FIRST_PRINTABLE: Final = 0x20
_ZERO: Final = np.uint8(ord("0"))
_NINE: Final = 9

_strings = msgspec.json.Decoder(list[str])
_string = msgspec.json.Decoder(str)
_values = msgspec.json.Decoder(list[msgspec.Raw])
_value = msgspec.json.Decoder(msgspec.Raw)


@dataclass(frozen=True, slots=True)
class SlotContents:
    """What was found in slots.

    Attributes:
        bad: the lines with something in a slot that is not JSON.
        escaped: numbers of the slots that hold strings with escapes, ascending.
        decoded: these strings.
    """

    bad: Flags
    escaped: Rows
    decoded: pa.StringArray


def examine(slots: Slots, pieces: pa.BinaryArray, *, has_controls: bool) -> SlotContents:
    """Check the content of all slots; lines that were not understood may be found bad, too.

    If `has_controls`, the lines contain control characters, which strings must not.
    """
    escaped, decoded, not_strings = _escaped(slots, pieces)
    controls = _controls(slots) if has_controls else not_strings[:0]
    wrong = np.concatenate((controls, _scalars(slots, pieces), _arrays(slots, pieces), not_strings))
    bad = np.zeros(len(slots.json), np.bool_)
    bad[slots.line[wrong]] = True
    return SlotContents(bad, escaped, decoded)


def slot_pieces(slots: Slots, numbers: Rows) -> pa.Array:
    """Return the numbers of the pieces that are these slots."""
    return pa.array(2 * numbers + slots.line.take(numbers) + 1)


def _controls(slots: Slots) -> Rows:
    """Return the strings that contain control characters."""
    content = slots.json.content[: slots.json.bounds[-1]]
    return _inside(slots, np.flatnonzero(content < _FIRST_PRINTABLE))


def _inside(slots: Slots, places: Rows) -> Rows:
    """Return the strings in which these places are, ascending."""
    if not len(places) or not len(slots.starts):
        return np.empty(0, np.int64)
    before = np.searchsorted(slots.starts, places, side="right") - 1
    is_in = (before >= 0) & (places < slots.ends[before]) & (slots.kinds[before] == SlotKind.STRING)
    return np.unique(before[is_in])


def _scalars(slots: Slots, pieces: pa.BinaryArray) -> Rows:
    """Return the slots that hold neither a number nor true, false or null."""
    numbers = np.flatnonzero(slots.kinds == SlotKind.SCALAR)
    if not len(numbers):
        return numbers
    is_word = _are_words(slots, numbers)
    others = numbers[~is_word]
    if not len(others):
        return others
    unusual = _no_plain_integers(pieces.take(slot_pieces(slots, others)))
    return _invalid(slots, pieces, others[unusual])


def _are_words(slots: Slots, numbers: Rows) -> Flags:
    """Return which slots hold true, false or null."""
    text, starts = slots.json.text, slots.starts.take(numbers)
    sizes = slots.ends.take(numbers) - starts
    # Items of four bytes that begin at each byte.
    first = np.ndarray((text.size - _FOUR + 1,), "<u4", text, strides=(1,))[starts]
    found: Flags = (sizes == _FOUR) & ((first == _TRUE) | (first == _NULL))
    is_false = first == _FALS
    if is_false.any():
        found |= is_false & (sizes == _FOUR + 1) & (slots.json.content.take(starts + _FOUR) == ord("e"))
    return found


def _invalid(slots: Slots, pieces: pa.BinaryArray, numbers: Rows) -> Rows:
    """Return those of the slots that hold no numbers; most of them are equal to others."""
    if not len(numbers):
        return numbers
    words = pieces.take(slot_pieces(slots, numbers)).dictionary_encode()
    valid = pc.match_substring_regex(words.dictionary, _NUMBER).to_numpy(zero_copy_only=False)
    bad: Rows = numbers[~valid[words.indices.to_numpy()]]
    return bad


def _no_plain_integers(found: pa.BinaryArray) -> Rows:
    """Return the values that are something else than digits without a leading zero: most numbers are that."""
    edges = text_ends(found)
    content = np.frombuffer(found.buffers()[2] or b"", np.uint8)[: edges[-1]]
    is_other = (np.diff(edges) == 0) | (content.take(edges[:-1], mode="clip") == _ZERO if len(content) else True)
    no_digits = np.flatnonzero(content - _ZERO > _NINE)
    is_other[np.searchsorted(edges, no_digits, side="right") - 1] = True
    return np.flatnonzero(is_other)


def _arrays(slots: Slots, pieces: pa.BinaryArray) -> Rows:
    """Return the slots that hold something else than an array of JSON."""
    numbers = np.flatnonzero(slots.kinds == SlotKind.ARRAY)
    if not len(numbers):
        return numbers
    found = pieces.take(slot_pieces(slots, numbers)).to_pylist()
    try:
        if len(_values.decode(b"[" + b",".join(found) + b"]")) == len(found):
            return np.empty(0, np.int64)
    except NOT_JSON:
        pass
    return numbers[[not _is_json(one) for one in found]]


def _is_json(text: bytes) -> bool:
    try:
        _value.decode(text)
    except NOT_JSON:
        return False
    return True


def _escaped(slots: Slots, pieces: pa.BinaryArray) -> tuple[Rows, pa.StringArray, Rows]:
    """Return the strings with escapes, what they say, and those that say nothing because an escape is invalid."""
    numbers = _inside(slots, slots.backslashes)
    if not len(numbers):
        return numbers, pa.array([], pa.string()), numbers
    found = pieces.take(slot_pieces(slots, numbers)).to_pylist()
    try:
        decoded = _strings.decode(b'["' + b'","'.join(found) + b'"]')
    except NOT_JSON:
        decoded = []
    if len(decoded) == len(found):
        return numbers, pa.array(decoded, pa.string()), np.empty(0, np.int64)
    texts = [_decoded(one) for one in found]
    bad = numbers[[text is None for text in texts]]
    return numbers, pa.array([text or "" for text in texts], pa.string()), bad


def _decoded(text: bytes) -> str | None:
    try:
        return _string.decode(b'"' + text + b'"')
    except NOT_JSON:
        return None
