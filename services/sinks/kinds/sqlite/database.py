"""The file of an sqlite sink: opened so that a commit is on the disk, and so that readers are not kept waiting.

It is in WAL mode, where readers see the last commit while a writer works. `synchronous = FULL` syncs the log at every commit,
so committed rows survive a power failure. Writers take turns: each transaction takes SQLite's own lock, which ends with its
process; who waits too long says so. What SQLite reports about the disk is a `Retry`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from libs.common.errors import CodecError, ConfigError, Retry
from libs.common.security.private_files import FILE_MODE

_BUSY: Final = ("SQLITE_BUSY", "SQLITE_LOCKED")
_DISK_PAUSE: Final = 5.0
_LOG_BYTES: Final = 67_108_864  # to which the log is cut back after readers have made it grow


class Database:
    """An open file."""

    def __init__(self, file: Path, wait_seconds: float) -> None:
        """Open `file`, creating it if it is missing.

        Raises:
            sqlite3.Error, OSError: if that is not possible; see `translated`.
            ConfigError: if it lies where SQLite cannot share it with readers.
        """
        is_new = not file.exists()
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))  # SQLite gives its other files the same mode
        self._connection = sqlite3.connect(file, timeout=wait_seconds, isolation_level=None)
        try:
            self._configure()
        except BaseException:
            self._connection.close()
            raise
        if is_new:
            _sync_directory(file.parent)

    def ask(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""
        return self._connection.execute(sql, values).fetchall()

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run a statement and return the number of rows it changed."""
        return self._connection.execute(sql, values).rowcount

    def run_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run a statement for each row and return the number of rows it changed, or change nothing."""
        self._connection.execute("SAVEPOINT some")
        try:
            changed = self._connection.executemany(sql, rows).rowcount
        except (sqlite3.IntegrityError, sqlite3.DataError):
            self._connection.execute("ROLLBACK TO some")
            raise
        finally:
            with suppress(sqlite3.OperationalError):  # gone with the transaction
                self._connection.execute("RELEASE some")
        return changed

    def give_back(self, pages: int) -> None:
        """Give at most so many free pages back to the file system."""
        # As a script, since the statement frees a page at every step, and anything else takes a single step.
        self._connection.executescript(f"PRAGMA incremental_vacuum({pages})")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Take the file for writing, and commit what is done inside, or nothing."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close; the log goes into the file unless others use it. Idempotent."""
        with suppress(sqlite3.Error):
            self._connection.close()

    def _configure(self) -> None:
        self.run("PRAGMA auto_vacuum = INCREMENTAL")  # of effect only before the first table
        if self.ask("PRAGMA journal_mode = WAL") != [("wal",)]:
            raise ConfigError("sqlite: the file cannot be in WAL mode: put it on a local file system")
        self.run("PRAGMA synchronous = FULL")
        self.run("PRAGMA fullfsync = ON")  # macOS: without it, a sync stops at the disk's own memory
        self.ask(f"PRAGMA journal_size_limit = {_LOG_BYTES}")


@contextmanager
def translated(file: Path) -> Iterator[None]:
    """Turn what SQLite and the system report about the file into `Retry` or `CodecError`."""
    try:
        yield
    except OSError as error:
        raise Retry(f"cannot write to {file}: {error.strerror}", after=_DISK_PAUSE, kind="disk") from error
    except sqlite3.OperationalError as error:
        if (error.sqlite_errorname or "").startswith(_BUSY):
            raise Retry(f"{file} is being written by another process", kind="busy") from error
        raise Retry(f"cannot write to {file}: {error}", after=_DISK_PAUSE, kind="disk") from error
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:
            raise  # a statement: a bug
        raise CodecError(
            f"{file} is damaged, or is no SQLite file: {error}; restore it, or give the sink another file"
        ) from error


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
