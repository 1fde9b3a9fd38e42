"""The partitions of a table that is divided by day: made ahead and on demand, dropped when they are too old.

A partition is created as a table of its own and then attached, which keeps nobody from reading or writing the others. Days far
from now, which only wrong clocks give, share the default partition: nonsensical times must not create thousands of tables.
Workers make partitions one at a time, by an advisory lock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import psycopg
import pyarrow as pa

from services.sinks.frame.table import quoted
from services.sinks.kinds.postgres.connection import Connection
from services.sinks.kinds.postgres.table import Table

AHEAD: Final = 3
"""Days for which partitions are made before their first row."""

_OLDEST: Final = 3_660
_NEWEST: Final = 30
_SECONDS_A_DAY: Final = 86_400
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
# Its rows are in the default partition already; a partition of somebody else's covers the day; it is attached already.
_COVERED: Final = frozenset({"23514", "42P17", "42809"})
_CHILDREN: Final = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
JOIN pg_namespace n ON n.oid = p.relnamespace WHERE n.nspname = %s AND p.relname = %s
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """The result of `DailyPartitions.keep`: how many partitions were dropped."""

    dropped: int


class DailyPartitions:
    """The partitions of one table. Days are numbered from 1970."""

    def __init__(self, connection: Connection, table: Table) -> None:
        self._connection = connection
        self._table = table
        self._known: set[int] = set()

    @property
    def default_sql(self) -> str:
        """The statement that creates the partition for days far from now."""
        return f"CREATE TABLE IF NOT EXISTS {self._default} PARTITION OF {self._table.sql} DEFAULT"

    def ensure(self, days: Iterable[int], today: int) -> None:
        """Create the partitions of some days that do not exist. Raises `psycopg.Error`."""
        wanted = {day for day in days if today - _OLDEST <= day <= today + _NEWEST} - self._known
        if not wanted:
            return
        self._known |= self._existing()
        for day in sorted(wanted - self._known):
            self._create(day)
        self._known |= wanted

    def ahead(self, today: int) -> None:
        """Create the partitions of today and the next days. Raises `psycopg.Error`."""
        self.ensure(range(today, today + AHEAD + 1), today)

    def drop_before(self, day: int) -> int:
        """Drop the partitions of earlier days, and earlier rows of the default partition; return how many partitions.

        Raises:
            psycopg.Error: if somebody holds the table, for instance.
        """
        old = sorted(found for found in self._existing() if found < day)
        for found in old:
            self._connection.run(f"DROP TABLE IF EXISTS {self._child(found)}")
            self._known.discard(found)
        time = quoted(self._table.names.time)
        self._connection.run(f"DELETE FROM {self._default} WHERE {time} < '{_literal(day)}'")  # noqa: S608 - quoted
        return len(old)

    def statements(self, day: int) -> Iterator[str]:
        """Yield the statements that create the partition of a day."""
        child = self._child(day)
        yield f"CREATE TABLE IF NOT EXISTS {child} (LIKE {self._table.sql} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
        bounds = f"FROM ('{_literal(day)}') TO ('{_literal(day + 1)}')"
        yield f"ALTER TABLE {self._table.sql} ATTACH PARTITION {child} FOR VALUES {bounds}"

    def _create(self, day: int) -> None:
        try:
            with self._connection.transaction():
                self._connection.ask("SELECT pg_advisory_xact_lock(hashtext('blobtide'), hashtext(%s))", (str(self._table),))
                if day not in self._existing():
                    for statement in self.statements(day):
                        self._connection.run(statement)
        except psycopg.Error as error:
            if error.sqlstate not in _COVERED:
                raise

    def _existing(self) -> set[int]:
        found = self._connection.ask(_CHILDREN, (self._table.schema, self._table.name))
        matches = (re.fullmatch(rf"{re.escape(self._table.name)}_p([0-9]{{8}})", name) for (name,) in found)
        return {(_date(match[1]) - _EPOCH).days for match in matches if match}

    def _child(self, day: int) -> str:
        return f"{quoted(self._table.schema)}.{quoted(f'{self._table.name}_p{_day(day):%Y%m%d}')}"

    @property
    def _default(self) -> str:
        return f"{quoted(self._table.schema)}.{quoted(f'{self._table.name}_other')}"


def days_of(times: pa.ChunkedArray) -> set[int]:
    """Return the days of some times."""
    ticks: Any = times.cast(pa.int64()).to_numpy()
    return set(np.unique(np.floor_divide(ticks, _PER_SECOND[times.type.unit] * _SECONDS_A_DAY)).tolist())


def day_of(seconds: float) -> int:
    """Return the day of a time in seconds since 1970."""
    return int(seconds // _SECONDS_A_DAY)


def _day(number: int) -> datetime:
    return _EPOCH + timedelta(days=number)


def _literal(day: int) -> str:
    return f"{_day(day):%Y-%m-%d} 00:00:00+00"


def _date(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC)
