"""The monitor's memory of blobs: open ones, recent ones, and all of them where names carry no time.

The state topic has every blob. A monitor keeps in memory, for its own scopes:

- open blobs, waiting to be closed, at half a kilobyte each;
- closed blobs of the hours or days that are listed at every interval, at about 250 bytes each;
- in the flat layout, where everything is listed every time, closed blobs as packed rows of 48 bytes;
- in the other layouts, packed rows of all blobs of a scope only while it is listed in full (`recall.py` reads them).

Hence a listing of current hours decides nothing about an unknown blob of an hour that has left memory; full listings do.
The topic also holds two kinds of `BlobsListed`: one per territory, written at the first look at it (which defines what
start_fresh treats as existing), and one per scope, for its last full listing (from which resume policy timestamp resumes).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final

import numpy as np
import structlog

from libs.common.azure.storage.api import ListedBlob
from libs.common.errors import CodecError
from libs.common.kafka.records import Inbound
from libs.common.messages.blobs import BlobId
from libs.common.messages.events import BlobsListed, BlobState, BlobStatus, decode_event, read_fields
from libs.common.packed import PackedTable
from libs.common.settings.storage import NameLayout
from services.blob_monitor import metrics
from services.blob_monitor.evaluate import Known
from services.blob_monitor.prefixes import time_part
from services.blob_monitor.rows import MICROSECONDS, ROW, RowForm, is_same, replay_of, round_of, seconds_of, with_round
from services.blob_monitor.sources import Atlas, Scope

log = structlog.get_logger(__name__)

# Prefix of scope keys; no account alias begins with it.
FULL_LISTING = "full:"
_MOST_DOOMED: Final = 100_000  # deleted blobs whose names are looked up in one pass over the topic
_CLOSED: Final[dict[str, bool]] = {BlobStatus.CLOSED: True, BlobStatus.OPEN: False}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Same(Enum):
    """The blob is known in the listed version, and is not open."""

    SAME = 0


class RowPlace(Enum):
    """Where the row of a blob is kept."""

    RECENT = "recent"
    PACKED = "packed"
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True)
class Sight:
    """The context of a look at blobs: a replay id under which to announce each once (or ""), a full listing (or 0)."""

    replay_id: str = ""
    listing_round: int = 0


Remembered = Known | Same | None


@dataclass(slots=True)
class _Shelf:
    """The blobs of one scope, keyed by their names without the scope's prefix."""

    scope: Scope
    open: dict[str, Known] = field(default_factory=dict)
    recent: dict[str, bytes] = field(default_factory=dict)
    packed: PackedTable | None = None
    is_expected: bool = False  # rows of all blobs are being read: keep those closed meanwhile
    records: int = 0  # upper bound on blobs in the topic: records of blobs that were not in memory
    newest: int | None = None  # seconds since 1970 of the last write to any blob


