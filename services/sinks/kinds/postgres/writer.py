"""Write rows to a table, in transactions of some thousand rows, and without the rows that the server refuses.

A transaction copies rows and their words into temporary tables, and moves those rows to the table that are not there. The key
of the table tells which: it is the position of the row, so it does not matter how rows are cut into batches, which process
writes them, or whether the answer to an earlier commit was lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final

import psycopg
import pyarrow as pa

from libs.common.messages.dead_letters import ErrorCode
from services.sinks.frame.table import TableOutcome, UnfitRow, listed
from services.sinks.frame.times import outside
from services.sinks.kinds.postgres.connection import Connection
from services.sinks.kinds.postgres.copying import Copying
from services.sinks.kinds.postgres.faults import PostgresFault, RowsRefused, fault_of, refused_too_often, retry_of
from services.sinks.kinds.postgres.table import ROWS, WORDS
from services.sinks.kinds.postgres.wire import END_SECOND, FIRST_SECOND

MOST_REFUSED: Final = 100
"""How many rows of a batch the server may refuse: finding each takes about fifteen transactions."""


class TableWriter:
    """Writes to one table. `beat` is called after each transaction."""

    def __init__(self, connection: Connection, insert: str, insert_rows: int) -> None:
        """Take an open connection that has the temporary tables, and the statement that moves rows from them."""
        self._connection = connection
        self._insert = insert
        self._insert_rows = insert_rows
        self.beat: Callable[[], None] = lambda: None

    def write(self, values: pa.Table) -> TableOutcome:
        """Write the rows that the table does not contain yet; columns have the table's names.

        Raises:
            Retry: if the server does not respond or cannot do it now; some rows may have been stored.
            ConfigError: if it refuses too many rows.
        """
        refused = [_untimely(row, column) for row, column in sorted(outside(values, FIRST_SECOND, END_SECOND).items())]
        written = tried = 0
        for start, end in _between(refused, values.num_rows):
            for at in range(start, end, self._insert_rows):
                rows = min(self._insert_rows, end - at)
                stored, bad = self._store(values, at, rows, MOST_REFUSED - len(refused))
                refused += bad
                written += stored
                tried += rows - len(bad)
        return TableOutcome(written, tried - written, sorted(refused, key=lambda bad: bad.row))

    def _store(self, values: pa.Table, at: int, rows: int, most_refused: int) -> tuple[int, list[UnfitRow]]:
        """Store a range of rows; if the server refuses some, find them by halving."""
        refused: list[UnfitRow] = []
        written = 0
        left = [(at, rows)]
        while left:
            start, count = left.pop()
            try:
                written += self._transaction(values.slice(start, count))
            except RowsRefused as error:
                if count == 1:
                    if len(refused) >= most_refused:
                        raise refused_too_often(error) from error
                    refused.append(UnfitRow(start, error.code, error.reason))
                else:
                    half = count // 2
                    left += [(start + half, count - half), (start, half)]
            self.beat()
        return written, refused

    def _transaction(self, values: pa.Table) -> int:
        """Store rows and return how many are new.

        Raises:
            RowsRefused: if the server does not accept all of them; none is stored.
            Retry: if they may or may not have been stored.
        """
        copying = Copying(values)
        try:
            with self._connection.transaction():
                if copying.word_names:
                    self._connection.copy(_copy(WORDS, copying.word_names), copying.words())
                self._connection.copy(_copy(ROWS, copying.names), copying.rows())
                return self._connection.run(self._insert)
        except psycopg.Error as error:
            if fault_of(error) is PostgresFault.ROWS:
                raise RowsRefused(error) from error
            raise retry_of(error) from error


def _copy(table: str, names: Sequence[str]) -> str:
    return f"COPY {table} ({listed(names)}) FROM STDIN (FORMAT binary)"


def _between(refused: list[UnfitRow], rows: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of rows that are not refused."""
    edges = [-1, *(bad.row for bad in refused), rows]
    return ((before + 1, after) for before, after in pairwise(edges) if after > before + 1)


def _untimely(row: int, column: str) -> UnfitRow:
    return UnfitRow(row, ErrorCode.REFUSED, f"the time in column {column} is outside the years that postgres has")
