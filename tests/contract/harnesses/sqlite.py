"""The sqlite sink's destination: a table of a file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from libs.common.rows.row_type import RowType
from libs.common.rows.types.flows import FLOWS
from tests.contract.harness import Benchmark, Case, Content, Harness, LocalDiskHarness, Row
from tests.contract.peers import Options, Peer, some_at_a_time
from tests.documents import iso
from tests.flows import Spot
from tests.row_samples import position_of, row

_DIGITS = {"ms": 3, "us": 6, "ns": 9}


class SqliteHarness(LocalDiskHarness):
    """A table that has a rule of its own."""

    def __init__(self, case: Case, directory: Path) -> None:
        super().__init__(case, directory)
        self.directory.mkdir()
        self.file = directory / "rows.db"
        self.sink().setup()
        index = case.row_type.position.index
        with closing(sqlite3.connect(self.file)) as database:
            table = case.row_type.name
            database.execute(
                f"CREATE TRIGGER own BEFORE INSERT ON {table} WHEN NEW.{index} = 90 BEGIN SELECT RAISE(ABORT, 'not 90'); END"
            )

    def options(self) -> dict[str, Any]:
        """Give up soon."""
        return {"file": str(self.file), "wait_seconds": 5}

    def read(self) -> Content:
        """Read all rows."""
        with closing(sqlite3.connect(f"file:{self.file}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            rows = [dict(one) for one in database.execute(f"SELECT * FROM {self.case.row_type.name}")]  # noqa: S608
        content = {position_of(self.case.row_type, values): values for values in rows}
        assert len(content) == len(rows), "a row stands twice"
        return content

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row, with nulls, and with times as text."""
        return {position_of(self.case.row_type, one): _as_stored(self.case.row_type, one) for one in rows}

    def refused(self) -> Row:
        """A row that the trigger refuses."""
        return row(self.case.row_type, Spot(1, 0, 90))


def _as_stored(row_type: RowType, values: Row) -> dict[str, Any]:
    digits = {field.name: _DIGITS[field.type.unit] for field in row_type.schema if pa.types.is_timestamp(field.type)}
    return {**values, **{name: _time(values[name], many) for name, many in digits.items()}}


def _time(value: int | None, digits: int) -> str | None:
    return None if value is None else iso(value * 10 ** (9 - digits), digits).replace("T", " ").removesuffix("Z")


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give a new file."""
    return SqliteHarness(case, tmp_path / "database")


def _insert(options: Options, rows: Iterable[dict[str, Any]]) -> int:
    names = FLOWS.names
    insert = f"INSERT OR IGNORE INTO flows ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
    written = 0
    with closing(sqlite3.connect(options["file"])) as database:
        for some in some_at_a_time(rows, 10_000):
            written += database.executemany(insert, ([row.get(name) for name in names] for row in some)).rowcount
            database.commit()
    return written


def _count(_: object, options: Options) -> int:
    with closing(sqlite3.connect(options["file"])) as database:
        return int(database.execute("SELECT count(*) FROM flows").fetchone()[0])


BENCHMARK = Benchmark(
    "transactions synced to disk, offsets committed",
    own="file",
    is_directory=True,
    needs_setup=True,
    count=_count,
    peers=(Peer("sqlite3 executemany", _insert),),
)
