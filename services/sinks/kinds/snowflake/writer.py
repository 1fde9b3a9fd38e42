"""Write rows to a table: as a file to a stage, from there to a temporary table, and from that what is new to the table.

Only the last statement changes the table, and it does so completely or not at all. It recognises the rows that are there, so it
does not matter how rows are cut into loads, which process writes them, or whether the answer to an earlier load was lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import uuid4

import pyarrow as pa
from snowflake.connector.errors import Error

from libs.common.errors import Retry
from libs.common.messages.dead_letters import ErrorCode
from services.sinks.frame.halving import Transactions
from services.sinks.frame.table import TableOutcome, UnfitRow, quoted
from services.sinks.frame.times import END_SECOND, FIRST_SECOND, outside
from services.sinks.kinds.snowflake.connection import Connection
from services.sinks.kinds.snowflake.encoding import parquet
from services.sinks.kinds.snowflake.faults import SnowflakeFault, fault_of, refused, refused_too_often, retry_of
from services.sinks.kinds.snowflake.table import Table, times_of

_LOADED: Final = 3  # the column of the result of COPY with the number of rows


class TableWriter:
    """Writes to one table, in one session."""

    def __init__(self, connection: Connection, table: Table, insert_rows: int) -> None:
        """Take an open connection; `open` comes before anything else."""
        self._connection = connection
        self._table = table
        self._insert_rows = insert_rows
        # A name of its own: something of the same name in the schema would have to be ours.
        self._name = f"BLOBTIDE_{uuid4().hex.upper()}"

    def open(self) -> None:
        """Create the temporary table and the stage. Raises `Error`."""
        for statement in self._table.stage(self._name):
            self._connection.ask(statement)

    def write(self, values: pa.Table, beat: Callable[[], None]) -> TableOutcome:
        """Write the rows that the table does not contain yet; columns have the table's names.

        Raises:
            Retry: if Snowflake does not respond or cannot do it now; some rows may have been stored.
            ConfigError: if it refuses too many rows.
        """
        unfit = [_untimely(row, column) for row, column in sorted(outside(values, FIRST_SECOND, END_SECOND).items())]
        return Transactions(self._store, self._insert_rows, refused_too_often, beat).write(values, unfit)

    def _store(self, values: pa.Table) -> int:
        """Store rows and return how many are new.

        Raises:
            RowsRefused: if the table does not accept all of them; none is stored.
            Retry: if they may or may not have been stored.
        """
        try:
            return self._load(values)
        except Error as error:
            if fault_of(error) is SnowflakeFault.ROWS:
                raise refused(error) from error
            raise retry_of(error) from error

    def _load(self, values: pa.Table) -> int:
        ask, table, name = self._connection.ask, self._table, self._name
        file = self._connection.upload(parquet(values), table.place(name))
        ask(f"TRUNCATE TABLE {quoted(name)}")  # of rows that were refused
        (copied,) = ask(table.copy(name, file))
        if len(copied) <= _LOADED or int(copied[_LOADED]) != values.num_rows:
            raise Retry(f"snowflake did not load all of {values.num_rows} rows: {copied}", kind="server")
        (changed,) = ask(table.merge(name, times_of(values, table)))
        return sum(map(int, changed))


def _untimely(row: int, column: str) -> UnfitRow:
    return UnfitRow(row, ErrorCode.REFUSED, f"the time in column {column} is outside the years that snowflake has (1 to 9999)")
