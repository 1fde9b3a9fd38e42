"""What is known of resources: the current view of the compacted topic `Meta.Resources`, and what changes in it.

Every collector knows all resources, whoever saw them, and follows what others write: some hundred bytes each. What is about to
be written counts at once; if its transaction is aborted, everything is read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from sys import intern
from typing import Final, NamedTuple, Protocol
from urllib.parse import unquote

import msgspec
import structlog

from libs.common.azure.arm.api import ArmCall
from libs.common.errors import CodecError
from libs.common.kafka.records import Inbound
from libs.common.messages.resources import DELETED, ResourceFacts, decode_resource
from libs.common.packed import digest_of
from services.collector.resources import SeenPage, is_listed_by, place_of, type_listed_by

log = structlog.get_logger(__name__)

FOLLOW_SECONDS: Final = 5.0


class ResourceTable(Protocol):
    """A followed compacted topic; see `libs.common.kafka.readers.compacted.CompactedTable`."""

    def open(self) -> None:
        """Start at the beginning of all partitions."""

    def catch_up(self, timeout: float, between: Callable[[], None]) -> None:
        """Apply everything up to the current end; exceptions of `between` propagate."""

    def close(self) -> None:
        """Disconnect."""


MakeResourceTable = Callable[[Callable[[Inbound], None]], ResourceTable]


class _KnownResource(NamedTuple):
    id: str
    type: str
    content_hash: str | None  # None: it is gone
    first_seen: int


@dataclass(slots=True)
class _Listing:
    """A list that is being read from its first page on: which resources it had so far."""

    attempt: int
    pages: int = 0
    seen: set[bytes] = field(default_factory=set)


class Inventory:
    """Known resources, by the digest of their keys. `patience`: seconds without a record after which Kafka counts as down."""

    def __init__(self, make_table: MakeResourceTable, patience: float) -> None:
        self._make_table = make_table
        self._patience = patience
        self._table: ResourceTable | None = None
        self._known: dict[bytes, _KnownResource] = {}
        self._of_type: dict[str, set[bytes]] = {}  # by type in lower case
        self._listings: dict[str, _Listing] = {}

    def __len__(self) -> int:
        return len(self._known)

    def load(self, keep_alive: Callable[[], None]) -> None:
        """Read everything again. Raises whatever `keep_alive` raises, and `ServerUnreachable`."""
        self.close()
        self._table = self._make_table(self._apply)
        self._table.open()
        self.follow(keep_alive)

    def follow(self, keep_alive: Callable[[], None]) -> None:
        """Read what was written since. Raises as `load`."""
        if self._table is not None:
            self._table.catch_up(self._patience, keep_alive)

    def close(self) -> None:
        """Forget everything."""
        if self._table is not None:
            self._table.close()
            self._table = None
        self._known, self._of_type, self._listings = {}, {}, {}

    def changed(self, item: str, number: int, attempt: int, page: SeenPage) -> Iterator[ResourceFacts]:
        """Yield what is new in the answer `number` of an attempt at an item: resources that are unknown, or different now."""
        listing = self._listing(item, number, attempt, page)
        for facts in page.resources:
            digest = digest_of(facts.key)
            if listing is not None:
                listing.seen.add(digest)
            known = self._known.get(digest)
            if known is not None and known.content_hash == facts.content_hash:
                continue
            first_seen = facts.first_seen if known is None else known.first_seen
            self._put(digest, _KnownResource(facts.id, intern(facts.type.lower()), facts.content_hash, first_seen))
            yield _seen_first(facts, first_seen)

    def gone(self, item: str, call: ArmCall, now_ms: int) -> Iterator[ResourceFacts]:
        """Yield the resources that a list no longer has, at its end; none if it was not read from its first page here."""
        listing = self._listings.pop(item, None)
        if listing is None:
            return
        path = unquote(call.path).lower()
        for digest in self._of_type.get(type_listed_by(path), set()) - listing.seen:
            known = self._known[digest]
            if known.content_hash is not None and is_listed_by(path, known.id.lower()):
                self._known[digest] = known._replace(content_hash=None)
                yield _deleted(known, call.query[0][1], now_ms)

    def forget(self, item: str) -> None:
        """Forget what a list had so far: it ends without being complete."""
        self._listings.pop(item, None)

    def _listing(self, item: str, number: int, attempt: int, page: SeenPage) -> _Listing | None:
        if number == 0 and page.is_list:
            self._listings[item] = _Listing(attempt)
        listing = self._listings.get(item)
        if listing is None or (listing.pages, listing.attempt) != (number, attempt):
            self.forget(item)
            return None
        listing.pages += 1
        return listing

    def _apply(self, record: Inbound) -> None:
        if record.key is None:
            return
        digest = digest_of(record.key)
        try:
            facts = None if record.value is None else decode_resource(record.value)
        except CodecError:
            log.warning("a message is not about a resource", partition=record.partition, offset=record.offset)
            facts = None
        if facts is None:
            self._known.pop(digest, None)
            for digests in self._of_type.values():
                digests.discard(digest)
        else:
            self._put(digest, _KnownResource(facts.id, intern(facts.type.lower()), facts.content_hash, facts.first_seen))

    def _put(self, digest: bytes, known: _KnownResource) -> None:
        self._known[digest] = known
        self._of_type.setdefault(known.type, set()).add(digest)


def _seen_first(facts: ResourceFacts, first_seen: int) -> ResourceFacts:
    return facts if first_seen == facts.first_seen else msgspec.structs.replace(facts, first_seen=first_seen)


def _deleted(known: _KnownResource, version: str, now_ms: int) -> ResourceFacts:
    subscription, group = place_of(known.id)
    return ResourceFacts(
        id=known.id,
        time=now_ms,
        first_seen=known.first_seen,
        api_version=version,
        type=known.type,
        state=DELETED,
        name=known.id.rpartition("/")[2],
        resource_group=group,
        subscription=subscription,
    )
