"""Tables in an SQLite database, stored in parts: as they arrive, to be merged later. Each database row is one part.

A part is a compressed Arrow stream: SQLite writes it twice, which without compression would cost more than compressing.
Parts of a *kind* (for instance, a minute) are read in the order in which they were added.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from libs.common.errors import CodecError
from services.sinks.kinds.summary.fold import COUNTS, SESSION, SESSIONS, SOCKET, SUMS, TOTALS

_PART_ROWS: Final = 20_000
_COMPRESSED: Final = pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(frozen=True, slots=True)
class PartialTable:
    """A table stored in parts. Calls never commit; the caller's transaction does."""

    database: sqlite3.Connection
    name: str
    schema: pa.Schema

    def create(self) -> None:
        """Create the table unless it exists."""
        self.database.execute(
            f"CREATE TABLE IF NOT EXISTS {self.name} (number INTEGER PRIMARY KEY, kind INTEGER NOT NULL,"
            " merged INTEGER NOT NULL, rows INTEGER NOT NULL, body BLOB NOT NULL)"
        )
        self.database.execute(f"CREATE INDEX IF NOT EXISTS {self.name}_of ON {self.name} (kind, merged, rows)")

    def add(self, kind: int, table: pa.Table) -> None:
        """Add a part to a kind."""
        self._insert(kind, table, merged=False)

    def replace(self, kind: int, table: pa.Table) -> None:
        """Replace all parts of a kind by `table`."""
        self.remove(kind)
        self._insert(kind, table, merged=True)

    def remove(self, kind: int) -> None:
        """Remove all parts of a kind."""
        self.database.execute(f"DELETE FROM {self.name} WHERE kind = ?", (kind,))  # noqa: S608 - the name is ours

    def kinds(self) -> list[int]:
        """Return the existing kinds, ascending."""
        return [kind for (kind,) in self.database.execute(f"SELECT DISTINCT kind FROM {self.name} ORDER BY kind")]  # noqa: S608

    def rows(self, *, merged: bool) -> int:
        """Count the rows of all parts written by `replace` or, if not `merged`, by `add`."""
        counted = self.database.execute(f"SELECT sum(rows) FROM {self.name} WHERE merged = ?", (merged,))  # noqa: S608
        count: int | None = counted.fetchone()[0]
        return count or 0

    def read(self, kind: int) -> pa.Table:
        """Return all rows of a kind. Raises CodecError if a part is damaged."""
        bodies = self.database.execute(f"SELECT body FROM {self.name} WHERE kind = ? ORDER BY number", (kind,))  # noqa: S608
        try:
            parts = [_decoded(body) for (body,) in bodies]
        except (pa.ArrowException, OSError) as error:
            raise CodecError(f"a part of {self.name} is damaged: {error}") from error
        return pa.concat_tables(parts) if parts else self.schema.empty_table()

    def _insert(self, kind: int, table: pa.Table, *, merged: bool) -> None:
        for start in range(0, len(table), _PART_ROWS):
            part = table.slice(start, _PART_ROWS)
            self.database.execute(
                f"INSERT INTO {self.name} (kind, merged, rows, body) VALUES (?, ?, ?, ?)",  # noqa: S608
                (kind, merged, len(part), _encoded(part)),
            )


def _encoded(part: pa.Table) -> memoryview:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, part.schema, options=_COMPRESSED) as writer:
        writer.write_table(part)
    return memoryview(out.getvalue())


def _decoded(body: bytes) -> pa.Table:
    with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
        return reader.read_all()


def take_over(database: sqlite3.Connection, sums: PartialTable, sockets: PartialTable) -> None:
    """Move the state of version 0.1.0, which had one row per socket in ``open_minute`` and ``socket``, to parts.

    It is added to existing parts, since somebody may have gone back to that version for a while.
    """
    if _exists(database, "open_minute"):
        for (minute,) in database.execute("SELECT DISTINCT minute FROM open_minute").fetchall():
            rows = database.execute(f"SELECT {', '.join((*SOCKET, *COUNTS))} FROM open_minute WHERE minute = ?", (minute,))  # noqa: S608
            sums.add(minute, _table(rows, SUMS))
        database.execute("DROP TABLE open_minute")
    if _exists(database, "socket"):
        rows = database.execute(f"SELECT {', '.join((*SOCKET, *SESSION, *TOTALS))} FROM socket")  # noqa: S608
        sockets.add(0, _table(rows, SESSIONS))
        database.execute("DROP TABLE socket")


def _exists(database: sqlite3.Connection, table: str) -> bool:
    found = database.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone()
    return found is not None


def _table(rows: sqlite3.Cursor, schema: pa.Schema) -> pa.Table:
    batches = []
    while some := rows.fetchmany(_PART_ROWS):
        columns = [pa.array(values, field.type) for values, field in zip(zip(*some, strict=True), schema, strict=True)]
        batches.append(pa.RecordBatch.from_arrays(columns, schema=schema))
    return pa.Table.from_batches(batches, schema)
