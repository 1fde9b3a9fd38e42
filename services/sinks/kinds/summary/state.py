"""The summary's state for one shard, in its SQLite database: sums of open minutes, sockets with their sessions, and the clock.

The sums of a write are stored as they are, one part per minute and one part of sockets, in the transaction of the write: there
are no database rows for single sockets. Parts are merged when their content is needed: those of a minute when it closes, those
of sockets when the table is printed, and both when there are enough rows to make merging worthwhile.

Minutes close by event time: a minute is due once a flow has been seen that is `lateness` later than the minute's end (a flow
from the future does not count). Due sums are emitted as rows of kind ``minute``. Flows that arrive for a closed minute are
added up like all others and emitted with the next due minutes as a ``correction``, and so are sums of minutes in the future
that are emitted early because of silence or lack of room. So the sum of all rows of a (minute, socket) is always correct.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.sinks.kinds.summary.fold import COUNTS, MINUTE_MS, SESSIONS, SUMS, Folded, merge_sessions, merge_sums
from services.sinks.kinds.summary.partial_tables import PartialTable, take_over

_ROWS_AT_ONCE: Final = 20_000
_FUTURE_MS: Final = 300_000
# Up to this many new rows, sockets stay unmerged, however many are known already: so few are quickly merged when needed.
_FEW_SOCKETS: Final = 20_000
_SHARE_OF_NEW: Final = 4
_ALL_TIME: Final = 0

SUMMARY_SCHEMA: Final = pa.schema(
    [
        pa.field("minute", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # minute, correction
        pa.field("protocol", pa.uint8(), nullable=False),
        pa.field("local_ip", pa.string(), nullable=False),
        pa.field("remote_ip", pa.string(), nullable=False),
        pa.field("service_port", pa.uint16(), nullable=False),
        pa.field("direction", pa.string(), nullable=False),
        *(pa.field(name, pa.int64(), nullable=False) for name in COUNTS),
    ]
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long and how much to remember."""

    lateness_ms: int
    session_timeout_ms: int  # for protocols other than TCP
    forget_ms: int  # a socket without flows for this long is forgotten
    sockets: int
    open_rows: int


@dataclass(frozen=True, slots=True)
class EventClock:
    """How far a shard has advanced in event time, and what it has counted."""

    newest_ms: int = 0
    closed_before_ms: int = 0
    flows: int = 0
    late_flows: int = 0
    written_at: float = 0.0  # wall-clock time of the last flows


