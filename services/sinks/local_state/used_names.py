"""Names that the files of one directory have had, so that none is given twice.

A directory does not tell: whoever reads the files may take them away, and a second file of the same name would then replace the
first one at its new place. Nor does a shard know alone: the source of a file moves to another shard when a topic gets
partitions, and of two shards that have chosen the same name, the later one would replace the file of the other. A name is
recorded before its file appears; if a crash prevents that, the name is lost.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Self

from libs.common.security.private_files import FILE_MODE

_REMEMBERED: Final = 100_000
"""Names; at one file of one source every five minutes, those of a year."""


class UsedNames:
    """The names that all shards of a directory have given, in a database of their own; the oldest are forgotten."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    @classmethod
    @contextmanager
    def of(cls, path: Path) -> Iterator[Self]:
        """Open the database at `path`; other processes wait. At the end, the names that were taken are on disk.

        Raises:
            OSError, sqlite3.Error: if the disk fails.
        """
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("PRAGMA synchronous = FULL")
            database.execute("BEGIN IMMEDIATE")
            database.execute(
                "CREATE TABLE IF NOT EXISTS used_name (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE)"
            )
            yield cls(database)
            database.execute("COMMIT")

    def take(self, names: Iterable[str]) -> str:
        """Return the first of `names` that was not given before, and remember it; one of them must be new."""
        taken = next(name for name in names if self._is_new(name))
        cursor = self._database.execute("INSERT INTO used_name (name) VALUES (?)", (taken,))
        self._database.execute("DELETE FROM used_name WHERE number <= ?", ((cursor.lastrowid or 0) - _REMEMBERED,))
        return taken

    def _is_new(self, name: str) -> bool:
        return self._database.execute("SELECT 1 FROM used_name WHERE name = ?", (name,)).fetchone() is None
