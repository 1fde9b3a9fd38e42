"""The ``snowflake`` sink: rows of a Snowflake table, effectively once.

A load is a Parquet file in a temporary stage of the session, copied into a temporary table, and one ``MERGE`` that adds the
rows whose position the table does not contain. That is one transaction, so a row that comes again, in whatever batch and from
whatever process, is recognised, and a load whose answer was lost needs no thought. Of row types with keys, only the newest row
of each key is kept. ``MERGE`` statements on one table run one after the other. A session sees everything that was committed
before it began, but perhaps not yet what another one has committed a moment ago: a process therefore begins a new session when
it takes over a shard. A write returns when its rows are committed.

``blobtide sink-setup`` creates the table, adds new columns later, and shows the statements that it has run; ``blobtide
sink-maintain`` deletes rows older than `retention_days`. A row that the table refuses is found by halving and reported in the
outcome; a service that cannot accept rows now, or waits for its operator, delays the sink.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from typing import Final, TypeVar

import pyarrow as pa
from snowflake.connector.errors import Error

from libs.common.errors import ConfigError, Retry
from libs.common.rows.row_type import RowType
from libs.common.settings import Settings
from services.sinks.frame.contract import Outcome, Part, RejectedRow, Sink
from services.sinks.frame.kind import Promise
from services.sinks.frame.table import UnfitRow, quoted
from services.sinks.kinds.snowflake.connection import KIND, Connection, parameters
from services.sinks.kinds.snowflake.faults import retry_of, start_error
from services.sinks.kinds.snowflake.patience import Patience
from services.sinks.kinds.snowflake.settings import SnowflakeSettings
from services.sinks.kinds.snowflake.table import Existing, Table, table_of
from services.sinks.kinds.snowflake.writer import TableWriter

_SETUP: Final = "run `blobtide sink-setup`"
_DAY_SECONDS: Final = 86_400

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Session:
    """A session that writes."""

    connection: Connection
    writer: TableWriter


class SnowflakeSink(Sink):
    """Rows in a table."""

    def __init__(self, settings: SnowflakeSettings, row_type: RowType, clock: Callable[[], float] = time.time) -> None:
        """Check the settings against the row type. Raises `ConfigError`."""
        self._settings = settings
        self._clock = clock
        self._name = KIND
        self._table, self._shape = table_of(row_type, settings)
        self._patience = Patience()
        self._session: _Session | None = None
        self._shards: set[int] = set()  # of which the session, or the next one, sees all rows

    @property
    def promise(self) -> Promise:
        """Effectively once."""
        return Promise.EFFECTIVELY_ONCE

    def join(self, name: str, pipeline: Settings) -> None:
        """Take the name, which the query history shows for our statements."""
        del pipeline
        self._name = name

    def read_files(self) -> None:
        """Read the key or the secret."""
        parameters(self._settings)

    def setup(self) -> str:
        """Create the table or add the columns that it lacks, and return what was done with its statements."""
        return self._once(self._set_up, is_strict=False)

    def maintain(self) -> str:
        """Delete rows older than `retention_days`."""
        days = self._settings.retention_days
        if not days:
            return f"nothing to do for the table {self._table}: retention_days is 0"
        second = int(self._clock() // _DAY_SECONDS - days) * _DAY_SECONDS
        ((deleted,),) = self._once(lambda connection: connection.ask(self._table.delete_before(second)))
        return (
            f"deleted {int(deleted):,} rows before {datetime.fromtimestamp(second, UTC):%Y-%m-%d} from the table {self._table}"
        )

    def open(self) -> None:
        """Sign in and check that the table matches."""
        self.close()
        self._once(self._writer)

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Store the rows that the table does not have; rows of all parts in the same loads."""
        writer = self._ready({part.shard for part in parts})
        # Numbers stay where they are, and only words get new ones: a copy of everything would be half of the memory of a write.
        values = pa.concat_tables([self._shape.apply(part.rows) for part in parts]).unify_dictionaries()
        try:
            done = writer.write(values, self._patience.beat)
        except BaseException:
            self.close()  # nothing is known about the session
            raise
        return Outcome(done.written, done.already_there, tuple(_rejected(parts, done.refused)))

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Call `beat` while a statement runs."""
        self._patience.beat = beat

    def release(self, shards: Collection[int]) -> None:
        """Forget that the session sees all rows of these shards: other processes write them now."""
        self._shards.difference_update(shards)

    def close(self) -> None:
        """End the session; idempotent."""
        if self._session is not None:
            self._session.connection.close()
        self._session = None

    def _once(self, do: Callable[[Connection], Result], *, is_strict: bool = True) -> Result:
        """Do something in a session of its own. Raises `ConfigError`, `ServerUnreachable`."""
        try:
            connection = self._connect(is_strict=is_strict)
            try:
                return do(connection)
            finally:
                connection.close()
        except Error as error:
            raise start_error(error) from error

    def _connect(self, *, is_strict: bool = True) -> Connection:
        return Connection(self._settings, f"blobtide sink {self._name}", self._patience, is_strict=is_strict)

    def _ready(self, shards: set[int]) -> TableWriter:
        """Return the writer of a session that sees all rows of some shards. Raises `Retry`."""
        session, is_older = self._session, not shards <= self._shards
        self._shards |= shards  # now: some may be released while a session begins
        if session is None or is_older or not session.connection.is_open:
            self.close()
            session = self._session = self._begin()
        return session.writer

    def _begin(self) -> _Session:
        try:
            connection = self._connect()
            try:
                return _Session(connection, self._writer(connection))
            except BaseException:
                connection.close()
                raise
        except Error as error:
            raise retry_of(error) from error
        except ConfigError as error:  # the start was fine, so somebody is changing the table
            raise Retry(str(error), after=5.0, kind="operator") from error

    def _writer(self, connection: Connection) -> TableWriter:
        """Check the table and return a writer that is ready. Raises `Error`, `ConfigError`."""
        existing = Existing.of(connection, self._table)
        if existing is None:
            raise ConfigError(f"snowflake: there is no table {self._table} that this role may see: {_SETUP}")
        if missing := self._table.missing(existing):
            names = ", ".join(column.name for column in missing)
            raise ConfigError(f"snowflake: the table {self._table} has no column {names}: {_SETUP}")
        writer = TableWriter(connection, self._table, self._settings.insert_rows)
        writer.open()
        return writer

    def _set_up(self, connection: Connection) -> str:
        """Bring the table into its form; return a summary and the statements. Raises `Error`, `ConfigError`."""
        table = self._table
        existing = Existing.of(connection, table)
        missing = table.columns if existing is None else table.missing(existing)
        statements = [table.add(missing)] if missing else []
        if existing is None:
            statements = [*_creation_of_schema(connection, table), table.create()]
        for statement in statements:
            connection.ask(statement)
        added = ", ".join(column.name for column in missing)
        summary = f"added to the table {table}: {added}" if added else f"the table {table} has all columns"
        if existing is None:
            summary = f"created the table {table} with {len(missing)} columns"
        return "\n".join([summary, *(f"{statement};" for statement in statements)])


def _creation_of_schema(connection: Connection, table: Table) -> Iterator[str]:
    schemas = connection.ask(f"SHOW SCHEMAS IN DATABASE {quoted(table.database)}")
    if table.schema not in {row[1] for row in schemas}:
        yield f"CREATE SCHEMA {table.schema_sql}"


def _rejected(parts: Sequence[Part], refused: Iterable[UnfitRow]) -> Iterator[RejectedRow]:
    """Yield the refused rows by part; they are numbered over all parts."""
    ends = list(accumulate(part.rows.num_rows for part in parts))
    for bad in refused:
        part = bisect_right(ends, bad.row)
        yield RejectedRow(part, bad.row - (ends[part - 1] if part else 0), bad.code, bad.reason)
