"""The ``sqlite`` sink: rows of a table in an SQLite file, effectively once.

The table's primary key is the position of the row in its source, and rows are added by ``INSERT ... ON CONFLICT DO NOTHING``:
a row that comes again, in whatever batch and from whatever process, changes nothing. A write returns when its transactions are
committed and synced (WAL, ``synchronous = FULL``): what a kill or a power failure interrupts is rolled back as a whole and
comes again. Of row types with keys, only the newest row of each key is kept.

The table is created when the sink starts, and columns that are new are added to it. Several workers on one machine may share
the file; they take turns, transaction by transaction. Readers are never kept waiting. With `retention_days`, older rows are
deleted in small steps, and their space is given back. If the disk is full, the sink waits and says so.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

import pyarrow as pa
import structlog
from pydantic import Field, StringConstraints

from libs.common.errors import ConfigError, Retry
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.row_type import RowType
from services.sinks.frame.contract import Outcome, Part, RejectedRow, Sink
from services.sinks.frame.kind import Promise
from services.sinks.frame.settings import SinkSettings
from services.sinks.frame.table import quoted
from services.sinks.kinds.sqlite.database import Database, translated
from services.sinks.kinds.sqlite.table import rows_of, table_of, time_text, unfit

log = structlog.get_logger(__name__)

MOST_REFUSED: Final = 100
"""How many rows of a batch the table may refuse."""

EXPIRE_ROWS: Final = 5_000
"""Rows that one step of retention deletes, in some ten milliseconds."""

_EXPIRE_SECONDS: Final = 3_600.0
_FREE_PAGES: Final = 2_000
_INSERT_ROWS: Final = 8_192
_DAY_SECONDS: Final = 86_400

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]


class SqliteSettings(SinkSettings):
    """sinks.sqlite."""

    file: Path = Field(description="File of the database, created if missing, on a local file system.")
    table: Identifier | None = Field(default=None, description="Name of the table. Default: the row type.")
    retention_days: int = Field(
        default=0, ge=0, le=36_500, description="Days after which rows are deleted, by their own time. 0: never."
    )
    wait_seconds: float = Field(
        default=10.0, gt=0, le=40, description="Maximum seconds to wait while another process writes to the file."
    )


class SqliteSink(Sink):
    """Rows in a table."""

    def __init__(self, settings: SqliteSettings, row_type: RowType, clock: Callable[[], float] = time.time) -> None:
        """Check the settings against the row type. Raises `ConfigError`."""
        self._settings = settings
        self._clock = clock
        self._table, self._shape = table_of(row_type, settings, settings.table or row_type.name)
        self._database: Database | None = None
        self._expire_at = 0.0
        self._beat: Callable[[], None] = lambda: None

    @property
    def promise(self) -> Promise:
        """Effectively once."""
        return Promise.EFFECTIVELY_ONCE

    def setup(self) -> str:
        """Create the file and the table, or add the columns that it lacks."""
        try:
            with translated(self._settings.file):
                database, done = self._opened()
                database.close()
        except Retry as error:
            raise ConfigError(f"file: {error}") from error
        return done

    def open(self) -> None:
        """Open the file, and create the table or the columns that are missing."""
        self.close()
        try:
            with translated(self._settings.file):
                self._database, done = self._opened()
        except Retry as error:
            if error.kind != "busy":
                raise ConfigError(f"file: {error}") from error
        else:
            log.info("opened", done=done)

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Call `beat` after each transaction."""
        self._beat = beat

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Add the rows that the table does not have."""
        written = total = 0
        rejected: list[RejectedRow] = []
        for number, part in enumerate(parts):
            values = self._shape.apply(part.rows)
            total += values.num_rows
            refused = unfit(values)
            for start, end in _between(sorted(refused), values.num_rows):
                written += self._add(values, start, end, refused)
            rejected += (RejectedRow(number, row, ErrorCode.REFUSED, reason) for row, reason in sorted(refused.items()))
        return Outcome(written, total - written - len(rejected), tuple(rejected))

    def tick(self) -> None:
        """Delete some of the rows that are too old, and give free space back."""
        now = self._clock()
        if not self._settings.retention_days or now < self._expire_at <= now + _EXPIRE_SECONDS:
            return
        try:
            with self._guarded() as database:
                is_done = self._expire(database, int(now) - self._settings.retention_days * _DAY_SECONDS)
        except Retry as error:
            log.warning("old rows will be deleted later", reason=str(error))
            is_done = True
        if is_done:
            self._expire_at = now + _EXPIRE_SECONDS

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _add(self, values: pa.Table, start: int, end: int, refused: dict[int, str]) -> int:
        """Add a range of rows in transactions, and return how many are new. Rows that are refused are added to `refused`."""
        written = 0
        for at in range(start, end, _INSERT_ROWS):
            rows = rows_of(values.slice(at, min(_INSERT_ROWS, end - at)).combine_chunks())
            with self._guarded() as database, database.transaction():
                written += self._insert(database, rows, at, refused)
            self._beat()
        return written

    def _insert(self, database: Database, rows: Sequence[tuple[object, ...]], at: int, refused: dict[int, str]) -> int:
        """Add rows, the first of which is row `at`; if the table refuses some, find them by halving."""
        try:
            return database.run_many(self._table.insert, rows)
        except (sqlite3.IntegrityError, sqlite3.DataError) as error:
            if len(rows) == 1:
                refused[at] = f"sqlite refuses the row: {error.sqlite_errorname}"
                if len(refused) > MOST_REFUSED:
                    advice = "refuses row after row: change its table, or leave such rows out (`where`)"
                    raise ConfigError(f"sqlite {advice}. The last one: {refused[at]}") from error
                return 0
        half = len(rows) // 2
        written = self._insert(database, rows[:half], at, refused)
        return written + self._insert(database, rows[half:], at + half, refused)

    def _expire(self, database: Database, before: int) -> bool:
        """Delete some old rows; return whether none are left and the free space is given back."""
        with database.transaction():
            deleted = database.run(self._table.expire(EXPIRE_ROWS), (time_text(before),))
        if deleted == EXPIRE_ROWS:
            return False
        database.give_back(_FREE_PAGES)
        return database.ask("PRAGMA freelist_count")[0][0] == 0 or database.ask("PRAGMA auto_vacuum") == [(0,)]

    @contextmanager
    def _guarded(self) -> Iterator[Database]:
        """Give the open database; after any exception it is closed, and the next use opens it again."""
        try:
            with translated(self._settings.file):
                if self._database is None:
                    self._database, _ = self._opened()
                yield self._database
        except BaseException:
            self.close()
            raise

    def _opened(self) -> tuple[Database, str]:
        """Open the file with the table in its form, and say what was done."""
        self._settings.file.parent.mkdir(parents=True, exist_ok=True)
        database = Database(self._settings.file, self._settings.wait_seconds)
        try:
            with database.transaction():
                return database, self._prepare(database)
        except BaseException:
            database.close()
            raise

    def _prepare(self, database: Database) -> str:
        table, where = self._table, f"in {self._settings.file}"
        existing = [name for _, name, *_ in database.ask(f"PRAGMA table_info({table.sql})")]
        if not existing:
            for statement in table.create:
                database.run(statement)
            return f"created the table {table.name} with {len(table.columns)} columns {where}"
        missing = table.missing(existing)
        for statement in table.add(missing):
            database.run(statement)
        self._check_key(database)
        added = ", ".join(column.name for column in missing)
        return (
            f"added to the table {table.name} {where}: {added}" if added else f"the table {table.name} {where} has all columns"
        )

    def _check_key(self, database: Database) -> None:
        """Check that the table itself recognises a row that comes again, by having the statement prepared."""
        try:
            database.ask(f"EXPLAIN {self._table.insert}", (None,) * len(self._table.columns))
        except sqlite3.OperationalError as error:
            if "ON CONFLICT" not in str(error):
                raise
            unique = ", ".join(map(quoted, self._table.names.keys or self._table.names.position))
            raise ConfigError(
                f"sqlite: nothing keeps {unique} unique in the table {self._table.name}, so rows would be there twice: give the"
                " sink another table"
            ) from error


def _between(refused: Sequence[int], rows: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of rows that are not refused."""
    return ((before + 1, after) for before, after in pairwise([-1, *refused, rows]) if after > before + 1)
