"""The ``postgres`` sink: rows of a PostgreSQL or Timescale table, effectively once.

Rows are copied as columns in PostgreSQL's binary form into temporary tables, and moved from there by ``INSERT ... ON CONFLICT
DO NOTHING`` in the same transaction; words are sent once for all rows of a transaction that have them. The table's primary key
is the position of the row in its source, so a row that comes again, in whatever batch and from whatever process, is recognised
by the table itself; a commit whose answer was lost needs no thought. Of row types with keys, only the newest row of each key is
kept (``ON CONFLICT DO UPDATE``). A write returns when its transactions are committed and on the server's disk.

``blobtide sink-setup`` creates the table, adds new columns later, and shows the statements that it has run. With layout
``daily`` the table has a partition per UTC day, which the sink creates ahead and when rows need it, and drops after
`retention_days`. A row that the server refuses is found by halving and reported in the outcome; a server that cannot accept
rows now, is a standby, or waits for its operator delays the sink.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import psycopg
import pyarrow as pa
import structlog

from libs.common.errors import ConfigError, Retry
from libs.common.rows.identity import Identities
from libs.common.rows.row_type import RowType
from libs.common.settings import Settings
from services.sinks.frame.contract import Outcome, Part, RejectedRow, Sink
from services.sinks.frame.kind import Promise
from services.sinks.frame.table import quoted
from services.sinks.kinds.postgres.connection import KIND, Connection, parameters
from services.sinks.kinds.postgres.faults import retry_of, said, start_error
from services.sinks.kinds.postgres.partitions import AHEAD, DailyPartitions, day_of, days_of
from services.sinks.kinds.postgres.settings import Layout, PostgresSettings
from services.sinks.kinds.postgres.table import SOURCE_ID, Existing, Table, table_of
from services.sinks.kinds.postgres.writer import TableWriter

log = structlog.get_logger(__name__)

_SETUP: Final = "run `blobtide sink-setup`"
_MAINTAIN_SECONDS: Final = 3_600.0


class PostgresSink(Sink):
    """Rows in a table."""

    def __init__(self, settings: PostgresSettings, row_type: RowType, clock: Callable[[], float] = time.time) -> None:
        """Check the settings against the row type. Raises `ConfigError`."""
        self._settings = settings
        self._row_type = row_type
        self._clock = clock
        self._name = KIND
        self._table, self._shape = table_of(row_type, settings)
        self._has_id = any(column.name == SOURCE_ID for column in self._table.columns)
        self._connection: Connection | None = None
        self._writer: TableWriter | None = None
        self._partitions: DailyPartitions | None = None
        self._maintained_at = clock()
        self._beat: Callable[[], None] = lambda: None

    @property
    def promise(self) -> Promise:
        """Effectively once."""
        return Promise.EFFECTIVELY_ONCE

    def join(self, name: str, pipeline: Settings) -> None:
        """Take the name, which the server shows for our connections."""
        del pipeline
        self._name = name

    def read_files(self) -> None:
        """Read the password and check the TLS files."""
        parameters(self._settings)

    def setup(self) -> str:
        """Create the table or add the columns that it lacks, and return what was done with its statements."""
        connection = self._connected_at_start()
        try:
            summary, statements = self._set_up(connection)
        except psycopg.Error as error:
            raise start_error(error) from error
        finally:
            connection.close()
        return "\n".join([summary, *(f"{statement};" for statement in statements)])

    def open(self) -> None:
        """Sign in and check that the table matches."""
        self.close()
        self._maintained_at = self._clock()
        connection = self._connected_at_start()
        try:
            self._prepare(connection)
        except psycopg.Error as error:
            connection.close()
            raise start_error(error) from error
        except BaseException:
            connection.close()
            raise

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Store the rows that the table does not have."""
        writer = self._ready()
        written, already_there = 0, 0
        rejected: list[RejectedRow] = []
        try:
            for number, part in enumerate(parts):
                self._make_partitions(part)
                done = writer.write(self._values(part))
                written += done.written
                already_there += done.already_there
                rejected += (RejectedRow(number, bad.row, bad.code, bad.reason) for bad in done.refused)
        except BaseException:
            self.close()  # nothing is known about the connection; another server may have taken over
            raise
        return Outcome(written, already_there, tuple(rejected))

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Call `beat` after each transaction."""
        self._beat = beat
        if self._writer is not None:
            self._writer.beat = beat

    def tick(self) -> None:
        """Create partitions ahead and drop old ones, every hour."""
        if self._partitions is None or 0 <= self._clock() - self._maintained_at < _MAINTAIN_SECONDS:
            return
        self._maintained_at = self._clock()
        try:
            self._keep(self._partitions)
        except psycopg.Error as error:
            log.warning("partitions will be looked after later", table=str(self._table), reason=said(error))

    def close(self) -> None:
        """Close the connection; idempotent."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._writer = self._partitions = None

    def _connected_at_start(self) -> Connection:
        try:
            return self._connect()
        except psycopg.Error as error:
            raise start_error(error) from error

    def _connect(self) -> Connection:
        return Connection(self._settings, f"blobtide sink {self._name}")

    def _prepare(self, connection: Connection) -> None:
        """Check the table and make a writer. Raises `psycopg.Error`, `ConfigError`."""
        existing = Existing.of(connection, self._table.schema, self._table.name)
        if existing is None:
            raise ConfigError(f"postgres: there is no table {self._table} that this user may see: {_SETUP}")
        if missing := self._table.missing(existing):
            names = ", ".join(column.name for column in missing)
            raise ConfigError(f"postgres: the table {self._table} has no column {names}: {_SETUP}")
        writer = TableWriter(connection, self._table.insert(existing), self._settings.insert_rows)
        for statement in self._table.stage():
            connection.run(statement)
        writer.beat = self._beat
        partitions = DailyPartitions(connection, self._table) if self._settings.layout is Layout.DAILY else None
        if partitions is not None:
            self._keep(partitions)
        self._connection, self._writer, self._partitions = connection, writer, partitions

    def _ready(self) -> TableWriter:
        """Return the writer; connect again if the connection was lost. Raises `Retry`."""
        if self._connection is None or self._writer is None or not self._connection.is_open:
            self.close()
            connection = None
            try:
                connection = self._connect()
                self._prepare(connection)
            except psycopg.Error as error:
                _close(connection)
                raise retry_of(error) from error
            except ConfigError as error:  # the start was fine, so somebody is changing the table
                _close(connection)
                raise Retry(str(error), after=5.0, kind="operator") from error
        assert self._writer is not None  # noqa: S101
        return self._writer

    def _values(self, part: Part) -> pa.Table:
        values = self._shape.apply(part.rows)
        if not self._has_id:
            return values
        return values.add_column(0, pa.field(SOURCE_ID, pa.binary(16), nullable=False), _source_ids(part))

    def _make_partitions(self, part: Part) -> None:
        if self._partitions is None:
            return
        try:
            self._partitions.ensure(days_of(part.rows.column(self._row_type.time)), day_of(self._clock()))
        except psycopg.Error as error:
            raise retry_of(error) from error

    def _keep(self, partitions: DailyPartitions) -> None:
        today = day_of(self._clock())
        partitions.ahead(today)
        if self._settings.retention_days:
            dropped = partitions.drop_before(today - self._settings.retention_days)
            if dropped:
                log.info("dropped old partitions", table=str(self._table), partitions=dropped)

    def _set_up(self, connection: Connection) -> tuple[str, list[str]]:
        """Bring the table into its form; return a summary and the statements. Raises `psycopg.Error`, `ConfigError`."""
        table = self._table
        existing = Existing.of(connection, table.schema, table.name)
        missing = table.missing(existing) if existing else table.columns
        statements: list[str] = []
        if existing is None:
            statements += self._creation(connection)
        elif missing:
            statements += table.add(missing)
        with connection.transaction():
            for statement in statements:
                connection.run(statement)
        if existing is not None:
            table.conflict(existing)
        if existing is None:
            return f"created the table {table} with {len(table.columns)} columns", statements
        added = ", ".join(column.name for column in missing)
        return (f"added to the table {table}: {added}" if added else f"the table {table} has all columns"), statements

    def _creation(self, connection: Connection) -> Iterator[str]:
        table, settings = self._table, self._settings
        if not connection.ask("SELECT 1 FROM pg_namespace WHERE nspname = %s", (table.schema,)):
            yield f"CREATE SCHEMA {quoted(table.schema)}"
        if settings.layout is Layout.HYPERTABLE and connection.ask("SELECT to_regproc('create_hypertable') IS NULL") == [
            (True,)
        ]:
            raise ConfigError(
                f"postgres: layout hypertable needs Timescale: run CREATE EXTENSION timescaledb in database {settings.database}"
            )
        yield from table.create(connection.version)
        if settings.layout is Layout.DAILY:
            partitions, today = DailyPartitions(connection, table), day_of(self._clock())
            yield partitions.default_sql
            for day in range(today, today + AHEAD + 1):
                yield from partitions.statements(day)
        if settings.layout is Layout.HYPERTABLE:
            yield from _hypertable(table, settings.retention_days)


def _hypertable(table: Table, retention_days: int) -> Iterator[str]:
    name = "'" + table.sql.replace("'", "''") + "'"
    time_column = "'" + table.names.time.replace("'", "''") + "'"
    yield f"SELECT create_hypertable({name}, {time_column}, chunk_time_interval => INTERVAL '1 day')"
    if retention_days:
        yield f"SELECT add_retention_policy({name}, INTERVAL '{retention_days} days')"


def _close(connection: Connection | None) -> None:
    if connection is not None:
        connection.close()


def _source_ids(part: Part) -> pa.Array:
    """Return the hash of each row's source and generation."""
    identities = Identities.of(part.rows, part.row_type.position)
    ids = np.frombuffer(bytes.fromhex("".join(identities.generations.to_pylist())), "V16")[identities.generation]
    return pa.Array.from_buffers(pa.binary(16), len(ids), [None, pa.py_buffer(np.ascontiguousarray(ids))])
