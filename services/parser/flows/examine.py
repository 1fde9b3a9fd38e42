"""Find the bad tuples among many, column by column, after the single CSV pass over all of them has failed. Pure.

Its cost is linear in the text, so hostile input is only slower by a constant factor. Tuples that it finds good always pass
`columns.flow_columns`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.messages.dead_letters import ErrorCode
from services.parser.dictionary_columns import Rows
from services.parser.flows.addresses import normalised
from services.parser.flows.columns import MAX_COUNTER, MAX_TIME, protocol_number, split
from services.parser.flows.formats.layout import MANDATORY_FIELDS, FieldKind, TupleLayout
from services.parser.flows.tuples import TupleText

Mask = npt.NDArray[np.bool_]

# Nineteen digits fit in 64 bits; leading zeros do not count.
_DIGITS = r"^0*[0-9]{1,19}$"
_LIMITS = {FieldKind.TIME: MAX_TIME, FieldKind.PORT: 65_535, FieldKind.PROTOCOL: 255, FieldKind.COUNTER: MAX_COUNTER}


@dataclass(frozen=True, slots=True)
class BadTuple:
    """A tuple that cannot be a row: its number, its bytes and why."""

    row: int
    code: ErrorCode
    reason: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Examined:
    """The numbers of the good tuples, their lines padded to all fields, and the bad tuples."""

    good: Rows
    text: pa.Buffer
    bad: BadTuples


@dataclass(frozen=True, slots=True)
class BadTuples:
    """Bad tuples, stored by number only."""

    rows: Rows
    verdicts: _Verdicts
    lines: pa.Array
    tuples: TupleText

    def slices(self, size: int) -> Iterator[BadTuples]:
        """Yield the bad tuples in parts."""
        for start in range(0, len(self.rows), size):
            yield BadTuples(self.rows[start : start + size], self.verdicts, self.lines, self.tuples)

    def __iter__(self) -> Iterator[BadTuple]:
        for row in self.rows.tolist():
            code, reason = self.verdicts.cause(row)
            spoiled = self.tuples.spoiled.get(row)
            data = spoiled.json if spoiled else self.lines[row].as_py().encode()
            yield BadTuple(row, code, reason, data)


class _Verdicts:
    """The first thing found wrong with each row."""

    def __init__(self, rows: int) -> None:
        self._causes: list[tuple[ErrorCode, str]] = []
        self._cause_of = np.full(rows, -1, np.int32)

    def condemn(self, rows: Rows, code: ErrorCode, reason: str) -> None:
        """Mark rows as bad, unless they already are."""
        fresh = rows[self._cause_of[rows] < 0]
        self._cause_of[fresh] = len(self._causes)
        self._causes.append((code, reason))

    def good(self) -> Rows:
        """Return the numbers of the good rows."""
        return np.flatnonzero(self._cause_of < 0)

    def bad(self) -> Rows:
        """Return the numbers of the bad rows."""
        return np.flatnonzero(self._cause_of >= 0)

    def cause(self, row: int) -> tuple[ErrorCode, str]:
        """Return what is wrong with a bad row."""
        return self._causes[int(self._cause_of[row])]


def examine(tuples: TupleText, layout: TupleLayout) -> Examined:
    """Separate good and bad tuples."""
    lines = tuples.lines().cast(pa.string())
    verdicts = _Verdicts(len(lines))
    for reason in sorted({spoiled.reason for spoiled in tuples.spoiled.values()}):
        spoiled_rows = [row for row, spoiled in tuples.spoiled.items() if spoiled.reason == reason]
        verdicts.condemn(np.array(spoiled_rows), ErrorCode.BAD_RECORD, reason)
    sizes = pc.add(pc.count_substring(lines, ","), 1).to_numpy()
    width = len(layout.fields)
    verdicts.condemn(np.flatnonzero(sizes < MANDATORY_FIELDS), ErrorCode.SHORT_TUPLE, f"fewer than {MANDATORY_FIELDS} fields")
    verdicts.condemn(np.flatnonzero(sizes > width), ErrorCode.LONG_TUPLE, f"more than the {width} fields of {layout.name}")
    rows = verdicts.good()
    padded = _padded(lines.take(rows), width - sizes[rows])
    for code, reason, wrong in _wrong_fields(padded, layout):
        verdicts.condemn(rows[wrong], code, reason)
    good = verdicts.good()
    whole = padded.take(np.searchsorted(rows, good))
    return Examined(good, _text(whole), BadTuples(verdicts.bad(), verdicts, lines, tuples))


def _padded(lines: pa.Array, missing: Rows) -> pa.Array:
    commas = pa.array(["," * count for count in range(max(missing, default=0) + 1)])
    return pc.binary_join_element_wise(lines, commas.take(missing), "")


def _text(lines: pa.Array) -> pa.Buffer:
    """Return lines as one text, each terminated by a line feed."""
    return pc.binary_join_element_wise(lines, "", "\n").buffers()[2] or pa.py_buffer(b"")


def _wrong_fields(lines: pa.Array, layout: TupleLayout) -> Iterator[tuple[ErrorCode, str, Mask]]:
    """Yield, field by field, the lines with an invalid value."""
    if not len(lines):
        return
    kinds = dict(layout.fields)
    fields = split(_text(lines), dict.fromkeys(kinds, pa.string())) or {}
    for name, column in fields.items():
        match kinds[name]:
            case FieldKind.WORD:
                continue
            case FieldKind.ADDRESS:
                wrong = normalised([column])[0].is_null().to_numpy(zero_copy_only=False)
                yield ErrorCode.BAD_ADDRESS, f"{name} is not an IP address", wrong
            case FieldKind.PROTOCOL_LETTER:
                yield ErrorCode.BAD_NUMBER, f"{name} is neither T, U nor a number from 0 to 255", ~_protocols(column)
            case kind:
                yield ErrorCode.BAD_NUMBER, f"{name} is not a number from 0 to {_LIMITS[kind]}", ~_numbers(column, kind)


def _protocols(column: pa.Array) -> Mask:
    encoded = column.dictionary_encode()
    known = np.array([protocol_number(text) is not None for text in encoded.dictionary.to_pylist()], np.bool_)
    valid: Mask = known[encoded.indices.to_numpy()]
    return valid


def _numbers(column: pa.Array, kind: FieldKind) -> Mask:
    digits = pc.match_substring_regex(column, _DIGITS)
    values = pc.if_else(digits, column, "0").cast(pa.uint64())
    fits = pc.less_equal(values, pa.scalar(_LIMITS[kind], pa.uint64()))
    valid = pc.and_(digits, fits)
    if kind is FieldKind.COUNTER:
        valid = pc.or_(valid, pc.equal(column, ""))
    mask: Mask = valid.to_numpy(zero_copy_only=False)
    return mask
