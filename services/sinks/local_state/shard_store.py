"""The durable home of one shard on a local disk, and the complete files that come out of it.

A shard's home is ``<directory>/.blobtide/p<shard>/``. It holds a lock (one process a shard, also against one that was thought
dead), an SQLite database, a spool, and at times ``next.part``. Rows become durable in two steps, files in four, and a crash
after any of them is recovered when the shard is opened:

1. rows are appended to the spool and synced;
2. one transaction commits the spool's length together with all other state (positions, sums): **the rows are durable**;
3. to make a file, the whole spool is written to ``next.part`` and synced;
4. a transaction records the file's final name;
5. ``next.part`` is renamed to it, so that a reader sees a whole file or none;
6. a transaction empties the spool and counts the sequence up.

A crash before 2 leaves bytes beyond the committed length: they are cut off. A crash before 4 leaves a part that is written
again. After 4, a part that is still there is renamed, and one that is gone *was* renamed, even if a reader has taken the file
away meanwhile. A final name that exists although it was never recorded is somebody else's file: the sequence steps over it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pyarrow as pa

from libs.common.errors import Retry
from libs.common.process.crash import crash_point
from libs.common.security.private_files import FILE_MODE, private_directory
from services.sinks.local_state.spool import Spool

HIDDEN: Final = ".blobtide"
LOCKED_RETRY_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class FileLimits:
    """When a file is complete: at so many rows, so many spooled bytes, or so many seconds after its first row."""

    rows: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class FileOutlet:
    """Where complete files go and how they are made. All tables of one file have one schema."""

    directory: Path
    schema: pa.Schema
    template: str  # with {shard} and {sequence}
    extension: str
    write: Callable[[Path, Iterable[pa.Table]], None]
    limits: FileLimits

    def home(self, shard: int) -> Path:
        """Where the state of `shard` is."""
        return self.directory / HIDDEN / f"p{shard:03}"

    def file_name(self, shard: int, sequence: int) -> str:
        """The name of a complete file."""
        return self.template.format(shard=shard, sequence=sequence) + self.extension


@dataclass(frozen=True, slots=True)
class _Journal:
    """What is committed: the next file's sequence, and what the spool holds for it."""

    sequence: int = 1
    spool_bytes: int = 0
    spool_rows: int = 0
    first_row_at: float = 0.0
    final: str | None = None  # recorded in step 4, gone in step 6


