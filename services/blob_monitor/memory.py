"""What the monitor remembers of every blob: the compacted state topic in memory, by scope so that prefixes are kept once.

About half a kilobyte a blob. The topic also holds two kinds of `BlobsListed`: one a territory, written when it was first looked
at (what start_fresh counts as existing), and one a scope, of its last full listing (what resume policy timestamp goes back to).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from libs.common.blobs import BlobId
from libs.common.errors import CodecError
from libs.common.events import BlobsListed, BlobState, BlobStatus, decode_event
from libs.common.kafka.records import Inbound
from services.blob_monitor import metrics
from services.blob_monitor.evaluate import Known
from services.blob_monitor.sources import Atlas, Scope

log = structlog.get_logger(__name__)

# Before the key of a scope; no account alias begins so.
FULL_LISTING = "full:"


@dataclass(slots=True)
class _Rows:
    """The blobs of one scope by the rest of their names."""

    known: dict[str, Known] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)


class Memory:
    """Known blobs by scope, and when territories were first looked at. Used from one thread."""

    def __init__(self, atlas: Atlas) -> None:
        self._atlas = atlas
        self._scopes: dict[str, _Rows] = {}
        self._first_looks: dict[str, datetime] = {}
        self._full_listings: dict[str, datetime] = {}

    def apply(self, record: Inbound) -> None:
        """Take in one record of the state topic; one that cannot be read is counted and reported, never fatal."""
        try:
            key = (record.key or b"").decode()
            if record.value is None:
                self._remove(key)
                return
            event = decode_event(record.value)
            if isinstance(event, BlobState):
                self._take(event)
            elif isinstance(event, BlobsListed) and key.startswith(FULL_LISTING):
                self._full_listings[key.removeprefix(FULL_LISTING)] = event.listing_started_at
            elif isinstance(event, BlobsListed):
                self.look_first(key, event.listing_started_at)
        except (CodecError, UnicodeDecodeError) as error:
            metrics.UNREADABLE_STATE.inc()
            log.error("unreadable state record", partition=record.partition, offset=record.offset, error=str(error))  # noqa: TRY400

    def get(self, scope: Scope, name: str) -> Known | None:
        """Return what is remembered of a blob."""
        rows = self._scopes.get(scope.key)
        return rows.known.get(name[len(scope.prefix) :]) if rows else None

    def put(self, scope: Scope, name: str, known: Known | None) -> None:
        """Remember a blob; None forgets it."""
        rows = self._scopes.setdefault(scope.key, _Rows())
        rest = name[len(scope.prefix) :]
        if known is None:
            rows.known.pop(rest, None)
        else:
            rows.known[rest] = known
        if known is None or known.closed:
            rows.open.discard(rest)
        else:
            rows.open.add(rest)

    def first_look(self, key: str) -> datetime | None:
        """Return when the territory `key` was first looked at under start_fresh."""
        return self._first_looks.get(key)

    def look_first(self, key: str, at: datetime) -> None:
        """Note when the territory `key` was first looked at, by storage's clock: blob times are compared with it."""
        self._first_looks[key] = at

    def open_names(self, scope: Scope) -> list[str]:
        """Name the blobs of a scope that are not closed."""
        rows = self._scopes.get(scope.key)
        return [scope.prefix + rest for rest in rows.open] if rows else []

    def unseen(self, scope: Scope, listing_round: int) -> Iterator[tuple[str, Known]]:
        """Yield the blobs of a scope that the full listing `listing_round` has not seen."""
        rows = self._scopes.get(scope.key)
        for rest, known in list(rows.known.items()) if rows else ():
            if known.round != listing_round:
                yield scope.prefix + rest, known

    def complete_until(self, scope: Scope) -> datetime | None:
        """Return a time before which everything of a scope has been seen; None if it was never listed in full."""
        rows, listed_at = self._scopes.get(scope.key), self._full_listings.get(scope.key)
        if rows is None or listed_at is None:
            return None
        # Blob times are storage's, which our clock may be ahead of.
        return min(listed_at, max((known.modified for known in rows.known.values()), default=listed_at))

    def counts(self) -> tuple[int, int]:
        """Return how many blobs are known, and how many of them are open."""
        return sum(len(rows.known) for rows in self._scopes.values()), sum(len(rows.open) for rows in self._scopes.values())

    def _take(self, state: BlobState) -> None:
        blob = BlobId.parse(state.blob)
        if scope := self._atlas.scope_of(blob):
            known, before = _known(state), self.get(scope, blob.name)
            known.round = before.round if before else 0  # our own records come back in the middle of a full listing
            self.put(scope, blob.name, known)

    def _remove(self, key: str) -> None:
        blob = BlobId.parse(key)
        if scope := self._atlas.scope_of(blob):
            self.put(scope, blob.name, None)


def _known(state: BlobState) -> Known:
    return Known(
        etag=state.etag,
        size=state.size,
        modified=state.last_modified,
        first_seen=state.first_observed_at,
        closed=state.status is BlobStatus.CLOSED,
        baseline=state.baseline_offset,
        replay_id=sys.intern(state.replay_id),
    )
