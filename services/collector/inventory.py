"""What is known of resources: the current view of the compacted topic `Meta.Resources`, and what changes in it.

Every collector knows all resources, whoever saw them, and follows what others write; one takes 300 bytes. What is about to be
written counts at once; if its transaction is aborted, everything is read again.

Whether a list still has a resource is told by numbers: each list that begins gets the next one, and whatever is seen gets the
latest. When a list ends, what it would have, but has a smaller number, has not been seen since the list began.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import unquote

import msgspec

from libs.common.azure.arm.api import ArmCall
from libs.common.errors import CodecError
from libs.common.kafka.records import Inbound, MakeTable, StateTable
from libs.common.messages.resources import DELETED, ResourceFacts, decode_resource
from libs.common.packed import digest_of
from services.collector.resources import SeenPage, is_listed_by, place_of, type_listed_by

FOLLOW_SECONDS: Final = 5.0
_PACKED: Final = struct.Struct("<QQ16s")
_GONE: Final = bytes(16)


@dataclass(slots=True)
class _Listing:
    """A list that is being read from its first page on."""

    number: int
    attempt: int
    pages: int = 0


class _KnownResource(NamedTuple):
    """What is known of a resource.

    Attributes:
        seen: the latest number when it was seen.
        content_hash: 16 bytes; empty if it is gone.
    """

    seen: int
    first_seen: int
    content_hash: bytes
    id: str

    def packed(self) -> bytes:
        """Return it as few bytes: there may be very many."""
        return _PACKED.pack(self.seen, self.first_seen, self.content_hash or _GONE) + self.id.encode()


def _unpacked(data: bytes) -> _KnownResource:
    seen, first_seen, content_hash = _PACKED.unpack_from(data)
    return _KnownResource(seen, first_seen, b"" if content_hash == _GONE else content_hash, data[_PACKED.size :].decode())


class Inventory:
    """Known resources, by the digest of their keys. `patience`: seconds without a record after which Kafka counts as down."""

    def __init__(self, make_table: MakeTable, patience: float) -> None:
        self._make_table = make_table
        self._patience = patience
        self._table: StateTable | None = None
        self._known: dict[str, dict[bytes, bytes]] = {}  # by type in lower case, then by digest; packed
        self._listings: dict[str, _Listing] = {}
        self._number = 0

    def __len__(self) -> int:
        return sum(map(len, self._known.values()))

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
        self._known, self._listings = {}, {}

    def changed(self, item: str, number: int, attempt: int, page: SeenPage) -> Iterator[ResourceFacts]:
        """Yield what is new in the answer `number` of an attempt at an item: resources that are unknown, or different now."""
        self._note_page(item, number, attempt, page)
        for facts in page.resources:
            known = self._get(facts)
            first_seen = facts.first_seen if known is None else known.first_seen
            self._put(facts, first_seen)
            if known is None or known.content_hash.hex() != facts.content_hash:
                yield facts if known is None else msgspec.structs.replace(facts, first_seen=first_seen)

    def gone(self, item: str, call: ArmCall, now_ms: int) -> Iterator[ResourceFacts]:
        """Yield the resources that a list no longer has, at its end; none if it was not read from its first page here."""
        listing = self._listings.pop(item, None)
        if listing is None:
            return
        path = unquote(call.path).lower()
        kind = type_listed_by(path)
        for data in list(self._known.get(kind, {}).values()):
            known = _unpacked(data)
            if known.content_hash and known.seen < listing.number and is_listed_by(path, known.id.lower()):
                facts = _deleted(known, kind, call.query[0][1], now_ms)
                self._put(facts, known.first_seen)
                yield facts

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

    def _get(self, facts: ResourceFacts) -> _KnownResource | None:
        data = self._known.get(facts.type.lower(), {}).get(digest_of(facts.key))
        return None if data is None else _unpacked(data)

    def _put(self, facts: ResourceFacts, first_seen: int) -> None:
        content_hash = bytes.fromhex(facts.content_hash or "")
        known = _KnownResource(self._number, first_seen, content_hash, facts.id)
        self._known.setdefault(facts.type.lower(), {})[digest_of(facts.key)] = known.packed()

    def _apply(self, record: Inbound) -> None:
        try:
            facts = decode_resource(record.value or b"")
            self._put(facts, facts.first_seen)
        except (CodecError, ValueError, struct.error):  # a tombstone, or not ours
            for known in self._known.values():
                known.pop(digest_of(record.key or b""), None)


def _deleted(known: _KnownResource, kind: str, version: str, now_ms: int) -> ResourceFacts:
    subscription, group = place_of(known.id)
    return ResourceFacts(
        id=known.id,
        time=now_ms,
        first_seen=known.first_seen,
        api_version=version,
        type=kind,
        state=DELETED,
        name=known.id.rpartition("/")[2],
        resource_group=group,
        subscription=subscription,
    )
