"""The durable state of one shard on a local disk, and the complete files made from it.

A shard's home is ``<directory>/.blobtide/p<shard>/``. It contains a lock (one process per shard, even if one was wrongly
presumed dead), an SQLite database, a spool, and sometimes ``next.part``. Rows become durable in two steps and files in four,
and a crash after any step is recovered when the shard is opened:

1. rows are appended to the spool and synced;
2. one transaction commits the spool's length together with all other state (positions, sums): **the rows are durable**;
3. to make files, the whole spool is written to ``next.part`` and synced; if the layout divides it into several files, to
   ``next.part``, ``next.part.1`` and so on;
4. a transaction records the final names of all of them;
5. each part is renamed to its final name, so that a reader sees a complete file or none;
6. a transaction empties the spool and advances the sequence.

A crash before step 2 leaves bytes beyond the committed length, which are cut off. A crash before step 4 leaves parts that will
be written again. After step 4, a part that still exists is renamed, and one that is gone *was* renamed, even if a reader has
removed the file in the meantime. If a final name exists that was never recorded, it is somebody else's file, and the sequence
skips it. Each file has its own sequence number, whatever folder it is in. Files that the layout names itself do without: their
names are remembered for the whole directory (`services.sinks.local_state.used_names`), so that none comes again, whatever shard
it is of.

A destination of another kind replaces step 5 by `FileOutlet.publish`. The parts stay until step 6 unless it removes them, and a
crash before it leads to the same call again: with the same parts, names and sequence number, by which it recognises what it has
done. Whatever it leaves beside a part under a name that begins with the part's is removed with the parts.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pyarrow as pa

from libs.common.errors import Retry
from libs.common.process.crash import crash_point
from libs.common.security.private_files import FILE_MODE, private_directory
from services.sinks.local_state.layout import FLAT, FileLayout, FileRows
from services.sinks.local_state.spool import Spool
from services.sinks.local_state.used_names import UsedNames

HIDDEN: Final = ".blobtide"
LOCKED_RETRY_SECONDS: Final = 1.0
_PART: Final = "next.part"
_NAMES: Final = "names.db"
_BETWEEN: Final = "\0"  # never part of a name; a single name is stored as in versions that had only one


@dataclass(frozen=True, slots=True)
class FileLimits:
    """When a file is complete: rows of a shard, spooled bytes, or seconds after its first row, whichever is reached first."""

    rows: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Publication:
    """Complete files to be published together: each as the path of its part and its final name.

    `sequence` is higher than that of every earlier publication of the shard.
    """

    shard: int
    sequence: int
    files: tuple[tuple[Path, str], ...]


@dataclass(frozen=True, slots=True)
class FileOutlet:
    """Where complete files go and how they are made. All tables of a file have the same schema."""

    directory: Path
    schema: pa.Schema
    template: str  # with {shard} and {sequence}
    extension: str
    write: Callable[[Path, Iterable[pa.Table]], None]
    limits: FileLimits
    layout: FileLayout = FLAT
    publish: Callable[[Publication], None] | None = None  # None: files are renamed into the directory

    def home(self, shard: int) -> Path:
        """The directory with the state of `shard`."""
        return self.directory / HIDDEN / f"p{shard:03}"

    def file_name(self, shard: int, sequence: int) -> str:
        """The name of a complete file."""
        return self.template.format(shard=shard, sequence=sequence) + self.extension


@dataclass(frozen=True, slots=True)
class _Journal:
    """The committed state: the next file's sequence number, and what the spool holds for it."""

    sequence: int = 1
    spool_bytes: int = 0
    spool_rows: int = 0
    first_row_at: float = 0.0
    finals: tuple[str, ...] = ()  # of the parts, in order; recorded in step 4, removed in step 6


