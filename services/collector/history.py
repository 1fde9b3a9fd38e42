"""What has become of resources, made from what is about to be written: each new state beside the former one.

Only a hash of the former state is in memory. So before a transaction, what other collectors have written is read, and then the
former records of the resources that have changed, all at once, from the places at which they were read before. Kafka still has
them, because a compacted topic keeps the newest record of a key. What is written is one new record of a resource, and one that
says what has changed, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

import msgspec

from libs.common.errors import CodecError
from libs.common.kafka.records import Inbound, Outbound, TopicPartition
from libs.common.messages.resource_changes import (
    CHANGED,
    CREATED,
    DELETED,
    UNKNOWN,
    PathChange,
    ResourceChange,
    encode_change,
)
from libs.common.messages.resources import DELETED as GONE
from libs.common.messages.resources import MISSING, PRESENT, ResourceFacts, decode_resource, encode_resource
from libs.common.settings.kafka import TopicSettings
from services.collector.comparing import Comparison, PathDifference
from services.collector.inventory import Inventory

AT_ONCE: Final = 250
"""Former records in memory at the same time."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A new state of a resource, and the call that showed it."""

    facts: ResourceFacts
    source: TopicPartition
    message_id: str
    request_index: int

    @property
    def nbytes(self) -> int:
        """About how many bytes it takes."""
        facts = self.facts
        return _BESIDES + len(bytes(facts.properties)) + len(bytes(facts.other))


_BESIDES: Final = 1_000


class FormerRecords(Protocol):
    """Reads records by place; see `libs.common.kafka.readers.lookup.Lookup`."""

    def read_many(
        self, places: Iterable[tuple[int, int]], patience: float, between: Callable[[], None]
    ) -> dict[tuple[int, int], Inbound]:
        """Return those that exist, by partition and offset. Raises `ServerUnreachable`."""

    def close(self) -> None:
        """Disconnect."""


@dataclass(frozen=True, slots=True)
class WrittenState:
    """A state that is written, as records; `state` is that of the resource."""

    state: str
    records: tuple[Outbound, ...]


@dataclass(frozen=True, slots=True)
class _Former:
    """The state before: None if there was none, or if its record is lost."""

    facts: ResourceFacts | None = None
    is_lost: bool = False


class ResourceHistory:
    """Makes records of sightings. `patience`: seconds without a record after which Kafka counts as down."""

    def __init__(self, topics: TopicSettings, records: FormerRecords, comparison: Comparison, patience: float) -> None:
        self._topics = topics
        self._records = records
        self._comparison = comparison
        self._patience = patience

    def write(self, inventory: Inventory, sightings: Sequence[Sighting], beat: Callable[[], None]) -> Iterator[WrittenState]:
        """Yield what is to be written, in order, calling `beat` many times a second. Raises `ServerUnreachable`."""
        if not sightings:
            return
        inventory.catch_up(beat)
        written: dict[bytes, ResourceFacts] = {}
        rest = iter(sightings)
        while group := list(islice(rest, AT_ONCE)):
            yield from self._write_group(inventory, group, written, beat)

    def close(self) -> None:
        """Disconnect."""
        self._records.close()

    def _write_group(
        self, inventory: Inventory, group: list[Sighting], written: dict[bytes, ResourceFacts], beat: Callable[[], None]
    ) -> Iterator[WrittenState]:
        keys = {sighting.facts.key for sighting in group} - written.keys()
        places = {before.place for key in keys if (before := inventory.before(key)) is not None}
        records = self._records.read_many(places, self._patience, beat) if places else {}
        for sighting in group:
            facts: ResourceFacts | None = sighting.facts
            key = sighting.facts.key
            if key in written:
                former = _Former(written[key])
            else:
                facts, before = inventory.settled(sighting.facts)
                former = _Former() if before is None else _former_in(records.get(before.place))
            if facts is not None:
                written[key] = facts = _completed(facts, former)
                inventory.note_written(facts)
                yield self._written(sighting, facts, former)

    def _written(self, sighting: Sighting, facts: ResourceFacts, former: _Former) -> WrittenState:
        records = [Outbound(self._topics.resources, encode_resource(facts), facts.key)]
        change = self._change(facts, former)
        if change is not None:
            told = ResourceChange(
                id=facts.id,
                time=facts.time,
                type=facts.type,
                api_version=facts.api_version,
                change=change[0],
                message_id=sighting.message_id,
                request_index=sighting.request_index,
                name=facts.name,
                resource_group=facts.resource_group,
                subscription=facts.subscription,
                old_hash=None if former.facts is None else former.facts.content_hash,
                new_hash=facts.content_hash,
                paths=change[1],
            )
            records.append(Outbound(self._topics.resource_changes, encode_change(told), told.key))
        return WrittenState(facts.state, tuple(records))

    def _change(self, facts: ResourceFacts, former: _Former) -> tuple[str, tuple[PathChange, ...]] | None:
        """Return what has become of a resource; None if nothing that counts."""
        if facts.state != PRESENT:
            return (DELETED, ()) if facts.state == GONE else None
        if former.is_lost:
            return UNKNOWN, ()
        if former.facts is None or former.facts.state == GONE:
            return CREATED, ()
        try:
            found = self._comparison.differences(former.facts.content(), facts.content())
        except (msgspec.MsgspecError, RecursionError):
            return UNKNOWN, ()
        return (CHANGED, tuple(map(_path_change, found))) if found else None


def _former_in(record: Inbound | None) -> _Former:
    if record is None:
        return _Former(is_lost=True)
    try:
        return _Former(decode_resource(record.value or b""))
    except CodecError:
        return _Former(is_lost=True)


def _completed(facts: ResourceFacts, former: _Former) -> ResourceFacts:
    """Return a state with everything that is known: what is missing is still what it was."""
    if facts.state != MISSING or former.facts is None:
        return facts
    return msgspec.structs.replace(former.facts, state=MISSING, time=facts.time)


def _path_change(found: PathDifference) -> PathChange:
    return PathChange(found.op.value, found.path, found.old, found.new, found.old_size, found.new_size)
