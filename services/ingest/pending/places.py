"""Where the checkpoints of the blobs of one partition stand in their topic: of those that may be wanted soon, in little memory.

A place is an offset, in 28 bytes with the hash of the name. Names of blobs mostly carry the day that they are for. Of days that
are over and of which nothing was heard lately, the places of all blobs but open ones are let go. What is left is a span of
offsets a day: there, and nowhere else, stand the newest records of what was let go. So a name is known by its place, unknown if
nothing of its day was let go, or else undecided until the span was read, which brings the places back. Nothing that the topic
knows is ever taken for unknown; what is let go too early costs a reading, no more.

A blob that comes late costs a reading for its day, and brings the days around along while they are few. Whoever announces
everything anew has everything read once more, `RECALLED_AT_ONCE` places at a time, and held until a day later, of `MOST_HELD`
places at most; beyond that the same spans may be read again and again. Blobs whose names carry no time are held all the time.
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

KEEP_DAYS: Final = 1  # after the end of a day; more than time zones differ
HOLD_SECONDS: Final = 86_400.0  # after something of a day was written or asked for
MOST_HELD: Final = 2_000_000  # of a process, of days that are over
LOOK_EVERY: Final = 16_384  # puts
LOOK_EVERY_SECONDS: Final = 3_600.0
RECALLED_AT_ONCE: Final = 100_000  # places
SPAN_AT_ONCE: Final = 400_000  # offsets; records that were replaced and markers of commits have some, too

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
    """Return which day a blob's name says that it is for, as an ordinal of the calendar; None if it says none."""
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
    """Offsets from `first` to `last`, of `count` blobs or fewer."""

    first: int
    last: int
    count: int

    @property
    def offsets(self) -> int:
        """How many offsets there are."""
        return self.last - self.first + 1

    def with_(self, other: Span) -> Span:
        """Return what covers both."""
        return Span(min(self.first, other.first), max(self.last, other.last), self.count + other.count)


_EVERYTHING: Final = Span(0, _NEWEST, 0)


@dataclass(frozen=True, slots=True)
class Recall:
    """What has to be read to decide about the names of some days."""

    days: frozenset[int]
    span: Span
    found: set[int] = field(default_factory=set)  # days of which something was read


class Places:
    """Places by name, of one partition."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self._table = PackedTable(_DTYPE)
        self._let_go: dict[int, Span] = {}  # by day
        self._recalling: set[int] = set()  # days of which a reading has begun: some of what is held may be out of date
        self._touched: dict[int, float] = {}  # when something of a day was written or asked for
        self._puts = 0
        self._looked_at = times.clock()

    def __len__(self) -> int:
        """Return how many blobs are known, or a few more: what the topic says several times may count as often."""
        return len(self._table) + self._count_let_go()

    @property
    def known(self) -> int:
        """About as many, without looking closely."""
        return self._table.approximate_length + self._count_let_go()

    @property
    def held(self) -> int:
        """How many places are in memory, or a few more."""
        return self._table.approximate_length

    def get(self, key: bytes) -> int | None:
        """Return the place of a blob, unless it has `missing`; None if there is none."""
        row = self._row(key)
        return None if row is None or row & _GONE else row >> _FLAG_BITS

    def put(self, key: bytes, offset: int, *, stays: bool) -> None:
        """Note a place as a topic is read; one that `stays` is not let go."""
        self._put(key, offset << _FLAG_BITS | (_STAYS if stays else 0), day_of(key))

    def touch(self, key: bytes) -> None:
        """Take note that something happens to a blob, so that its day is held for a while."""
        day = day_of(key)
        if day is not None:
            self._touched[day] = self._times.clock()

    def remove(self, key: bytes, offset: int | None = None) -> None:
        """Note that there is no checkpoint any more, as is written at `offset`, if that is known yet.

        Where that was written is remembered like a place: who reads what it replaces has to read it, too.
        """
        day = day_of(key)
        if day is None:
            self._table.remove(key)
            return
        gone = _GONE | _STAYS | _NEWEST << _FLAG_BITS if offset is None else _GONE | offset << _FLAG_BITS
        self._put(key, gone, day)

    def missing(self, key: bytes) -> Recall | None:
        """Return what has to be read before `get` knows about a blob; None if it does."""
        day = day_of(key) if self._let_go else None
        if day is None or day not in self._let_go:
            return None
        return self._recall(day) if day in self._recalling or self._row(key) is None else None

    def begin(self, recall: Recall) -> None:
        """Take note that `recalled` is given what stands in a span, from its beginning."""
        self._recalling |= recall.days

    def recalled(self, recall: Recall, key: bytes, offset: int, *, is_gone: bool) -> None:
        """Take in a record that was read again."""
        day = day_of(key)
        if day not in recall.days:
            return
        recall.found.add(day)
        row = self._row(key)
        if row is None or row >> _FLAG_BITS < offset:
            self._put(key, offset << _FLAG_BITS | (_GONE if is_gone else 0), day)

    def end(self, recall: Recall) -> None:
        """Take note that all was read. What was not where it should be has everything read before it counts as removed."""
        for day in recall.days:
            if day in recall.found or recall.span is _EVERYTHING:
                self._let_go.pop(day, None)
                self._touched[day] = self._times.clock()
            else:
                self._let_go[day] = _EVERYTHING
        self._recalling -= recall.days

    def let_go(self, most: int) -> None:
        """Let go of what is over; of `most` places or more also of what was touched lately, the longest ago first."""
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
        """Tell whether to `let_go`: often enough, and so seldom that looking at all that is held costs little for each put."""
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
        """Return the days to let go of."""
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
        """Return what to read for a day, and for its neighbours as long as they cost little."""
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