class Memory:
    """Known blobs by scope, and when territories were first looked at. Used from one thread."""

    def __init__(self, atlas: Atlas, form: RowForm, *, closing: bool) -> None:
        self._atlas = atlas
        self._form = form
        self._closing = closing  # False: no blob is ever open
        self._shelves: dict[str, _Shelf] = {}
        self._first_looks: dict[str, datetime] = {}
        self._full_listings: dict[str, datetime] = {}
        self._is_mine: Callable[[str], bool] = lambda _: True
        self._horizons: dict[NameLayout, str] = {}
        self._is_loading = True

    def begin(self, is_mine: Callable[[str], bool]) -> None:
        """Forget everything before loading the topic from its beginning; `is_mine` judges scopes by their keys."""
        self._shelves.clear()
        self._first_looks.clear()
        self._full_listings.clear()
        self._horizons.clear()
        self._is_mine = is_mine
        self._is_loading = True

    def keep(self, is_mine: Callable[[str], bool]) -> None:
        """Drop the scopes for which `is_mine` is false."""
        self._is_mine = is_mine
        self._shelves = {key: shelf for key, shelf in self._shelves.items() if is_mine(key)}

    def loaded(self) -> None:
        """Record that the end of the topic has been reached."""
        self._is_loading = False

    def is_ahead_of(self, horizons: Mapping[NameLayout, str]) -> bool:
        """Return whether hours or days from `horizons` on were already dropped: the clock was ahead then."""
        return any(horizon < self._horizons.get(layout, "") for layout, horizon in horizons.items())

    def move(self, horizons: Mapping[NameLayout, str]) -> None:
        """Drop closed blobs of hours and days before `horizons`, which never move back."""
        moved = {layout: max(horizon, self._horizons.get(layout, "")) for layout, horizon in horizons.items()}
        if moved == self._horizons:
            return
        self._horizons = moved
        for shelf in self._shelves.values():
            if not shelf.is_expected:
                self._let_go(shelf)

    def apply(self, record: Inbound) -> None:
        """Apply one record of the state topic; an unreadable one is counted and logged, never fatal."""
        try:
            key = (record.key or b"").decode()
            if key.startswith(FULL_LISTING):
                self._take_listing(key, record.value)
            elif (found := self._atlas.find(key)) is None:
                self._take_other(key, record.value)
            elif self._is_mine(found[0].key):
                self._take_state(found[0], found[1], record)
        except (CodecError, UnicodeDecodeError) as error:
            metrics.UNREADABLE_STATE.inc()
            log.error("unreadable state record", partition=record.partition, offset=record.offset, error=str(error))  # noqa: TRY400

    def get(self, scope: Scope, name: str, etag: str = "") -> Known | None:
        """Return what is remembered of a blob listed with `etag`."""
        shelf, rest = self._shelves.get(scope.key), name[len(scope.prefix) :]
        if shelf is None:
            return None
        row = _row_of(shelf, rest)
        return shelf.open.get(rest) or (None if row is None else self._form.unpack(row, etag))

    def review(self, scope: Scope, blobs: Sequence[ListedBlob], sight: Sight) -> list[Remembered]:
        """Return what is remembered of each blob, and mark known ones as seen."""
        shelf = self._shelves.get(scope.key)
        if shelf is None:
            return [None] * len(blobs)
        start = len(scope.prefix)
        replay = self._form.replay_number(sight.replay_id) if sight.replay_id else None
        found = [self._by_name(shelf, blob.name[start:], blob.etag, (replay, sight.listing_round)) for blob in blobs]
        missing = [index for index, known in enumerate(found) if known is None]
        if shelf.packed is None or not missing:
            return found
        rows, places = shelf.packed.find([blobs[index].name[start:].encode() for index in missing])
        for index, place in zip(missing, places.tolist(), strict=True):
            if place >= 0:
                found[index] = self._seen(rows[place].tobytes(), blobs[index].etag, replay)
        if sight.listing_round:
            rows["round"][places[places >= 0]] = sight.listing_round
        return found

    def put(self, scope: Scope, name: str, known: Known | None) -> None:
        """Remember a blob; None forgets it."""
        shelf, rest = self._shelf(scope), name[len(scope.prefix) :]
        if known is None:
            _remove(shelf, rest)
            return
        _write(shelf, rest, seconds_of(known.modified))
        if self._is_awaited(closed=known.closed):
            _remove(shelf, rest)
            shelf.open[rest] = known
        elif (place := self._place_of(shelf, rest)) is RowPlace.NOWHERE:
            _remove(shelf, rest)
        else:
            _settle(shelf, rest, place, self._form.pack(known))

    def is_resident(self, scope: Scope, name: str) -> bool:
        """Return whether a blob would be in memory if known: in the flat layout, or in currently listed hours or days."""
        layout = scope.territory.layout
        if layout is NameLayout.FLAT:
            return True
        part = time_part(layout, name, len(scope.prefix))
        return part is not None and part >= self._horizons.get(layout, "")

    def first_look(self, key: str) -> datetime | None:
        """Return when the territory `key` was first looked at under start_fresh."""
        return self._first_looks.get(key)

    def look_first(self, key: str, at: datetime) -> None:
        """Record when the territory `key` was first looked at, by storage's clock: blob times are compared with it."""
        self._first_looks[key] = at

    def open_names(self, scope: Scope) -> list[str]:
        """Return the names of open blobs in a scope."""
        shelf = self._shelves.get(scope.key)
        return [scope.prefix + rest for rest in shelf.open] if shelf else []

    def is_complete(self, scope: Scope) -> bool:
        """Return whether all known blobs of a scope are in memory, so that it can be listed in full."""
        shelf = self._shelf(scope)
        if shelf.packed is None and not shelf.records:
            self.expect([scope])
            self.attach(scope, PackedTable(ROW))
        return shelf.packed is not None

    def rows_held(self, scope: Scope) -> int:
        """Return how many rows are held for a full listing of a scope only."""
        shelf = self._shelf(scope)
        is_held = shelf.packed is not None and scope.territory.layout is not NameLayout.FLAT
        return shelf.records if is_held else 0

    def records(self, scope: Scope) -> int:
        """Return how many blobs of a scope the topic knows at most."""
        return self._shelf(scope).records

    def expect(self, scopes: Iterable[Scope]) -> None:
        """Let nothing of `scopes` go until they are released: rows of all their blobs are being read."""
        for scope in scopes:
            self._shelf(scope).is_expected = True

    def attach(self, scope: Scope, rows: PackedTable) -> None:
        """Hold the rows of all blobs of a scope; what has become known since they were asked for is newer."""
        shelf = self._shelf(scope)
        if shelf.packed is None and shelf.is_expected:
            for rest in (*shelf.open, *shelf.recent):
                rows.remove(rest.encode())
            shelf.packed = rows
            shelf.records = len(rows) + len(shelf.open) + len(shelf.recent)

    def release(self, scope: Scope) -> None:
        """Drop what only a full listing needs."""
        shelf = self._shelf(scope)
        shelf.is_expected = False
        if scope.territory.layout is not NameLayout.FLAT:
            shelf.packed = None
            self._let_go(shelf)

    def release_all(self) -> None:
        """Drop what only full listings need, in all scopes."""
        for shelf in self._shelves.values():
            self.release(shelf.scope)

    def unseen(self, scope: Scope, listing_round: int) -> Iterator[tuple[str, Known]]:
        """Yield the blobs of a scope that have their names in memory and were not seen by the full listing `listing_round`."""
        shelf = self._shelf(scope)
        for rest, known in list(shelf.open.items()):
            if known.round != listing_round:
                yield scope.prefix + rest, known
        for rest, row in list(shelf.recent.items()):
            if round_of(row) != listing_round:
                yield scope.prefix + rest, self._form.unpack(row, "")

    def doomed(self, scope: Scope, listing_round: int, begun: datetime, unwritten_since: datetime) -> frozenset[bytes]:
        """Return digests of packed rows not seen by the full listing, which began at `begun`, and unwritten since a time."""
        packed = self._shelf(scope).packed
        if packed is None:
            return frozenset()
        rows = packed.rows()
        chosen = (rows["round"] != listing_round) & (rows["first_seen"] < max(seconds_of(begun), 0))
        chosen &= rows["modified"] < max(seconds_of(unwritten_since), 0)
        if chosen.sum() > _MOST_DOOMED:
            chosen &= np.cumsum(chosen) <= _MOST_DOOMED
        return frozenset(packed.digests(chosen))

    def is_gone(self, scope: Scope, name: str, listing_round: int) -> bool:
        """Return whether a blob has not been seen since the full listing `listing_round` missed it."""
        shelf, rest = self._shelf(scope), name[len(scope.prefix) :]
        row = _row_of(shelf, rest)
        return rest not in shelf.open and (row is None or round_of(row) != listing_round)

    def complete_until(self, scope: Scope) -> datetime | None:
        """Return a time before which every blob of a scope has been seen; None if it was never listed in full."""
        shelf, listed_at = self._shelves.get(scope.key), self._full_listings.get(scope.key)
        if shelf is None or shelf.newest is None or listed_at is None:
            return None
        # Blob times come from storage's clock; ours may be ahead.
        return min(listed_at, datetime.fromtimestamp(shelf.newest, UTC))

    def counts(self) -> tuple[int, int]:
        """Return the number of blobs in memory and the number of open ones."""
        still_open = sum(len(shelf.open) for shelf in self._shelves.values())
        packed = sum(shelf.packed.approximate_length for shelf in self._shelves.values() if shelf.packed is not None)
        return still_open + packed + sum(len(shelf.recent) for shelf in self._shelves.values()), still_open

    def _shelf(self, scope: Scope) -> _Shelf:
        shelf = self._shelves.get(scope.key)
        if shelf is None:
            packed = PackedTable(ROW) if scope.territory.layout is NameLayout.FLAT else None
            shelf = self._shelves[scope.key] = _Shelf(scope, packed=packed)
        return shelf

    def _is_awaited(self, *, closed: bool) -> bool:
        return self._closing and not closed

    def _by_name(self, shelf: _Shelf, rest: str, etag: str, sight: tuple[int | None, int]) -> Remembered:
        replay, listing_round = sight
        known = shelf.open.get(rest)
        if known is not None:
            if listing_round:
                known.round = listing_round
            return known
        row = shelf.recent.get(rest)
        if row is None:
            return None
        if listing_round:
            row = shelf.recent[rest] = with_round(row, listing_round)
        return self._seen(row, etag, replay)

    def _seen(self, row: bytes, etag: str, replay: int | None) -> Remembered:
        if is_same(row, etag) and (replay is None or replay_of(row) == replay):
            return Same.SAME
        return self._form.unpack(row, etag)

    def _place_of(self, shelf: _Shelf, rest: str) -> RowPlace:
        """Return where the row of a blob belongs; NOWHERE: only in the topic."""
        scope = shelf.scope
        if scope.territory.layout is not NameLayout.FLAT and self.is_resident(scope, scope.prefix + rest):
            return RowPlace.RECENT
        if shelf.packed is not None:
            return RowPlace.PACKED
        return RowPlace.RECENT if shelf.is_expected else RowPlace.NOWHERE

    def _let_go(self, shelf: _Shelf) -> None:
        scope = shelf.scope
        shelf.recent = {rest: row for rest, row in shelf.recent.items() if self.is_resident(scope, scope.prefix + rest)}

    def _take_listing(self, key: str, value: bytes | None) -> None:
        event = decode_event(value) if value is not None else None
        if isinstance(event, BlobsListed):
            self._full_listings[key.removeprefix(FULL_LISTING)] = event.listing_started_at

    def _take_other(self, key: str, value: bytes | None) -> None:
        """Apply a first look at a territory; ignore blobs that the configuration no longer covers."""
        if value is None:
            BlobId.parse(key)
        elif isinstance(event := decode_event(value), BlobsListed):
            self.look_first(key, event.listing_started_at)

    def _take_state(self, scope: Scope, name: str, record: Inbound) -> None:
        value, shelf, rest = record.value, self._shelf(scope), name[len(scope.prefix) :]
        if value is None:
            _remove(shelf, rest)
            return
        fields = read_fields(value, BlobState)
        if fields is None:
            self._take_other((record.key or b"").decode(), value)
            return
        _write(shelf, rest, fields["last_modified"] // MICROSECONDS)
        # Our own records are read back in the middle of a full listing.
        listing_round = 0 if self._is_loading else _round(shelf, rest)
        if self._is_awaited(closed=_is_closed(fields)):
            _remove(shelf, rest)
            shelf.open[rest] = _known(fields, listing_round)
        elif (place := self._place_of(shelf, rest)) is RowPlace.NOWHERE:
            _remove(shelf, rest)
        else:
            _settle(shelf, rest, place, self._form.pack_fields(fields, listing_round))


def _write(shelf: _Shelf, rest: str, modified: int) -> None:
    shelf.records += rest not in shelf.open and rest not in shelf.recent
    shelf.newest = modified if shelf.newest is None else max(shelf.newest, modified)


def _settle(shelf: _Shelf, rest: str, place: RowPlace, row: bytes) -> None:
    """Keep the row of a blob that is not open."""
    shelf.open.pop(rest, None)
    if place is RowPlace.RECENT:
        shelf.recent[rest] = row
    elif shelf.packed is not None:
        shelf.recent.pop(rest, None)
        shelf.packed.put(rest.encode(), row)


def _remove(shelf: _Shelf, rest: str) -> None:
    shelf.open.pop(rest, None)
    shelf.recent.pop(rest, None)
    if shelf.packed is not None:
        shelf.packed.remove(rest.encode())


def _row_of(shelf: _Shelf, rest: str) -> bytes | None:
    row = shelf.recent.get(rest)
    return shelf.packed.get(rest.encode()) if row is None and shelf.packed is not None else row


def _round(shelf: _Shelf, rest: str) -> int:
    known = shelf.open.get(rest)
    if known is not None:
        return known.round
    row = _row_of(shelf, rest)
    return 0 if row is None else round_of(row)


def _is_closed(fields: Mapping[str, Any]) -> bool:
    is_closed = _CLOSED.get(fields["status"])
    if is_closed is None:
        raise CodecError(f"broken BlobState event: no status {fields['status']!r:.100}")
    return is_closed


def _known(fields: Mapping[str, Any], listing_round: int) -> Known:
    return Known(
        etag=fields["etag"],
        size=fields["size"],
        modified=_EPOCH + timedelta(microseconds=fields["last_modified"]),
        first_seen=_EPOCH + timedelta(microseconds=fields["first_observed_at"]),
        closed=_is_closed(fields),
        baseline=fields["baseline_offset"],
        replay_id=sys.intern(fields["replay_id"]),
        round=listing_round,
    )
