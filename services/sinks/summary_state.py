"""The summary's memory of one shard, in its SQLite database: sums of open minutes, sockets with their sessions, and the clock.

Minutes close by event time: a minute is due when a flow `lateness` later than its end has been seen (a flow from the future
does not count as seen). Due sums leave as rows of kind ``minute``. What comes for a minute that is closed is added up like the
rest and leaves with the next due minutes as a ``correction``, and so does what silence or want of room takes out of minutes in
the future: the sum of all rows of a (minute, socket) is always the truth.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from services.sinks.summary_fold import COUNTS, MINUTE_MS, SESSION, SOCKET, TCP, TRAFFIC, Folded

_ROWS_AT_ONCE: Final = 20_000
_FUTURE_MS: Final = 300_000
_MOST: Final = 9 * 10**18
_TOTALS: Final = tuple(f"total_{name}" for name in TRAFFIC)
_SOCKET_SQL: Final = "protocol INTEGER, local_ip TEXT, remote_ip TEXT, service_port INTEGER, direction TEXT"

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
    """How long and how much is remembered."""

    lateness_ms: int
    session_timeout_ms: int  # without TCP
    forget_ms: int  # a socket without flows for so long
    sockets: int
    open_rows: int


@dataclass(frozen=True, slots=True)
class Clock:
    """How far a shard has come, by event time, and what it has counted."""

    newest_ms: int = 0
    closed_before_ms: int = 0
    flows: int = 0
    late_flows: int = 0
    written_at: float = 0.0  # by the wall clock, when flows came last


class SummaryState:
    """Sums of one shard. Calls never commit; the caller's transaction does."""

    def __init__(self, database: sqlite3.Connection, bounds: Bounds) -> None:
        self._database = database
        self._bounds = bounds

    def create(self) -> None:
        """Create the tables unless they are there."""
        numbers = ", ".join(f"{name} INTEGER NOT NULL" for name in COUNTS)
        self._database.execute(
            f"CREATE TABLE IF NOT EXISTS open_minute (minute INTEGER, {_SOCKET_SQL}, {numbers},"
            f" PRIMARY KEY (minute, {', '.join(SOCKET)})) WITHOUT ROWID"
        )
        numbers = ", ".join(f"{name} INTEGER NOT NULL" for name in (*SESSION, "flows", *_TOTALS))
        self._database.execute(
            f"CREATE TABLE IF NOT EXISTS socket ({_SOCKET_SQL}, {numbers}, PRIMARY KEY ({', '.join(SOCKET)})) WITHOUT ROWID"
        )
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS clock (only INTEGER PRIMARY KEY CHECK (only = 1), newest_ms INTEGER,"
            " closed_before_ms INTEGER, flows INTEGER, late_flows INTEGER, written_at REAL)"
        )

    def clock(self) -> Clock:
        """Return how far the shard has come."""
        row = self._database.execute("SELECT newest_ms, closed_before_ms, flows, late_flows, written_at FROM clock").fetchone()
        return Clock(*row) if row else Clock()

    def add(self, folded: Folded, now: float) -> None:
        """Add sums and sessions, and let event time go on, at most to a little after `now` (seconds since 1970)."""
        clock = self.clock()
        minutes = folded.minutes
        late = pc.sum(minutes.filter(pc.less(minutes.column("minute"), clock.closed_before_ms)).column("flows")).as_py() or 0
        last = folded.sessions.column("last")
        seen = pc.max(last.filter(pc.less_equal(last, int(now * 1_000) + _FUTURE_MS))).as_py() or 0
        self._set(
            Clock(
                max(clock.newest_ms, seen),
                clock.closed_before_ms,
                clock.flows + (pc.sum(minutes.column("flows")).as_py() or 0),
                clock.late_flows + late,
                now,
            )
        )
        self._database.executemany(_add_minute_sql(), _tuples(minutes))
        self._database.executemany(_add_session_sql(self._bounds.session_timeout_ms), _tuples(folded.sessions))

    def take_due(self) -> Iterator[pa.Table]:
        """Remove the sums of minutes that are due and return them; all sums if there are too many."""
        clock = self.clock()
        due_before = (clock.newest_ms - self._bounds.lateness_ms) // MINUTE_MS * MINUTE_MS
        if due_before > clock.closed_before_ms:
            yield from self._take(due_before, replace(clock, closed_before_ms=due_before))
        (open_rows,) = self._database.execute("SELECT count(*) FROM open_minute").fetchone()
        if open_rows > self._bounds.open_rows:
            yield from self.take_all()

    def take_all(self) -> Iterator[pa.Table]:
        """Remove all sums and return them, and close all minutes that event time has come to."""
        newest = self._newest_open()
        if newest is not None:
            clock = self.clock()
            # Not those of flows from the future: all that comes until then would be late.
            come_to = clock.newest_ms // MINUTE_MS * MINUTE_MS + MINUTE_MS
            closed_before = min(max(clock.closed_before_ms, newest + MINUTE_MS), come_to)
            yield from self._take(newest + MINUTE_MS, replace(clock, closed_before_ms=closed_before))

    def is_quiet(self, now: float) -> bool:
        """Tell whether minutes are open and nothing has come for the lateness."""
        waited_ms = (now - self.clock().written_at) * 1_000
        # A clock set back must not keep minutes open.
        return not 0 <= waited_ms < self._bounds.lateness_ms and self._newest_open() is not None

    def talkers(self, count: int) -> pa.Table:
        """Return the sockets with the most bytes: SOCKET, SESSION, flows and totals."""
        names = (*SOCKET, *SESSION, "flows", *_TOTALS)
        rows = self._database.execute(
            f"SELECT {', '.join(names)} FROM socket ORDER BY total_bytes_in + total_bytes_out DESC, last DESC LIMIT ?",  # noqa: S608
            (count,),
        ).fetchall()
        return pa.table([list(values) for values in zip(*rows, strict=True)] or [[] for _ in names], names=list(names))

    def _newest_open(self) -> int | None:
        newest: int | None = self._database.execute("SELECT max(minute) FROM open_minute").fetchone()[0]
        return newest

    def _take(self, before_ms: int, after: Clock) -> Iterator[pa.Table]:
        """Remove the sums before a minute and return them, let the clock be `after`, and forget sockets."""
        cursor = self._database.execute(
            "SELECT minute, CASE WHEN minute >= ? AND minute < ? THEN 'minute' ELSE 'correction' END,"  # noqa: S608
            f" {', '.join((*SOCKET, *COUNTS))} FROM open_minute WHERE minute < ?",
            (self.clock().closed_before_ms, after.closed_before_ms, before_ms),
        )
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            columns = zip(*rows, strict=True)
            yield pa.table([pa.array(v, f.type) for v, f in zip(columns, SUMMARY_SCHEMA, strict=True)], schema=SUMMARY_SCHEMA)
        self._database.execute("DELETE FROM open_minute WHERE minute < ?", (before_ms,))
        self._set(after)
        self._forget_sockets(after.newest_ms)

    def _forget_sockets(self, newest_ms: int) -> None:
        self._database.execute("DELETE FROM socket WHERE last < ?", (newest_ms - self._bounds.forget_ms,))
        (sockets,) = self._database.execute("SELECT count(*) FROM socket").fetchone()
        if sockets > self._bounds.sockets:
            oldest_kept = self._database.execute(
                "SELECT last FROM socket ORDER BY last DESC LIMIT 1 OFFSET ?", (self._bounds.sockets,)
            ).fetchone()
            self._database.execute("DELETE FROM socket WHERE last <= ?", oldest_kept)

    def _set(self, clock: Clock) -> None:
        self._database.execute("INSERT OR REPLACE INTO clock VALUES (1, ?, ?, ?, ?, ?)", astuple(clock))


