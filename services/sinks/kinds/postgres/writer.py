"""Write rows to a table, in transactions of some thousand rows, and without the rows that the server refuses.

A transaction copies rows and their words into temporary tables, and moves those rows to the table that are not there. The key
of the table tells which: it is the position of the row, so it does not matter how rows are cut into batches, which process
writes them, or whether the answer to an earlier commit was lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import psycopg
import pyarrow as pa

from libs.common.messages.dead_letters import ErrorCode
from services.sinks.frame.halving import Transactions
from services.sinks.frame.table import TableOutcome, UnfitRow, listed
from services.sinks.frame.times import outside
from services.sinks.kinds.postgres.connection import Connection
from services.sinks.kinds.postgres.copying import Copying
from services.sinks.kinds.postgres.faults import PostgresFault, fault_of, refused, refused_too_often, retry_of
from services.sinks.kinds.postgres.table import ROWS, WORDS
from services.sinks.kinds.postgres.wire import END_SECOND, FIRST_SECOND


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
        unfit = [_untimely(row, column) for row, column in sorted(outside(values, FIRST_SECOND, END_SECOND).items())]
        return Transactions(self._transaction, self._insert_rows, refused_too_often, self.beat).write(values, unfit)

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
                raise refused(error) from error
            raise retry_of(error) from error


def _copy(table: str, names: Sequence[str]) -> str:
    return f"COPY {table} ({listed(names)}) FROM STDIN (FORMAT binary)"


def _untimely(row: int, column: str) -> UnfitRow:
    return UnfitRow(row, ErrorCode.REFUSED, f"the time in column {column} is outside the years that postgres has")
