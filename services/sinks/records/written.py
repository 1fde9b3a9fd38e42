"""How far each generation of a source has been written: records in a compacted topic, in the same transactions as the rows.

A record's key is the sink, the shard and the generation; its value is the highest offset and index written. All records of a
shard are in one partition. Whoever takes over a shard reads that partition to its end: from then on, nobody else can add to it.

A refused row stays behind when the position of its generation moves past it, so it has a record of its own, whose key ends
with its offset and index. As long as that is there, the row counts as not written, and a replay tries it again. The record is
removed once the row is written or certainly a dead letter. Without it, whatever prevents the dead letter (a retry of the batch,
a rebalance, a crash, the limit on dead letters) would lose the row.
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from libs.common.errors import Retry, ServerUnreachable
from libs.common.kafka.readers.compacted import CompactedTable, patience_for
from libs.common.kafka.records import Inbound, Outbound
from libs.common.packed import PackedTable
from libs.common.rows.identity import Identities
from libs.common.settings.kafka import KafkaSettings
from services.sinks.local_state.positions import fresh_rows

_POSITION: Final = struct.Struct("<qq")
_DAY: Final = struct.Struct("<i")
_ROW: Final = np.dtype([("offset", "<i8"), ("index", "<i8"), ("day", "<i4")])
_PAIR: Final = np.dtype([("offset", "<i8"), ("index", "<i8")])
_NOWHERE: Final = (-1, -1)
_NO_HEADERS: Final = ()
_REFUSED_KEY: Final = re.compile(rb"([^/]+)/(-?\d{1,19})/(-?\d{1,19})")
_REFUSED: Final = b"refused"
_SECONDS_A_DAY: Final = 86_400

_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the positions of one shard are, and for how many days they are kept; None: for ever."""

    topic: str
    partition: int
    owner: str  # the sink and the shard
    days: int | None = None

    def key(self, generation: str) -> bytes:
        """Return the key of a generation."""
        return f"{self.owner}/{generation}".encode()

    def key_of_row(self, generation: str, row: _Pair) -> bytes:
        """Return the key of a refused row."""
        return f"{self.owner}/{generation}/{row[0]}/{row[1]}".encode()


