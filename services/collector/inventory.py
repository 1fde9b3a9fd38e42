"""What is known of resources: the current view of the compacted topic `Meta.Resources`, and what changes in it.

Every collector knows all resources that are there, whoever saw them, and follows what others write. What is about to be written
counts at once; if its transaction is aborted, everything is read again. What is gone is forgotten: if it comes back, it is new.

Whether a list still has a resource is told by numbers: each list that begins gets the next one, and whatever is seen gets the
latest. When a list ends, what it would have, but has a smaller number, has not been seen since the list began.

Lost permissions look as if resources were gone. So if a list lacks very much, this is not believed at first: what it lacks is
written as missing, and is gone if the next list lacks it as well.

Until what this process has written has been read back from the topic, the state before is kept beside it: that is what the new
one is compared with. It is always read back, because Kafka compacts nothing that was written a moment ago.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, Self
from urllib.parse import unquote

import msgspec
import structlog

from libs.common.azure.arm.api import ArmCall
from libs.common.errors import CodecError
from libs.common.kafka.records import Inbound, StateTable
from libs.common.messages.resources import DELETED, MISSING, PRESENT, ResourceFacts, decode_resource
from libs.common.settings.collector import CollectorSettings
from services.collector.known_resources import KnownResource, KnownResources, ListedResources, RecordPlace
from services.collector.resources import SeenPage, place_of, type_listed_by

log = structlog.get_logger(__name__)

FOLLOW_SECONDS: Final = 5.0


class FollowedTable(StateTable, Protocol):
    """A compacted topic whose new records are taken now and then."""

    def take_new(self, between: Callable[[], None]) -> None:
        """Apply what has arrived; wait for nothing."""


MakeFollowedTable = Callable[[Callable[[Inbound], None]], FollowedTable]


@dataclass(frozen=True, slots=True)
class InventoryRules:
    """When something is written.

    Attributes:
        refresh_ms: after which a resource that has not changed is written again.
        doubt_share: more than this share of what a list would have is not believed to be gone at once.
        doubt_least: but fewer than this are.
    """

    refresh_ms: int
    doubt_share: float
    doubt_least: int

    @classmethod
    def of(cls, settings: CollectorSettings) -> Self:
        """Return the rules in the settings."""
        return cls(round(settings.refresh_hours * 3_600_000), settings.doubt_percent / 100, settings.doubt_least)

    def doubts(self, listed: ListedResources) -> bool:
        """Return whether so much is lacking that it may be seen no more, rather than gone."""
        lacking = sum(not known.is_missing for _, known in listed.lacking)
        return lacking >= self.doubt_least and lacking > self.doubt_share * listed.there


@dataclass(slots=True)
class _Listing:
    """A list that is being read from its first page on."""

    number: int
    attempt: int
    pages: int = 0


_Mark = tuple[str, int, int, str | None]
"""By what a process recognises what it has written: state, both times, and the hash."""


@dataclass(slots=True)
class _Unread:
    """What this process has written last of a resource, but not read back, and what was read before."""

    written: _Mark
    before: KnownResource | None


class Inventory:
    """Known resources. `patience`: seconds without a record after which Kafka counts as down."""

    def __init__(self, make_table: MakeFollowedTable, patience: float, rules: InventoryRules) -> None:
        self._make_table = make_table
        self._patience = patience
        self._rules = rules
        self._table: FollowedTable | None = None
        self._known = KnownResources()
        self._unread: dict[bytes, _Unread] = {}
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

    def catch_up(self, between: Callable[[], None]) -> None:
        """Read everything that was written until now, by anyone. Raises `ServerUnreachable`."""
        if self._table is not None:
            self._table.catch_up(self._patience, between)

    def close(self) -> None:
        """Forget everything."""
        if self._table is not None:
            self._table.close()
            self._table = None
        self._known, self._unread, self._listings = KnownResources(), {}, {}

    def changed(self, item: str, number: int, attempt: int, page: SeenPage) -> Iterator[ResourceFacts]:
        """Yield what is to be written because of the answer `number` of an attempt at an item.

        That is what is unknown, different now, no longer missing, or has not been written for long.
        """
        self._note_page(item, number, attempt, page)
        resources = {facts.key: facts for facts in page.resources}
        known = self._known.see(list(resources), self._number)
        for facts, before in zip(resources.values(), known, strict=True):
            new = self._news(facts, before)
            if new is not None:
                self._put(new, before)
                yield new

    def gone(self, item: str, call: ArmCall, now_ms: int) -> Iterator[ResourceFacts]:
        """Yield the resources that a list lacks, at its end; none if it was not read from its first page here."""
        listing = self._listings.pop(item, None)
        if listing is None:
            return
        path = unquote(call.path).lower()
        listed = self._known.listed(path, listing.number)
        is_in_doubt = self._rules.doubts(listed)
        if is_in_doubt:
            lacking = sum(not known.is_missing for _, known in listed.lacking)
            log.warning("so many resources are missing that they may be hidden", path=path, missing=lacking, of=listed.there)
        for resource_id, known in listed.lacking:
            state = MISSING if is_in_doubt and not known.is_missing else DELETED
            facts = msgspec.structs.replace(_lacking(resource_id, known, call, now_ms), state=state)
            self._put(facts, known)
            yield facts

    def forget(self, item: str) -> None:
        """Forget what a list had so far: it ends without being complete."""
        self._listings.pop(item, None)

    def before(self, key: bytes) -> KnownResource | None:
        """Return what was read last of a resource that is about to be written."""
        unread = self._unread.get(key)
        return None if unread is None else unread.before

    def settled(self, facts: ResourceFacts) -> tuple[ResourceFacts | None, KnownResource | None]:
        """Return `facts` as they are to be written after what was read last, and what that says.

        None instead of facts if they are no news, because another collector has written the same meanwhile.
        """
        unread = self._unread.get(facts.key)
        if unread is None:  # the very same was read meanwhile
            return None, None
        if facts.state == PRESENT:
            again = msgspec.structs.replace(facts, first_seen=facts.last_seen, time=facts.last_seen)
            news = self._news(again, unread.before)
        else:
            is_known = unread.before is None or (facts.state == MISSING and unread.before.is_missing)
            news = None if is_known else facts
        if news is None and unread.written == _mark_of(facts):
            self._drop(facts.key, unread)
        return news, unread.before

    def note_written(self, facts: ResourceFacts) -> None:
        """Note what is written in the end, so that it is recognised when it is read."""
        self._unread[facts.key].written = _mark_of(facts)

    def _news(self, facts: ResourceFacts, before: KnownResource | None) -> ResourceFacts | None:
        """Return what is to be written of a resource that is seen now; None if nothing is."""
        if before is None:
            return facts
        if not before.is_same(facts):
            return msgspec.structs.replace(facts, first_seen=before.first_seen)
        if facts.last_seen - before.last_seen < self._rules.refresh_ms:
            return None
        return msgspec.structs.replace(facts, first_seen=before.first_seen, time=before.time)

    def _put(self, facts: ResourceFacts, before: KnownResource | None) -> None:
        unread = self._unread.get(facts.key)
        if unread is None:
            self._unread[facts.key] = _Unread(_mark_of(facts), before)
        else:
            unread.written = _mark_of(facts)
        if facts.state == DELETED:
            self._known.remove(facts.key)
        else:
            self._known.put(facts, self._number)

    def _drop(self, key: bytes, unread: _Unread) -> None:
        """Return to what was read."""
        del self._unread[key]
        if unread.before is None:
            self._known.remove(key)
        else:
            self._known.place(key, unread.before.place)

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
        place, key = RecordPlace(record.partition, record.offset), record.key or b""
        try:
            self._take(key, decode_resource(record.value or b""), place)
        except (CodecError, ValueError, OverflowError, struct.error):  # a tombstone, or not ours
            self._take_nothing(key)

    def _take(self, key: bytes, facts: ResourceFacts, place: RecordPlace) -> None:
        unread = self._unread.get(key)
        if unread is not None and unread.written == _mark_of(facts):
            del self._unread[key]
            self._known.place(key, place)
        elif facts.state == DELETED:
            self._take_nothing(key)
        elif unread is None:
            self._known.put(facts, self._number, place)
        else:
            unread.before = KnownResource.of(facts, place)

    def _take_nothing(self, key: bytes) -> None:
        unread = self._unread.get(key)
        if unread is None:
            self._known.remove(key)
        else:
            unread.before = None


def _mark_of(facts: ResourceFacts) -> _Mark:
    return facts.state, facts.time, facts.last_seen, facts.content_hash


def _lacking(resource_id: str, known: KnownResource, call: ArmCall, now_ms: int) -> ResourceFacts:
    """Return what is known of a resource that a list lacks; the state is still to be said."""
    subscription, group = place_of(resource_id)
    return ResourceFacts(
        id=resource_id,
        time=now_ms,
        first_seen=known.first_seen,
        last_seen=known.last_seen,
        api_version=call.query[0][1],
        type=type_listed_by(unquote(call.path).lower()),
        name=resource_id.rpartition("/")[2],
        resource_group=group,
        subscription=subscription,
    )