class ShardStore:
    """An open shard. After an exception in a transaction or in `roll`, it must be closed and reopened."""

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
        """Lock the shard, open its state and recover from a crash.

        Raises:
            Retry: if another process holds the shard.
            OSError, sqlite3.Error: if the disk fails.
            CodecError: if committed rows are damaged.
        """
        private_directory(self._home)
        self._lock = _locked(self._home / "lock")
        self._spool = Spool(self._home / "spool")
        self._database = _connected(self._home / "state.db")
        # The content of a directory survives a power failure only if the directory itself does.
        for directory in (self._home, self._home.parent, self._outlet.directory):
            sync_directory(directory)
        self._journal = self._load()
        self._recover()

    @property
    def database(self) -> sqlite3.Connection:
        """The shard's database, for state that is committed with the rows."""
        if self._database is None:
            raise RuntimeError("the shard is not open")
        return self._database

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything done inside, or nothing. Raises OSError if the home is not there any more."""
        self._check_place()
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
        """Add `rows` to the next file; call inside a transaction, whose commit makes them durable."""
        if not rows.num_rows:
            return
        old = self._journal
        self._save(
            replace(
                old,
                spool_bytes=self._open_spool.append(self._outlet.layout.frames(rows), old.spool_bytes),
                spool_rows=old.spool_rows + rows.num_rows,
                first_row_at=old.first_row_at if old.spool_rows else self._clock(),
            )
        )

    def roll_if_due(self) -> None:
        """Make files if there are enough rows waiting, or they have waited long enough."""
        limits, journal = self._outlet.limits, self._journal
        if not journal.spool_rows:
            return
        age = self._clock() - journal.first_row_at
        young = 0 <= age < limits.seconds  # a clock that was set back must not hold rows forever
        if journal.spool_rows >= limits.rows or journal.spool_bytes >= limits.bytes or not young:
            self.roll()

    def roll(self) -> None:
        """Make files from all waiting rows."""
        if not self._journal.spool_rows:
            return
        made: list[FileRows] = []
        for file in self._outlet.layout.files(self._open_spool.frames(self._journal.spool_bytes)):
            self._outlet.write(self._part(len(made)), file.tables)
            made.append(replace(file, tables=()))  # the rows need not stay in memory
            crash_point("sink.part-synced")
        sync_directory(self._home)
        self._record_names(made)
        crash_point("sink.part-recorded")
        self._publish()

    def close(self) -> None:
        """Give up the shard; committed state is kept. Idempotent."""
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
            self._database = None
        if self._spool is not None:
            # Do not truncate: a commit that failed may have succeeded, which only the database knows when it is reopened.
            self._spool.close()
            self._spool = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _check_place(self) -> None:
        """Notice that somebody has removed or replaced the home: open files still take rows, which nobody would find again."""
        if not os.path.samestat((self._home / "lock").stat(), os.fstat(self._lock)):
            raise FileNotFoundError(errno.ENOENT, "the directory was replaced while it was in use", str(self._home))

    def _part(self, number: int) -> Path:
        return self._home / (f"{_PART}.{number}" if number else _PART)

    @property
    def _open_spool(self) -> Spool:
        if self._spool is None:
            raise RuntimeError("the shard is not open")
        return self._spool

    def _record_names(self, files: Sequence[FileRows]) -> None:
        sequence = self._journal.sequence
        if any(file.titles is not None for file in files):
            finals = self._titled(files)
            sequence += len(finals)
        else:
            finals = []
            for file in files:
                while self._is_there(final := self._numbered(file, sequence)):
                    sequence += 1
                finals.append(final)
                sequence += 1
        self._save(replace(self._journal, sequence=sequence - 1, finals=tuple(finals)))

    def _numbered(self, file: FileRows, sequence: int) -> str:
        return str(Path(file.folder, self._outlet.file_name(self._shard, sequence)))

    def _titled(self, files: Iterable[FileRows]) -> list[str]:
        """Return names for files that the layout names; no file of any shard has had them."""
        with UsedNames.of(self._outlet.directory / HIDDEN / _NAMES) as used:
            return [used.take(name for name in self._titles(file) if not self._is_there(name)) for file in files]

    def _titles(self, file: FileRows) -> Iterator[str]:
        for title in file.titles or ():
            yield str(Path(file.folder, title + self._outlet.extension))

    def _is_there(self, name: str) -> bool:
        return (self._outlet.directory / name).exists()

    def _publish(self) -> None:
        journal = self._journal
        if self._outlet.publish is None:
            self._rename()
        else:
            files = tuple((self._part(number), final) for number, final in enumerate(journal.finals))
            self._outlet.publish(Publication(self._shard, journal.sequence, files))
            crash_point("sink.published")
        self._save(_Journal(journal.sequence + 1))
        crash_point("sink.rolled")
        self._remove_parts()
        self._open_spool.cut(0)

    def _rename(self) -> None:
        finals = [self._outlet.directory / final for final in self._journal.finals]
        for number, final in enumerate(finals):
            part = self._part(number)
            if part.exists():  # otherwise it was renamed before a crash
                final.parent.mkdir(parents=True, exist_ok=True)
                part.rename(final)
            crash_point("sink.part-renamed")
        for directory in self._directories_of(finals):
            with suppress(FileNotFoundError):  # a reader removed all its files and the directory itself
                sync_directory(directory)

    def _remove_parts(self) -> None:
        for part in self._home.glob(f"{_PART}*"):
            part.unlink()

    def _directories_of(self, files: Iterable[Path]) -> Iterable[Path]:
        """Return every directory on the path to `files`, each once."""
        root = self._outlet.directory
        return dict.fromkeys(up for file in files for up in file.parents if up == root or root in up.parents)

    def _recover(self) -> None:
        if self._journal.finals:
            self._publish()
        self._remove_parts()
        self._open_spool.cut(self._journal.spool_bytes)
        if self._journal.spool_rows and not self._spooled_schema().equals(self._outlet.schema):
            self.roll()  # an older version wrote these rows, and a file has only one schema

    def _spooled_schema(self) -> pa.Schema:
        return self._open_spool.frames(self._journal.spool_bytes)[0].schema

    def _load(self) -> _Journal:
        self.database.execute(
            "CREATE TABLE IF NOT EXISTS journal (only INTEGER PRIMARY KEY CHECK (only = 1), sequence INTEGER,"
            " spool_bytes INTEGER, spool_rows INTEGER, first_row_at REAL, final TEXT)"
        )
        query = "SELECT sequence, spool_bytes, spool_rows, first_row_at, final FROM journal"
        row = self.database.execute(query).fetchone()
        if row is None:
            return _Journal()
        sequence, spool_bytes, spool_rows, first_row_at, final = row
        return _Journal(sequence, spool_bytes, spool_rows, first_row_at, tuple(final.split(_BETWEEN)) if final else ())

    def _save(self, journal: _Journal) -> None:
        """Store `journal`, in a transaction of its own unless one is open."""
        final = _BETWEEN.join(journal.finals) or None
        values = (journal.sequence, journal.spool_bytes, journal.spool_rows, journal.first_row_at, final)
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
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))  # SQLite gives its other files the same mode
    database = sqlite3.connect(path, isolation_level=None)
    try:
        # The lock file keeps other processes out; without shared memory, WAL also works on network file systems.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:
        database.close()
        raise
    return database


def sync_directory(path: Path) -> None:
    """Wait until the entries of a directory are on disk. Raises OSError."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
