"""What is known of resources: the current view of the compacted topic `Meta.Resources`, and what changes in it.

Every collector knows all resources that are there, whoever saw them, and follows what others write. What is about to be written
counts at once; if its transaction is aborted, everything is read again. What is gone is forgotten: if it comes back, it is new.

Whether a list still has a resource is told by numbers: each list that begins gets the next one, and whatever is seen gets the
latest. When a list ends, what it would have, but has a smaller number, has not been seen since the list began.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import unquote

import msgspec

from libs.common.azure.arm.api import ArmCall
from libs.common.errors import CodecError
from libs.common.kafka.records import Inbound, StateTable
from libs.common.messages.resources import DELETED, ResourceFacts, decode_resource, key_of
from services.collector.known_resources import KnownResources, RecordPlace
from services.collector.resources import SeenPage, place_of, type_listed_by

FOLLOW_SECONDS: Final = 5.0


class FollowedTable(StateTable, Protocol):
    """A compacted topic whose new records are taken now and then."""

    def take_new(self, between: Callable[[], None]) -> None:
        """Apply what has arrived; wait for nothing."""


MakeFollowedTable = Callable[[Callable[[Inbound], None]], FollowedTable]


@dataclass(slots=True)
class _Listing:
    """A list that is being read from its first page on."""

    number: int
    attempt: int
    pages: int = 0


class Inventory:
    """Known resources. `patience`: seconds without a record after which Kafka counts as down."""

    def __init__(self, make_table: MakeFollowedTable, patience: float) -> None:
        self._make_table = make_table
        self._patience = patience
        self._table: FollowedTable | None = None
        self._known = KnownResources()
        self._listings: dict[str, _Listing] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._known)

    def load(self, keep_alive: Callable[[], None]) -> None:
        """Read everything again. Raises whatever `keep_alive` raises, and `ServerUnreachable`."""
        self.close()
        table = self._make_table(self._apply)
        try:
            table.open()
            table.catch_up(self._patience, keep_alive)
        except BaseException:
            table.close()
            raise
        self._table = table

    def follow(self, between: Callable[[], None]) -> None:
        """Read what has arrived since; nothing is waited for, so that Kafka may be away."""
        if self._table is not None:
            self._table.take_new(between)

    def close(self) -> None:
        """Forget everything."""
        if self._table is not None:
            self._table.close()
            self._table = None
        self._known, self._listings = KnownResources(), {}

    def changed(self, item: str, number: int, attempt: int, page: SeenPage) -> Iterator[ResourceFacts]:
        """Yield what is new in the answer `number` of an attempt at an item: resources that are unknown, or different now."""
        self._note_page(item, number, attempt, page)
        resources = {facts.key: facts for facts in page.resources}
        known = self._known.see(list(resources), self._number)
        for facts, before in zip(resources.values(), known, strict=True):
            if before is None:
                self._known.put(facts, self._number)
                yield facts
            elif not before.is_same(facts):
                changed = msgspec.structs.replace(facts, first_seen=before.first_seen)
                self._known.put(changed, self._number)
                yield changed

    def gone(self, item: str, call: ArmCall, now_ms: int) -> Iterator[ResourceFacts]:
        """Yield the resources that a list no longer has, at its end; none if it was not read from its first page here."""
        listing = self._listings.pop(item, None)
        if listing is None:
            return
        path = unquote(call.path).lower()
        for resource_id, first_seen in list(self._known.missing(path, listing.number)):
            self._known.remove(key_of(resource_id))
            yield _deleted(resource_id, first_seen, call, now_ms)

    def forget(self, item: str) -> None:
        """Forget what a list had so far: it ends without being complete."""
        self._listings.pop(item, None)

    def _note_page(self, item: str, number: int, attempt: int, page: SeenPage) -> None:
        if number == 0 and page.is_list:
            self._number += 1
            self._listings[item] = _Listing(self._number, attempt)
        listing = self._listings.get(item)
        if listing is not None and (listing.pages, listing.attempt) == (number, attempt):
            listing.pages += 1
        else:
            self.forget(item)

    def _apply(self, record: Inbound) -> None:
        try:
            facts = decode_resource(record.value or b"")
            if facts.state != DELETED:
                self._known.put(facts, self._number, RecordPlace(record.partition, record.offset))
                return
        except (CodecError, ValueError, OverflowError, struct.error):  # a tombstone, or not ours
            pass
        self._known.remove(record.key or b"")


def _deleted(resource_id: str, first_seen: int, call: ArmCall, now_ms: int) -> ResourceFacts:
    subscription, group = place_of(resource_id)
    return ResourceFacts(
        id=resource_id,
        time=now_ms,
        first_seen=first_seen,
        api_version=call.query[0][1],
        type=type_listed_by(unquote(call.path).lower()),
        state=DELETED,
        name=resource_id.rpartition("/")[2],
        resource_group=group,
        subscription=subscription,
    )
