"""How far each generation of a source has been written, which makes replays harmless at destinations without a memory.

Rows of a source are in order (rule 4 of the contract), so one position per generation is enough: the highest (offset, index)
written. A row at or below it was written before. The positions are in the SQLite database of one shard and are updated in the
caller's transaction, together with whatever makes the rows durable.

A generation is identified by a hash of its source and name, because blob names are long and numerous: it takes about 50 bytes.
Generations without rows are forgotten after a number of days on which the shard was in use. Days are counted, not dated: a
clock that is wrong for a while, as on a machine that starts in 1970, must not make everything look old.

The work is done on columns; Python handles generations one by one, never rows.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from libs.common.rows.identity import RowPositions
from libs.common.rows.row_text import Bools, Ints
from libs.common.rows.row_type import PositionColumns

_SECONDS_A_DAY = 86_400
_NOTHING = (-1, -1)

_Position = tuple[int, int]  # offset, index
_Reached = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Fresh:
    """The rows of a table that have not been written before, and the positions after writing them."""

    rows: pa.Table
    known: int  # rows written before
    positions: tuple[tuple[bytes, _Position], ...]


class Positions:
    """The positions of one shard. Calls never commit; the caller's transaction does."""

    def __init__(self, database: sqlite3.Connection, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def create(self) -> None:
        """Create the table unless it exists."""
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS position (generation BLOB PRIMARY KEY, record_offset INTEGER NOT NULL,"
            " tuple_index INTEGER NOT NULL, touched_day INTEGER NOT NULL) WITHOUT ROWID"
        )
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS day (only INTEGER PRIMARY KEY CHECK (only = 1), number INTEGER, clock_day INTEGER)"
        )

    def fresh(self, rows: pa.Table, position: PositionColumns) -> Fresh:
        """Return those of `rows` that are above their generation's position, each once and in order."""
        if not rows.num_rows:
            return Fresh(rows, 0, ())
        found = RowPositions.of(rows, position)
        keys = [_key(source, generation) for source, generation in found.sources]
        reached = np.array([self._reached(key) for key in keys], np.int64)
        mask = fresh_rows(found.source, found.offset, found.index, reached)
        fresh = rows if mask.all() else rows.filter(pa.array(mask))
        positions = zip(keys, map(tuple, reached.tolist()), strict=True)
        return Fresh(fresh, rows.num_rows - fresh.num_rows, tuple(positions))

    def advance(self, fresh: Fresh) -> None:
        """Record that the rows of `fresh` are written, and that its generations are still in use."""
        today = self._today()
        self._database.executemany(
            "INSERT OR REPLACE INTO position VALUES (?, ?, ?, ?)",
            [(key, offset, index, today) for key, (offset, index) in fresh.positions],
        )

    def prune(self, remember_days: int) -> int:
        """Forget generations without rows on `remember_days` days; return how many."""
        return self._database.execute("DELETE FROM position WHERE touched_day < ?", (self._today() - remember_days,)).rowcount

    def _reached(self, key: bytes) -> _Position:
        row = self._database.execute("SELECT record_offset, tuple_index FROM position WHERE generation = ?", (key,)).fetchone()
        return row or _NOTHING

    def _today(self) -> int:
        """Return the number of the day, which advances by one whenever the clock shows a later day than before."""
        clock_day = int(self._clock() // _SECONDS_A_DAY)
        row: tuple[int, int] | None = self._database.execute("SELECT number, clock_day FROM day").fetchone()
        # Earlier versions dated the days.
        number, seen = row or (self._newest() or clock_day, clock_day)
        number += clock_day > seen
        if row != (number, clock_day):
            self._database.execute("INSERT OR REPLACE INTO day VALUES (1, ?, ?)", (number, clock_day))
        return number

    def _newest(self) -> int | None:
        newest: int | None = self._database.execute("SELECT max(touched_day) FROM position").fetchone()[0]
        return newest


def _key(source: str, generation: str) -> bytes:
    return hashlib.blake2b(f"{source}\0{generation}".encode(), digest_size=16).digest()


def fresh_rows(group: Ints, offsets: Ints, indexes: Ints, reached: _Reached) -> Bools:
    """Return which rows are above their group's position in `reached` (offset, index; -1 for none), each once.

    Advances `reached` past these rows.
    """
    mask = _above(offsets, indexes, reached[group]) & _first_time(group, offsets, indexes)
    # Fresh rows of a group ascend, so the last one is the highest.
    reached[group[mask], 0], reached[group[mask], 1] = offsets[mask], indexes[mask]
    return mask


def _above(offsets: Ints, indexes: Ints, reached: _Reached) -> Bools:
    above: Bools = (offsets > reached[:, 0]) | ((offsets == reached[:, 0]) & (indexes > reached[:, 1]))
    return above


def _first_time(group: Ints, offsets: Ints, indexes: Ints) -> Bools:
    """Return which rows are above all earlier rows of their generation: a batch may contain the same range twice."""
    order = np.argsort(group, kind="stable")
    g, o, i = group[order], offsets[order], indexes[order]
    rises = (g[1:] > g[:-1]) | (o[1:] > o[:-1]) | ((o[1:] == o[:-1]) & (i[1:] > i[:-1]))
    first = np.ones(len(order), np.bool_)
    if not rises.all():
        rank = _rank(g, o, i)
        first[order[1:]] = rank[1:] > np.maximum.accumulate(rank)[:-1]
    return first


def _rank(group: Ints, offsets: Ints, indexes: Ints) -> Ints:
    """Number the rows by (group, offset, index); equal rows get the same number."""
    order = np.lexsort((indexes, offsets, group))
    changes = [np.diff(values[order]) != 0 for values in (group, offsets, indexes)]
    rank = np.empty(len(order), np.int64)
    rank[order] = np.concatenate(([0], np.cumsum(np.logical_or.reduce(changes))))
    return rank