class ShardStore:
    """One open shard. After an exception in a transaction or in `roll` it must be closed and opened anew."""

    def __init__(self, shard: int, outlet: FileOutlet, clock: Callable[[], float] = time.time) -> None:
        self._shard = shard
        self._outlet = outlet
        self._clock = clock
        self._home = outlet.home(shard)
        self._journal = _Journal()
        self._lock = -1
        self._spool: Spool | None = None
        self._database: sqlite3.Connection | None = None

    def open(self) -> None:
        """Lock the shard, open its state and recover what a crash left.

        Raises:
            Retry: if another process has the shard.
            OSError, sqlite3.Error: if the disk does not do it.
            CodecError: if committed rows are damaged.
        """
        private_directory(self._home)
        self._lock = _locked(self._home / "lock")
        self._spool = Spool(self._home / "spool")
        self._database = _connected(self._home / "state.db")
        # What is in a directory survives a power failure only if the directory does.
        for directory in (self._home, self._home.parent, self._outlet.directory):
            _sync_directory(directory)
        self._journal = self._load()
        self._recover()

    @property
    def database(self) -> sqlite3.Connection:
        """The shard's database, for state that moves with the rows."""
        if self._database is None:
            raise RuntimeError("the shard is not open")
        return self._database

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything done inside in one go, or nothing."""
        self.database.execute("BEGIN IMMEDIATE")
        try:
            yield
            crash_point("sink.before-commit")
            self.database.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self.database.execute("ROLLBACK")
            raise
        crash_point("sink.committed")

    def append(self, rows: pa.Table) -> None:
        """Add `rows` to the next file; inside a transaction, whose commit makes them durable."""
        if not rows.num_rows:
            return
        old = self._journal
        self._save(
            replace(
                old,
                spool_bytes=self._open_spool.append(rows, old.spool_bytes),
                spool_rows=old.spool_rows + rows.num_rows,
                first_row_at=old.first_row_at if old.spool_rows else self._clock(),
            )
        )

    def roll_if_due(self) -> None:
        """Make a file if the next one is complete."""
        limits, journal = self._outlet.limits, self._journal
        if not journal.spool_rows:
            return
        age = self._clock() - journal.first_row_at
        young = 0 <= age < limits.seconds  # a clock set back must not keep rows for ever
        if journal.spool_rows >= limits.rows or journal.spool_bytes >= limits.bytes or not young:
            self.roll()

    def roll(self) -> None:
        """Make a file of all rows that are in none yet."""
        if not self._journal.spool_rows:
            return
        self._outlet.write(self._part, self._open_spool.frames(self._journal.spool_bytes))
        _sync_directory(self._home)
        crash_point("sink.part-synced")
        self._record_name()
        crash_point("sink.part-recorded")
        self._publish()

    def close(self) -> None:
        """Give up the shard; what was committed stays. Idempotent."""
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
            self._database = None
        if self._spool is not None:
            # Not cut: a commit that failed may have succeeded, and only the database knows when it is opened again.
            self._spool.close()
            self._spool = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def _part(self) -> Path:
        return self._home / "next.part"

    @property
    def _open_spool(self) -> Spool:
        if self._spool is None:
            raise RuntimeError("the shard is not open")
        return self._spool

    def _record_name(self) -> None:
        sequence = self._journal.sequence
        while (self._outlet.directory / self._outlet.file_name(self._shard, sequence)).exists():
            sequence += 1
        self._save(replace(self._journal, sequence=sequence, final=self._outlet.file_name(self._shard, sequence)))

    def _publish(self) -> None:
        final = self._outlet.directory / str(self._journal.final)
        with suppress(FileNotFoundError):  # renamed before a crash
            self._part.rename(final)
        _sync_directory(self._outlet.directory)
        crash_point("sink.part-renamed")
        self._save(_Journal(self._journal.sequence + 1))
        crash_point("sink.rolled")
        self._open_spool.cut(0)

    def _recover(self) -> None:
        if self._journal.final is not None:
            self._publish()
        self._part.unlink(missing_ok=True)
        self._open_spool.cut(self._journal.spool_bytes)
        if self._journal.spool_rows and not self._spooled_schema().equals(self._outlet.schema):
            self.roll()  # an older version wrote these rows; a file has one schema

    def _spooled_schema(self) -> pa.Schema:
        return next(self._open_spool.frames(self._journal.spool_bytes)).schema

    def _load(self) -> _Journal:
        self.database.execute(
            "CREATE TABLE IF NOT EXISTS journal (only INTEGER PRIMARY KEY CHECK (only = 1), sequence INTEGER,"
            " spool_bytes INTEGER, spool_rows INTEGER, first_row_at REAL, final TEXT)"
        )
        row = self.database.execute("SELECT sequence, spool_bytes, spool_rows, first_row_at, final FROM journal").fetchone()
        return _Journal(*row) if row else _Journal()

    def _save(self, journal: _Journal) -> None:
        """Store `journal`; alone in its own transaction unless one is open."""
        values = (journal.sequence, journal.spool_bytes, journal.spool_rows, journal.first_row_at, journal.final)
        self.database.execute("INSERT OR REPLACE INTO journal VALUES (1, ?, ?, ?, ?, ?)", values)
        self._journal = journal


def _locked(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise Retry(f"{path.parent} is in use by another process", after=LOCKED_RETRY_SECONDS) from error
    except OSError:
        os.close(file)
        raise
    return file


def _connected(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))  # SQLite gives the files beside it the same mode
    database = sqlite3.connect(path, isolation_level=None)
    try:
        # The lock file keeps others out; without shared memory WAL also works on network file systems.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:
        database.close()
        raise
    return database


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
