"""Names that the files of one shard have had, so that none is given twice.

A directory does not tell: whoever reads the files may take them away, and a second file of the same name would then replace the
first one at its new place. A name is recorded before its file appears; if a crash prevents that, the name is lost.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

_REMEMBERED: Final = 100_000
"""Names; at one file of one source every five minutes, those of a year."""


class UsedNames:
    """The names that one shard has given, in its database; the oldest are forgotten."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def take(self, names: Iterable[str]) -> str:
        """Return the first of `names` that was not given before, and remember it; one of them must be new."""
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS used_name (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE)"
        )
        taken = next(name for name in names if self._is_new(name))
        cursor = self._database.execute("INSERT INTO used_name (name) VALUES (?)", (taken,))
        self._database.execute("DELETE FROM used_name WHERE number <= ?", ((cursor.lastrowid or 0) - _REMEMBERED,))
        return taken

    def _is_new(self, name: str) -> bool:
        return self._database.execute("SELECT 1 FROM used_name WHERE name = ?", (name,)).fetchone() is None
