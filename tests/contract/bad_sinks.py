"""A sound sink, and sinks that each break the contract in one way, to show that the suite notices. Rows go to a database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from libs.common.errors import Retry
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.formats.encoders import RowFormat, encoder_for
from libs.common.rows.identity import Identities
from libs.common.rows.row_type import RowType
from libs.common.rows.shape import Shape
from services.sinks.frame.contract import Outcome, Part, RejectedRow, Sink
from services.sinks.frame.kind import Kind, Promise
from services.sinks.frame.settings import SinkSettings
from tests.contract.harness import Case, Content, Harness, LocalDiskHarness, Row
from tests.flows import Spot
from tests.row_samples import document, position_of, row

_PROMISES = (Promise.EFFECTIVELY_ONCE,)
_UNWANTED = "unwanted"


class BadSettings(SinkSettings):
    """Where rows go."""

    path: Path


@dataclass(frozen=True, slots=True)
class _Row:
    part: int
    row: int
    shard: int
    identity: str
    document: str

    @property
    def is_unwanted(self) -> bool:
        return _UNWANTED in self.document


class Sound(Sink):
    """Keeps the contract."""

    KIND: ClassVar[Kind]
    row_types = ("flows",)
    promise = Promise.EFFECTIVELY_ONCE

    def __init__(self, settings: BadSettings, row_type: RowType) -> None:
        self._path = settings.path
        self._row_type = row_type
        self._encoder = encoder_for(RowFormat.JSON, row_type, self.shape(settings))

    def __init_subclass__(cls) -> None:
        """Make a kind of each class."""
        cls.KIND = _kind(cls)

    def shape(self, settings: BadSettings) -> Shape:
        """Return the columns to write."""
        return settings.shape(self._row_type)

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Insert all rows in one transaction."""
        rows = list(self.rows(parts))
        wanted = [one for one in rows if not one.is_unwanted]
        written = self.insert(wanted)
        return Outcome(written, len(wanted) - written, tuple(map(self.rejected, (one for one in rows if one.is_unwanted))))

    def rows(self, parts: Sequence[Part]) -> Iterator[_Row]:
        """Return the rows one by one."""
        for number, part in enumerate(parts):
            ids = Identities.of(part.rows, part.row_type.position).document_ids().to_pylist()
            for at, (own, text) in enumerate(zip(ids, self._encoder.encode(part.rows), strict=True)):
                yield _Row(number, at, part.shard, own, text.decode())

    def rejected(self, one: _Row) -> RejectedRow:
        """Name a row that is refused."""
        return RejectedRow(one.part, one.row, ErrorCode.REFUSED, "unwanted")

    def insert(self, rows: Sequence[_Row]) -> int:
        """Insert the rows that are not there, and return their number."""
        try:
            with closing(sqlite3.connect(self._path)) as database, database:
                database.execute("CREATE TABLE IF NOT EXISTS row (id TEXT, document TEXT)")
                database.execute("CREATE INDEX IF NOT EXISTS row_id ON row (id)")
                before = database.total_changes
                for one in rows:
                    known = database.execute("SELECT 1 FROM row WHERE id = ?", (one.identity,)).fetchone()
                    if not self.is_known(one, known=known is not None):
                        database.execute("INSERT INTO row VALUES (?, ?)", (one.identity, one.document))
                return database.total_changes - before
        except sqlite3.OperationalError as error:
            raise Retry(str(error)) from error

    def is_known(self, one: _Row, *, known: bool) -> bool:
        """Return whether a row was written before."""
        del one
        return known


def _kind(sink: type[Sound]) -> Kind:
    return Kind(str(sink.__doc__), f"{__name__}:{sink.__name__}", f"{__name__}:BadSettings", _PROMISES)


Sound.KIND = _kind(Sound)


class Loses(Sound):
    """Leaves out the last row of a write, and says nothing of it."""

    def insert(self, rows: Sequence[_Row]) -> int:
        """Leave one out."""
        return super().insert(rows[:-1]) + 1


class LosesParts(Sound):
    """Writes only the first part of a write."""

    def insert(self, rows: Sequence[_Row]) -> int:
        """Leave out the others."""
        rest = [one for one in rows if one.part != 0]
        return super().insert([one for one in rows if one.part == 0]) + len(rest)


class Doubles(Sound):
    """Inserts every row, whether it is there or not."""

    def is_known(self, one: _Row, *, known: bool) -> bool:
        """Know nothing."""
        del one, known
        return False


class DoublesInTurn(Sound):
    """Remembers what it has written in this process only."""

    def __init__(self, settings: BadSettings, row_type: RowType) -> None:
        super().__init__(settings, row_type)
        self._seen: set[str] = set()

    def is_known(self, one: _Row, *, known: bool) -> bool:
        """Ask itself."""
        del known
        is_old = one.identity in self._seen
        self._seen.add(one.identity)
        return is_old


class Stale(Sound):
    """Remembers what is in the database even after it has released the shard."""

    def __init__(self, settings: BadSettings, row_type: RowType) -> None:
        super().__init__(settings, row_type)
        self._seen: dict[int, set[str]] = {}

    def is_known(self, one: _Row, *, known: bool) -> bool:
        """Look into the database only when the shard is new."""
        del known
        seen = self._seen.setdefault(one.shard, self._all())
        is_old = one.identity in seen
        seen.add(one.identity)
        return is_old

    def release(self, shards: Collection[int]) -> None:
        """Forget nothing."""

    def _all(self) -> set[str]:
        with closing(sqlite3.connect(self._path)) as database:
            return {identity for (identity,) in database.execute("SELECT id FROM row")}