class SummaryState:
    """The sums of one shard. Calls never commit; the caller's transaction does."""

    def __init__(self, database: sqlite3.Connection, bounds: Bounds) -> None:
        self._database = database
        self._bounds = bounds
        self._sums = PartialTable(database, "minute_sums", SUMS)
        self._sockets = PartialTable(database, "socket_sums", SESSIONS)

    def create(self) -> None:
        """Create the tables if missing, and migrate the state of an older version. The only call that commits."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS clock (only INTEGER PRIMARY KEY CHECK (only = 1), newest_ms INTEGER,"
                " closed_before_ms INTEGER, flows INTEGER, late_flows INTEGER, written_at REAL)"
            )
            self._sums.create()
            self._sockets.create()
            take_over(self._database, self._sums, self._sockets)
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def clock(self) -> EventClock:
        """Return how far the shard has advanced."""
        row = self._database.execute("SELECT newest_ms, closed_before_ms, flows, late_flows, written_at FROM clock").fetchone()
        return EventClock(*row) if row else EventClock()

    def add(self, folded: Folded, now: float) -> None:
        """Add sums and sessions, and advance event time, at most to slightly after `now` (seconds since 1970)."""
        clock = self.clock()
        flows = {minute: int(pc.sum(sums.column("flows")).as_py()) for minute, sums in folded.minutes}
        last = folded.sessions.column("last").to_numpy()
        seen = last[last <= int(now * 1_000) + _FUTURE_MS].max(initial=0)
        self._set(
            EventClock(
                max(clock.newest_ms, int(seen)),
                clock.closed_before_ms,
                clock.flows + sum(flows.values()),
                clock.late_flows + sum(count for minute, count in flows.items() if minute < clock.closed_before_ms),
                now,
            )
        )
        for minute, sums in folded.minutes:
            self._sums.add(minute, sums)
        self._sockets.add(_ALL_TIME, folded.sessions)
        known = self._sockets.rows(merged=True)
        if self._sockets.rows(merged=False) > max(known, _FEW_SOCKETS):
            self._sockets.replace(_ALL_TIME, self._merged_sockets())

    def take_due(self) -> Iterator[pa.Table]:
        """Remove and return the sums of due minutes; all sums if there are too many."""
        clock = self.clock()
        due_before = (clock.newest_ms - self._bounds.lateness_ms) // MINUTE_MS * MINUTE_MS
        if due_before > clock.closed_before_ms:
            yield from self._take(due_before, replace(clock, closed_before_ms=due_before))
        if self._has_too_many_sums():
            yield from self.take_all()

    def take_all(self) -> Iterator[pa.Table]:
        """Remove and return all sums, and close all minutes that event time has reached."""
        minutes = self._sums.kinds()
        if minutes:
            clock = self.clock()
            closed_to = minutes[-1] + MINUTE_MS
            # Not minutes of flows from the future: all flows until then would be late.
            come_to = clock.newest_ms // MINUTE_MS * MINUTE_MS + MINUTE_MS
            closed_before = min(max(clock.closed_before_ms, closed_to), come_to)
            yield from self._take(closed_to, replace(clock, closed_before_ms=closed_before))

    def is_quiet(self, now: float) -> bool:
        """Return whether minutes are open and no flows have arrived for the duration of the lateness."""
        waited_ms = (now - self.clock().written_at) * 1_000
        # A clock that was set back must not keep minutes open.
        return not 0 <= waited_ms < self._bounds.lateness_ms and bool(self._sums.kinds())

    def talkers(self, count: int) -> pa.Table:
        """Return the sockets with the most bytes, with the schema `SESSIONS`."""
        sockets = self._merged_sockets()
        octets = pc.add(*(sockets.column(f"total_bytes_{way}").cast(pa.float64()) for way in ("in", "out")))
        by_bytes = pc.sort_indices(
            pa.table({"octets": octets, "last": sockets.column("last")}),
            sort_keys=[("octets", "descending"), ("last", "descending")],
        )
        return sockets.take(by_bytes[:count])

    def _has_too_many_sums(self) -> bool:
        """Return whether there are too many open sums, merging first; merges again only once a quarter as many are new."""
        most = self._bounds.open_rows
        merged, new = self._sums.rows(merged=True), self._sums.rows(merged=False)
        if merged + new > most and new > most // _SHARE_OF_NEW:
            for minute in self._sums.kinds():
                self._sums.replace(minute, merge_sums(self._sums.read(minute)))
            merged = self._sums.rows(merged=True)
        return merged > most

    def _take(self, before_ms: int, after: EventClock) -> Iterator[pa.Table]:
        """Remove and return the sums before a minute, and set the clock to `after`."""
        closed_before = self.clock().closed_before_ms
        waiting: list[pa.Table] = []
        for minute in [one for one in self._sums.kinds() if one < before_ms]:
            is_regular = closed_before <= minute < after.closed_before_ms
            waiting.append(_summary(minute, "minute" if is_regular else "correction", merge_sums(self._sums.read(minute))))
            if sum(map(len, waiting)) >= _ROWS_AT_ONCE:
                yield pa.concat_tables(waiting)
                waiting = []
            self._sums.remove(minute)
        if waiting:
            yield pa.concat_tables(waiting)
        self._set(after)

    def _merged_sockets(self) -> pa.Table:
        """Return the known sockets, without those silent for too long or, if there are too many, those silent the longest."""
        sockets = self._sockets.read(_ALL_TIME)
        if not len(sockets):
            return sockets
        merged = merge_sessions(sockets, self._bounds.session_timeout_ms)
        last = merged.column("last").to_numpy()
        kept = last >= self.clock().newest_ms - self._bounds.forget_ms
        if np.count_nonzero(kept) > self._bounds.sockets:
            kept &= last > np.sort(last[kept])[-self._bounds.sockets - 1]
        return merged if kept.all() else merged.filter(pa.array(kept))

    def _set(self, clock: EventClock) -> None:
        self._database.execute("INSERT OR REPLACE INTO clock VALUES (1, ?, ?, ?, ?, ?)", astuple(clock))


def _summary(minute: int, kind: str, sums: pa.Table) -> pa.Table:
    rows = len(sums)
    time = pa.array(np.full(rows, minute)).cast(SUMMARY_SCHEMA.field("minute").type)
    return pa.Table.from_arrays([time, pa.repeat(kind, rows), *sums.columns], schema=SUMMARY_SCHEMA)