def _add_minute_sql() -> str:
    names = ("minute", *SOCKET, *COUNTS)
    adding = ", ".join(f"{name} = {_sum(name)}" for name in COUNTS)
    return (
        f"INSERT INTO open_minute ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
        f" ON CONFLICT DO UPDATE SET {adding}"
    )


def _add_session_sql(timeout_ms: int) -> str:
    names = (*SOCKET, *SESSION, "flows", *_TOTALS)
    anew = f"(excluded.restarted OR (protocol <> {TCP} AND excluded.since - last > {timeout_ms}))"
    setting = [
        f"since = CASE WHEN {anew} THEN excluded.since ELSE since END",
        "last = max(last, excluded.last)",
        "restarted = excluded.restarted",
        *(f"{name} = CASE WHEN {anew} THEN excluded.{name} ELSE {_sum(name)} END" for name in TRAFFIC),
        *(f"{name} = {_sum(name)}" for name in ("flows", *_TOTALS)),
    ]
    return (
        f"INSERT INTO socket ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
        f" ON CONFLICT DO UPDATE SET {', '.join(setting)}"
    )


def _sum(name: str) -> str:
    """Add up as far as an integer goes: SQLite would go on in floating point."""
    return f"min({name} + excluded.{name}, {_MOST})"


def _tuples(table: pa.Table) -> Iterator[tuple[object, ...]]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)