class ByContent(Sound):
    """Takes rows with equal values for the same row."""

    def rows(self, parts: Sequence[Part]) -> Iterator[_Row]:
        """Make the identity of the content."""
        for one in super().rows(parts):
            values = json.loads(one.document)
            for name in self._row_type.position.names:
                del values[name]
            yield _Row(one.part, one.row, one.shard, json.dumps(values), one.document)


class WithoutGeneration(Sound):
    """Takes the rows of a blob that was replaced for those before."""

    def rows(self, parts: Sequence[Part]) -> Iterator[_Row]:
        """Leave the generation out of the identity."""
        for one in super().rows(parts):
            values = json.loads(one.document)
            source, _, offset, index = (values[name] for name in self._row_type.position.names)
            yield _Row(one.part, one.row, one.shard, f"{source}-{offset}-{index}", one.document)


class Reorders(Sound):
    """Writes the rows of a batch from the last to the first."""

    def insert(self, rows: Sequence[_Row]) -> int:
        """Turn them round."""
        return super().insert(rows[::-1])


class TooEarly(Sound):
    """Says that rows are written and writes them when it is closed."""

    def __init__(self, settings: BadSettings, row_type: RowType) -> None:
        super().__init__(settings, row_type)
        self._waiting: list[_Row] = []

    def insert(self, rows: Sequence[_Row]) -> int:
        """Wait, as long as the database can be reached."""
        super().insert(())
        Path(f"{self._path}.test").write_bytes(bytes(100_000))  # as far as can be told
        known = {one.identity for one in self._waiting}
        new = {one.identity: one for one in rows if one.identity not in known}
        self._waiting += new.values()
        return len(new)

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Raise Retry when the disk is full."""
        try:
            return super().write(parts)
        except OSError as error:
            raise Retry(str(error)) from error

    def close(self) -> None:
        """Write."""
        super().insert(self._waiting)
        self._waiting = []


class OneBehind(TooEarly):
    """Writes the rows of a write in the next one."""

    def insert(self, rows: Sequence[_Row]) -> int:
        """Write what waits."""
        Sound.insert(self, self._waiting)
        return super().insert(rows)


class Forgets(Sound):
    """Leaves out what it refuses without naming it."""

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Name nothing."""
        outcome = super().write(parts)
        return Outcome(outcome.written + len(outcome.rejected), outcome.already_there)


class NamesOnce(Sound):
    """Takes a row that was refused before for one that is there."""

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Note what was refused in the database."""
        outcome = super().write(parts)
        rows = {(one.part, one.row): one for one in self.rows(parts)}
        new = []
        with closing(sqlite3.connect(self._path)) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS refused (id TEXT PRIMARY KEY)")
            for bad in outcome.rejected:
                insert = "INSERT OR IGNORE INTO refused VALUES (?)"
                if database.execute(insert, (rows[bad.part, bad.row].identity,)).rowcount:
                    new.append(bad)
        return Outcome(outcome.written, outcome.already_there, tuple(new))


class NamesOthers(Sound):
    """Names what it refuses by its place in the batch, not in its part."""

    def rejected(self, one: _Row) -> RejectedRow:
        """Take all for the first part."""
        return RejectedRow(0, one.row, ErrorCode.REFUSED, "unwanted")


class GivesUp(Sound):
    """Refuses all rows while the destination is down."""

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Refuse instead of asking for another try."""
        try:
            return super().write(parts)
        except Retry:
            return Outcome(0, 0, tuple(self.rejected(one) for one in self.rows(parts)))


class Miscounts(Sound):
    """Counts rows that are there as written."""

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Count all."""
        outcome = super().write(parts)
        return Outcome(outcome.written + outcome.already_there, 0, outcome.rejected)


class Boasts(Sound):
    """Promises less than its kind says."""

    promise = Promise.AT_LEAST_ONCE


class DropsWeights(Sound):
    """Writes the columns of the row type only."""

    def shape(self, settings: BadSettings) -> Shape:
        """Forget the weight."""
        del settings
        return Shape.of(self._row_type)


class Mangles(Sound):
    """Writes zeros for what is not known."""

    def rows(self, parts: Sequence[Part]) -> Iterator[_Row]:
        """Fill the gaps."""
        for one in super().rows(parts):
            filled = {"packets_sent": 0, **json.loads(one.document)}
            yield _Row(one.part, one.row, one.shard, one.identity, json.dumps(filled))


class ClosesOnce(Sound):
    """Fails when it is closed again."""

    is_open = True

    def close(self) -> None:
        """Close."""
        assert self.is_open
        self.is_open = False


class BadHarness(LocalDiskHarness):
    """The database, as a careful reader sees it."""

    @property
    def is_ordered(self) -> bool:
        """Rows have a number."""
        return True

    def options(self) -> dict[str, Any]:
        """Say where the database is."""
        return {"path": str(self.directory)}

    def read(self) -> Content:
        """Read all rows in order."""
        with closing(sqlite3.connect(self.directory)) as database:
            documents = [json.loads(one) for (one,) in database.execute("SELECT document FROM row ORDER BY rowid")]
        content = {position_of(self.case.row_type, one): one for one in documents}
        assert len(content) == len(documents), "a row stands twice"
        return content

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row, flat."""
        return {position_of(self.case.row_type, one): document(self.case.row_type, one) for one in rows}

    def refused(self) -> Row:
        """A row that says so."""
        return row(self.case.row_type, Spot(1, 0, 90), rule=_UNWANTED)


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give an empty database."""
    return BadHarness(case, tmp_path / "rows.db")