class WrittenRows:
    """The positions of one shard, as known to its current holder; those older than the days of its place are forgotten."""

    def __init__(self, place: Place, clock: Callable[[], float] = time.time) -> None:
        self._place = place
        self._clock = clock
        self._prefix = f"{place.owner}/".encode()
        self._known = PackedTable(_ROW)
        self._refused: dict[str, set[_Pair]] = {}  # not written, although the position is past them; by generation
        self._unnamed: set[tuple[str, _Pair]] = set()  # refused by the write that is under way
        self._named: set[tuple[str, _Pair]] = set()  # refused by earlier writes, and dead letters by now
        self._pruned = self._today()

    def load(self, kafka: KafkaSettings, between: Callable[[], None]) -> None:
        """Read the committed positions.

        Raises:
            Retry: if Kafka does not respond, or a transaction in the partition does not end.
        """
        table = CompactedTable(kafka, self._place.topic, self._apply)
        try:
            table.open([self._place.partition])
            table.catch_up(patience_for(kafka), between)
        except ServerUnreachable as error:
            raise Retry(str(error)) from error
        finally:
            table.close()

    def begin(self) -> None:
        """Begin a write. The refused rows that `settle` has seen are dead letters now; others are refused again."""
        self._unnamed.clear()

    def settle(self) -> None:
        """End a write that names the rows it has refused: when the next one begins, they are dead letters."""
        self._named |= self._unnamed
        self._unnamed.clear()

    def fresh(self, identities: Identities) -> _Ints:
        """Return the rows that have not been written before, each once, in ascending order."""
        names = identities.generations.to_pylist()
        reached = np.array([self._reached(name) for name in names], np.int64)
        mask = fresh_rows(identities.generation, identities.offset, identities.index, reached)
        for number, name in enumerate(names):
            if name in self._refused:
                rows = np.flatnonzero(identities.generation == number)
                mask[_among(identities, rows, self._refused[name])] = True
        return np.flatnonzero(mask)

    def changes(self, identities: Identities, written: _Ints, refused: _Ints) -> list[Outbound]:
        """Return the records stating that these rows are written, and those refused, for the transaction that makes it so."""
        again = set(self._pairs(identities, refused))
        records = list(self._positions(identities, np.concatenate((written, refused))))
        gone = [(name, pair) for name, pair in self._held_back(identities, written) if (name, pair) not in self._named]
        records += [self._row_record(name, pair, None) for name, pair in (*gone, *(self._named - again))]
        records += [self._row_record(name, pair, _REFUSED) for name, pair in again]
        return records

    def remember(self, records: Iterable[Outbound]) -> None:
        """Note that these records from `changes` are committed."""
        today = self._today()
        for record in records:
            self._note(record.key or b"", None if record.value is None else bytes(record.value), today, is_ours=True)
        if self._place.days is not None and today != self._pruned:
            self._prune(today, self._place.days)

    def _positions(self, identities: Identities, rows: _Ints) -> Iterator[Outbound]:
        """Yield the new position of each generation that moves."""
        names = identities.generations.to_pylist()
        for number, row in _last_rows(identities, rows):
            pair = int(identities.offset[row]), int(identities.index[row])
            if pair > self._reached(names[number]):
                key = self._place.key(names[number])
                yield Outbound(self._place.topic, _POSITION.pack(*pair), key, _NO_HEADERS, self._place.partition)

    def _held_back(self, identities: Identities, rows: _Ints) -> Iterator[tuple[str, _Pair]]:
        """Yield those of `rows` that were refused before."""
        for number, name in enumerate(identities.generations.to_pylist()):
            if name in self._refused:
                own = rows[identities.generation[rows] == number]
                yield from self._pairs(identities, _among(identities, own, self._refused[name]))

    def _row_record(self, generation: str, row: _Pair, value: bytes | None) -> Outbound:
        key = self._place.key_of_row(generation, row)
        return Outbound(self._place.topic, value, key, _NO_HEADERS, self._place.partition)

    @staticmethod
    def _pairs(identities: Identities, rows: _Ints) -> Iterator[tuple[str, _Pair]]:
        if not len(rows):
            return
        names = identities.generations.to_pylist()
        columns = (values[rows].tolist() for values in (identities.generation, identities.offset, identities.index))
        for number, offset, index in zip(*columns, strict=True):
            yield names[number], (offset, index)

    def _apply(self, record: Inbound) -> None:
        if record.key is not None and record.key.startswith(self._prefix):
            self._note(record.key, record.value, record.timestamp_ms // (1_000 * _SECONDS_A_DAY))

    def _note(self, key: bytes, value: bytes | None, day: int, *, is_ours: bool = False) -> None:
        rest = key[len(self._prefix) :]
        if b"/" in rest:
            if found := _REFUSED_KEY.fullmatch(rest):
                pair = int(found[2]), int(found[3])
                self._note_row(found[1].decode(), pair, is_refused=value is not None, is_ours=is_ours)
        elif value is None:
            self._known.remove(key)
        elif len(value) == _POSITION.size:
            self._known.put(key, value + _DAY.pack(day))

    def _note_row(self, generation: str, row: _Pair, *, is_refused: bool, is_ours: bool) -> None:
        if is_refused:
            self._refused.setdefault(generation, set()).add(row)
            self._named.discard((generation, row))
            if is_ours:
                self._unnamed.add((generation, row))
            return
        self._named.discard((generation, row))
        rows = self._refused.get(generation, set())
        rows.discard(row)
        if not rows:
            self._refused.pop(generation, None)

    def _reached(self, generation: str) -> _Pair:
        found = self._known.get(self._place.key(generation))
        return _NOWHERE if found is None else _POSITION.unpack_from(found)

    def _today(self) -> int:
        return int(self._clock()) // _SECONDS_A_DAY

    def _prune(self, today: int, kept: int) -> None:
        """Forget positions that their topic forgets, too; memory would grow with every generation that ever was."""
        self._pruned = today
        days = self._known.rows()["day"]
        self._known.keep(days >= today - kept)


def _among(identities: Identities, rows: _Ints, pairs: Collection[_Pair]) -> _Ints:
    """Return those of `rows`, which are of one generation, whose offset and index are in `pairs`, each once."""
    own = np.empty(len(rows), _PAIR)
    own["offset"], own["index"] = identities.offset[rows], identities.index[rows]
    distinct, first = np.unique(own, return_index=True)
    found: _Ints = rows[first[np.isin(distinct, np.array(sorted(pairs), _PAIR))]]
    return found


def _last_rows(identities: Identities, rows: _Ints) -> Iterator[tuple[int, int]]:
    """Yield each generation among `rows`, by its index, with the row that has the highest offset and index."""
    of_row = identities.generation[rows]
    order = np.lexsort((identities.index[rows], identities.offset[rows], of_row))
    ends = np.flatnonzero(np.append(np.diff(of_row[order]) != 0, True)) if len(rows) else order
    yield from zip(of_row[order[ends]].tolist(), rows[order[ends]].tolist(), strict=True)
