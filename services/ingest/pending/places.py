"""Offsets of the checkpoints of one partition's blobs, in little memory, for blobs that are likely to be needed soon.

A place is an offset, stored with the hash of the name in 28 bytes. Most blob names carry a day. For past days without recent
activity, the places of all blobs except open ones are dropped, leaving one span of offsets per day, which contains the newest
records of everything dropped. So a name is either known by its place, or unknown if nothing of its day was dropped, or
undecided until the span has been read, which restores the places. Nothing in the topic is ever taken for unknown; dropping
something too early only costs a read.

A late blob costs a read of its day's span, which also restores neighbouring days if they are small. Announcing everything
again causes everything to be read again, `RECALLED_AT_ONCE` places at a time, and kept for a day, up to `MOST_HELD` places;
beyond that, the same spans may be read repeatedly. Blobs whose names carry no day are always kept.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import numpy as np
from numpy.typing import NDArray

from libs.common.packed import PackedTable

KEEP_DAYS: Final = 1  # after the end of a day; more than the difference of time zones
HOLD_SECONDS: Final = 86_400.0  # after the last write or lookup for a day
MOST_HELD: Final = 2_000_000  # per process, for past days
LOOK_EVERY: Final = 16_384  # puts
LOOK_EVERY_SECONDS: Final = 3_600.0
RECALLED_AT_ONCE: Final = 100_000  # places
SPAN_AT_ONCE: Final = 400_000  # offsets, including those of superseded records and commit markers

_ROW: Final = struct.Struct("<qi")
_DTYPE: Final = np.dtype([("place", "<i8"), ("day", "<i4")])
_GONE, _STAYS, _FLAG_BITS = 1, 2, 2
_NEWEST: Final = 1 << 60  # an offset above all
_NO_DAY: Final = -1
_DAY_SECONDS: Final = 86_400
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_IN_PARTS: Final = re.compile(rb".*/y=(\d{4})/m=(\d\d)/d=(\d\d)/", re.DOTALL)
_IN_DIGITS: Final = re.compile(rb".*(?<!\d)(\d{4})(\d\d)(\d\d)(?!\d)", re.DOTALL)


def day_of(key: bytes) -> int | None:
    """Return the day in a blob's name, as a calendar ordinal; None if there is none."""
    found = _IN_PARTS.match(key) or _IN_DIGITS.match(key)
    if found is None:
        return None
    try:
        return date(*map(int, found.groups())).toordinal()
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Times:
    """Clocks, in seconds."""

    clock: Callable[[], float]
    now: Callable[[], float]  # since the epoch


@dataclass(frozen=True, slots=True)
class Span:
    """Offsets from `first` to `last`, of at most `count` blobs."""

    first: int
    last: int
    count: int

    @property
    def offsets(self) -> int:
        """Number of offsets."""
        return self.last - self.first + 1

    def with_(self, other: Span) -> Span:
        """Return the span that covers both."""
        return Span(min(self.first, other.first), max(self.last, other.last), self.count + other.count)


_EVERYTHING: Final = Span(0, _NEWEST, 0)


@dataclass(frozen=True, slots=True)
class Recall:
    """A part of the topic to read in order to decide about the names of some days."""

    days: frozenset[int]
    span: Span
    found: set[int] = field(default_factory=set)  # days with records that were read


