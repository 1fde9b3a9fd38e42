"""Determine which rows the table already contains.

The table is the only memory. For each source, this process knows the last position in the table: the one found when the source
was first seen, advanced by what this process has written since. A row after it is new, because a source has only one writer at
a time. For other rows, such as rows that come again after a crash or a reset of offsets, the table is queried. In normal
operation, queries are therefore made only for new sources, and blobs are new once an hour.

A writer presumed dead may still be running, so that both insert the same row. Insert tokens handle this if both cut their
inserts alike, and merges if they do not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.row_text import Bools, Ints
from services.sinks.frame.table import Names
from services.sinks.kinds.clickhouse.client import ClickHouse, quoted, text
from services.sinks.kinds.clickhouse.places import RowPlaces, Source
from services.sinks.kinds.clickhouse.table import TableName

_SOURCES_A_QUERY: Final = 500
_MOST_SOURCES: Final = 100_000  # per shard; about 300 bytes each. A forgotten source costs a query.
_NOTHING: Final = (-1, -1)
_FROM_UNIX: Final = {
    "s": "fromUnixTimestamp64Second",
    "ms": "fromUnixTimestamp64Milli",
    "us": "fromUnixTimestamp64Micro",
    "ns": "fromUnixTimestamp64Nano",
}
# Rows of a source are roughly in order of time: a row after others is never earlier than them by this much.
_SLACK: Final = "toIntervalHour(1)"


class Presence:
    """What is known about a table."""

    def __init__(self, client: ClickHouse, table: TableName, names: Names) -> None:
        self._client = client
        self._table = table
        self._names = names
        self._reached: dict[int, dict[Source, tuple[int, int]]] = {}  # by shard; the least recently seen first

    def absent(self, shard: int, places: RowPlaces, times: pa.ChunkedArray) -> Ints:
        """Return the numbers of the rows that are not in the table, ascending, each position once.

        Raises:
            Retry, ConfigError: if the table cannot be queried.
        """
        known = self._reached.setdefault(shard, {})
        self._learn(known, places, times)
        first = places.first_times()
        doubtful = np.flatnonzero(first & ~places.above([known[source] for source in places.sources]))
        if len(doubtful):
            first[doubtful[self._present(places, doubtful, times)]] = False
        return np.flatnonzero(first)

    def missing(self, places: RowPlaces, rows: Ints, times: pa.ChunkedArray) -> Ints:
        """Query the table, and return which of the given rows it lacks. Raises as `absent` does."""
        return rows[~self._present(places, rows, times)]

    def wrote(self, shard: int, places: RowPlaces) -> None:
        """Note that all rows are in the table or never will be."""
        known = self._reached.get(shard)
        if known is None:  # forgotten during the write
            return
        for source, position in places.highest():
            known[source] = max(known.pop(source, _NOTHING), position)
        for source in list(islice(known, max(0, len(known) - _MOST_SOURCES))):
            del known[source]

    def forget(self, shards: Collection[int]) -> None:
        """Forget shards, because another process writes them now or the result of a write is unknown."""
        for shard in shards:
            self._reached.pop(shard, None)

    def _learn(self, known: dict[Source, tuple[int, int]], places: RowPlaces, times: pa.ChunkedArray) -> None:
        """Query the last positions of sources that are new."""
        new = [source for source in places.sources if source not in known]
        if not new:
            return
        s, g, o, i = map(quoted, self._names.position)
        highest = f"SELECT {s} AS s, {g} AS g, max({o}) AS o, argMax({i}, ({o}, {i})) AS i FROM {self._table.sql}"  # noqa: S608 - quoted
        since = f"{quoted(self._names.time)} >= {_literal(pc.min(times))} - {_SLACK}"
        for some in _some(new):
            rows = self._client.query(f"{highest} WHERE {since} AND ({s}, {g}) IN {_tuples(some)} GROUP BY {s}, {g}")
            found = {(row["s"], row["g"]): (int(row["o"]), int(row["i"])) for row in rows}
            known.update({source: found.get(source, _NOTHING) for source in some})

    def _present(self, places: RowPlaces, doubtful: Ints, times: pa.ChunkedArray) -> Bools:
        """Return which of the doubtful rows are in the table."""
        asked, when = places.take(doubtful), times.take(pa.array(doubtful))
        found = [self._found(some, asked, when) for some in _some(_distinct(places, doubtful))]
        numbered = asked.append_column("n", pa.array(np.arange(len(doubtful))))
        there = numbered.join(pa.concat_tables(found), ["s", "g", "o", "i"], join_type="left semi", use_threads=False)
        present = np.zeros(len(doubtful), np.bool_)
        present[there.column("n").to_numpy()] = True
        return present

    def _found(self, sources: Sequence[Source], asked: pa.Table, times: pa.ChunkedArray) -> pa.Table:
        s, g, o, i = map(quoted, self._names.position)
        first, last = map(_literal, pc.min_max(times).values())
        lowest, highest = (value.as_py() for value in pc.min_max(asked.column("o")).values())
        rows = f"SELECT {s} AS s, {g} AS g, {o} AS o, {i} AS i FROM {self._table.sql}"  # noqa: S608 - quoted
        when = f"{quoted(self._names.time)} BETWEEN {first} AND {last}"
        found = self._client.columns(
            f"{rows} WHERE {when} AND ({s}, {g}) IN {_tuples(sources)} AND {o} BETWEEN {lowest} AND {highest}"
        )
        return found.cast(asked.schema)


def _some(sources: Sequence[Source]) -> Iterator[Sequence[Source]]:
    return (sources[at : at + _SOURCES_A_QUERY] for at in range(0, len(sources), _SOURCES_A_QUERY))


def _distinct(places: RowPlaces, rows: Ints) -> list[Source]:
    return [places.sources[number] for number in np.unique(places.source[rows]).tolist()]


def _tuples(sources: Sequence[Source]) -> str:
    return "(" + ", ".join(f"({text(source)}, {text(generation)})" for source, generation in sources) + ")"


def _literal(time: Any) -> str:
    """Return a time (a timestamp scalar) as an expression."""
    return f"{_FROM_UNIX[time.type.unit]}(toInt64({time.value}), 'UTC')"
