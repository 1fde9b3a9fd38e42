"""One minute of the interfaces of one kind, in document order: the tuples, their times, and their text in the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.demo.arrays import Flags, Ints
from libs.demo.draw import ENCRYPTIONS, Sheet, Tuples, draw_minute
from libs.demo.inventory import TICKS_PER_SECOND
from libs.demo.peers import Addresses
from libs.demo.rules import RULES
from libs.demo.spec import LogKind

TICKS_PER_MS: Final = TICKS_PER_SECOND // 1000
# Follows every tuple, so that any run of tuples is a slice of the text, without its last three bytes.
SEPARATOR: Final = '","'
_MS_PER_MINUTE: Final = 60_000
_TWO_RECORDS_SHARE: Final = 1 / 12  # share of a virtual network interface's minutes that are written as two records
_SECOND_RECORD_MS: Final = 30_000  # tuples with a longer lead go to the first of two records

_PROTOCOL_LETTERS: Final = {6: "T", 17: "U"}
_MOST_PROTOCOLS: Final = 256


@dataclass(frozen=True, slots=True)
class Run:
    """Tuples ``[start, stop)`` of a page, which all belong to one interface, record and rule."""

    nic: int
    part: int
    rule: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Text:
    """The text of all tuples of a page; tuple `i` with its separator is ``data[ends[i]:ends[i + 1]]``."""

    data: memoryview
    ends: Ints

    def tuples(self, start: int, stop: int) -> bytes:
        """Return the text of tuples ``[start, stop)`` (at least one) without the last separator."""
        return bytes(self.data[self.ends[start] : self.ends[stop] - len(SEPARATOR)])


@dataclass(frozen=True, slots=True)
class LogPage:
    """Tuples in document order. `time` is in ms since 1970 UTC, with the precision of the format."""

    sheet: Sheet
    minute: int
    tuples: Tuples
    time: Ints
    runs: tuple[Run, ...]
    text: Text


def make_page(seed: int, sheet: Sheet, minute: int, addresses: Addresses) -> LogPage:
    """Return the page of `sheet` for a wall-clock minute."""
    drawn = draw_minute(seed, sheet, minute)
    stamps = np.array([nic.stamp for nic in sheet.nics]) // TICKS_PER_MS + minute * _MS_PER_MINUTE
    time = stamps[drawn.nic] - drawn.lead
    if sheet.kind is not LogKind.VNET:
        time -= time % 1000
    part = _parts(seed, sheet, minute)[drawn.nic] & (drawn.lead < _SECOND_RECORD_MS)
    group = (drawn.nic * 2 + part) * len(RULES) + drawn.rule
    order = np.argsort((group << 18) + (time - minute * _MS_PER_MINUTE + (1 << 17)), kind="stable")
    tuples, time = drawn.take(order), time[order]
    text = _text(sheet.kind, tuples, time, addresses)
    return LogPage(sheet, minute, tuples, time, _runs(group[order]), text)


def _parts(seed: int, sheet: Sheet, minute: int) -> Flags:
    """Return which interfaces write two records in this minute."""
    rng = np.random.default_rng([seed, minute, sheet.nics[0].number, 2])
    chosen: Flags = rng.random(len(sheet.nics)) < _TWO_RECORDS_SHARE
    return chosen & (sheet.kind is LogKind.VNET)


def _runs(group: Ints) -> tuple[Run, ...]:
    if not len(group):
        return ()
    starts = np.concatenate(([0], np.flatnonzero(np.diff(group)) + 1))
    stops = np.append(starts[1:], len(group))
    nic_part, rule = np.divmod(group[starts], len(RULES))
    columns = (nic_part // 2, nic_part % 2, rule, starts, stops)
    return tuple(Run(*values) for values in zip(*(column.tolist() for column in columns), strict=True))


def _text(kind: LogKind, tuples: Tuples, time: Ints, addresses: Addresses) -> Text:
    shown_time = time if kind is LogKind.VNET else time // 1000
    columns = [
        _decimal(shown_time),
        addresses.written.take(pa.array(tuples.source)),
        addresses.written.take(pa.array(tuples.destination)),
        _decimal(tuples.source_port),
        _decimal(tuples.destination_port),
        _codes(kind, tuples),
    ]
    if kind is not LogKind.NSG1:
        columns.append(_counters(tuples))
    lines = pc.binary_join_element_wise(*columns, ",")
    lines = pc.binary_join_element_wise(lines, SEPARATOR, "")
    _, ends, data = lines.buffers()
    ends_of = np.frombuffer(ends, np.int32)[: len(lines) + 1] if len(lines) else np.zeros(1, np.int32)
    return Text(memoryview(data or b""), ends_of.astype(np.int64))


def _decimal(values: Ints) -> pa.Array:
    return pa.array(values).cast(pa.string())


def _counters(tuples: Tuples) -> pa.Array:
    columns = (tuples.packets_sent, tuples.bytes_sent, tuples.packets_received, tuples.bytes_received)
    counted = pc.binary_join_element_wise(*map(_decimal, columns), ",")
    return pc.if_else(pa.array(tuples.uncounted), ",,,", counted)


_ALLOWED: Final = np.array([rule.allowed for rule in RULES], np.int64)
_INBOUND: Final = np.array([rule.inbound for rule in RULES], np.int64)
_CODE_SHAPE: Final = (_MOST_PROTOCOLS, 2, 2, 4, len(ENCRYPTIONS))


def _codes(kind: LogKind, tuples: Tuples) -> pa.Array:
    """Return the fields between ports and counters: there are few distinct combinations, so each is written once."""
    parts = (tuples.protocol, _INBOUND[tuples.rule], _ALLOWED[tuples.rule], tuples.state, tuples.encryption)
    numbers = np.ravel_multi_index(parts, _CODE_SHAPE)
    distinct, index = np.unique(numbers, return_inverse=True)
    combinations = zip(*np.unravel_index(distinct, _CODE_SHAPE), strict=True)
    words = pa.array([_code(kind, combination) for combination in combinations], pa.string())
    return words.take(pa.array(index))


def _code(kind: LogKind, combination: Sequence[Any]) -> str:
    protocol, inbound, allowed, state, encryption = (int(part) for part in combination)
    direction = "I" if inbound else "O"
    if kind is LogKind.VNET:
        return f"{protocol},{direction},{'BCED'[state]},{ENCRYPTIONS[encryption]}"
    decided = f"{_PROTOCOL_LETTERS[protocol]},{direction},{'A' if allowed else 'D'}"
    # Version 2 logs a denied attempt as a beginning.
    return decided if kind is LogKind.NSG1 else f"{decided},{'BCEB'[state]}"