class Places:
    """Places by name, for one partition."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self._table = PackedTable(_DTYPE)
        self._let_go: dict[int, Span] = {}  # by day
        self._recalling: set[int] = set()  # days whose reading has begun: some places may be out of date
        self._touched: dict[int, float] = {}  # time of the last write or lookup, by day
        self._puts = 0
        self._looked_at = times.clock()

    def __len__(self) -> int:
        """Return the approximate number of known blobs: repeated records may be counted repeatedly."""
        return len(self._table) + self._count_let_go()

    @property
    def known(self) -> int:
        """The same, but cheaper and less exact."""
        return self._table.approximate_length + self._count_let_go()

    @property
    def held(self) -> int:
        """Approximate number of places in memory."""
        return self._table.approximate_length

    def get(self, key: bytes) -> int | None:
        """Return the place of a blob, provided `missing` returns None; None if it has none."""
        row = self._row(key)
        return None if row is None or row & _GONE else row >> _FLAG_BITS

    def put(self, key: bytes, offset: int, *, stays: bool) -> None:
        """Add a place read from the topic; if it `stays`, it is never dropped."""
        self._put(key, offset << _FLAG_BITS | (_STAYS if stays else 0), day_of(key))

    def touch(self, key: bytes) -> None:
        """Record activity of a blob, so that its day is kept for a while."""
        day = day_of(key)
        if day is not None:
            self._touched[day] = self._times.clock()

    def remove(self, key: bytes, offset: int | None = None) -> None:
        """Record that a checkpoint was removed, by the record at `offset`, if that is known yet.

        That offset is remembered like a place: whoever reads the superseded record must read the removal as well.
        """
        day = day_of(key)
        if day is None:
            self._table.remove(key)
            return
        gone = _GONE | _STAYS | _NEWEST << _FLAG_BITS if offset is None else _GONE | offset << _FLAG_BITS
        self._put(key, gone, day)

    def missing(self, key: bytes) -> Recall | None:
        """Return what must be read before `get` can decide about a blob; None if it can now."""
        day = day_of(key) if self._let_go else None
        if day is None or day not in self._let_go:
            return None
        return self._recall(day) if day in self._recalling or self._row(key) is None else None

    def begin(self, recall: Recall) -> None:
        """Record that the reading of a span begins; its records are passed to `recalled`."""
        self._recalling |= recall.days

    def recalled(self, recall: Recall, key: bytes, offset: int, *, is_gone: bool) -> None:
        """Apply a record that was read again."""
        day = day_of(key)
        if day not in recall.days:
            return
        recall.found.add(day)
        row = self._row(key)
        if row is None or row >> _FLAG_BITS < offset:
            self._put(key, offset << _FLAG_BITS | (_GONE if is_gone else 0), day)

    def end(self, recall: Recall) -> None:
        """Record that all was read. For days without any record, everything must be read before they count as removed."""
        for day in recall.days:
            if day in recall.found or recall.span is _EVERYTHING:
                self._let_go.pop(day, None)
                self._touched[day] = self._times.clock()
            else:
                self._let_go[day] = _EVERYTHING
        self._recalling -= recall.days

    def let_go(self, most: int) -> None:
        """Drop past days; beyond `most` places, also recently touched ones, least recent first."""
        self._puts, self._looked_at = 0, self._times.clock()
        rows = self._table.rows()
        days = self._over(rows["day"], most)
        leaves = np.isin(rows["day"], days) & (rows["place"] & _STAYS == 0)
        if leaves.any():
            self._note_spans(rows["day"][leaves], rows["place"][leaves])
            self._table.keep(~leaves)
        present = {*np.unique(self._table.rows()["day"]).tolist()}
        self._touched = {day: at for day, at in self._touched.items() if day in present}

    @property
    def is_due(self) -> bool:
        """Whether it is time to call `let_go`: seldom enough that scanning all places costs little per `put`."""
        many = self._puts >= max(LOOK_EVERY, self._table.approximate_length // 4)
        return many or self._times.clock() - self._looked_at >= LOOK_EVERY_SECONDS

    def _put(self, key: bytes, place: int, day: int | None) -> None:
        self._table.put(key, _ROW.pack(place, _NO_DAY if day is None else day))
        self._puts += 1

    def _row(self, key: bytes) -> int | None:
        row = self._table.get(key)
        return None if row is None else int(_ROW.unpack(row)[0])

    def _count_let_go(self) -> int:
        return sum(span.count for span in self._let_go.values())

    def _over(self, of_rows: NDArray[np.int32], most: int) -> list[int]:
        """Return the days to drop."""
        until = self._times.now() // _DAY_SECONDS + _EPOCH_DAY - KEEP_DAYS
        since = self._times.clock() - HOLD_SECONDS
        values, counts = np.unique(of_rows, return_counts=True)
        held = {d: n for d, n in zip(values.tolist(), counts.tolist(), strict=True) if _NO_DAY < d < until}
        over, room = [], most
        for day in sorted(held.keys() - self._recalling, key=lambda day: -self._touched.get(day, -math.inf)):
            room -= held[day]
            if room < 0 or self._touched.get(day, -math.inf) < since:
                over.append(day)
        return over

    def _note_spans(self, days: NDArray[np.int32], places: NDArray[np.int64]) -> None:
        order = np.lexsort((places, days))
        days, offsets = days[order], places[order] >> _FLAG_BITS
        values, begins = np.unique(days, return_index=True)
        ends = [*begins[1:].tolist(), len(days)]
        for day, begin, end in zip(values.tolist(), begins.tolist(), ends, strict=True):
            span = Span(int(offsets[begin]), int(offsets[end - 1]), end - begin)
            self._let_go[day] = self._let_go[day].with_(span) if day in self._let_go else span

    def _recall(self, wanted: int) -> Recall:
        """Return what to read for a day, including its neighbours while they cost little."""
        chosen, span = {wanted}, self._let_go[wanted]
        if span.last == _NEWEST:
            return Recall(frozenset(chosen), _EVERYTHING)
        most = max(span.offsets, SPAN_AT_ONCE)
        for day in _by_distance(self._let_go.keys() - chosen, wanted):
            wider = span.with_(self._let_go[day])
            if wider.count > RECALLED_AT_ONCE:
                break
            if wider.offsets <= most:
                chosen.add(day)
                span = wider
        return Recall(frozenset(chosen), span)


def _by_distance(days: Collection[int], day: int) -> list[int]:
    return sorted(days, key=lambda other: abs(other - day))
