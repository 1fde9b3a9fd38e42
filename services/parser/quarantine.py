"""The quarantine: the blobs whose segments are no longer parsed.

A record in the compacted topic ``Ingestion.Quarantine`` quarantines a generation of a blob. It is written in the transaction
with the first dead letter by reference, on the partition of the blob's segments, so the next owner of that partition knows it,
whatever happens. A tombstone, written by `blobtide quarantine release`, ends it. To notice that, the topic is read again every
few seconds while anything is quarantined, and before new segments are skipped, because after a release with replay they follow
at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final, Protocol

import structlog

from libs.common.errors import CodecError, ServerUnreachable
from libs.common.kafka.records import Inbound, Outbound
from libs.common.messages.events import BlobQuarantined, decode_event, encode_event, event_headers
from libs.common.messages.segments import Segment
from libs.common.process.health import Health
from services.parser import metrics
from services.parser.suspicion import Source, Tally

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 10.0  # between checks for releases
LOOK_PATIENCE_SECONDS: Final = 3.0
CLOCKS_DIFFER_SECONDS: Final = 60.0  # at most: writers and readers of segments have different clocks
NOTE: Final = "quarantine"


class QuarantineTable(Protocol):
    """Partitions of a compacted topic; see `libs.common.kafka.readers.compacted.CompactedTable`."""

    def open(self, partitions: Collection[int]) -> None:
        """Start at the beginning."""

    def catch_up(self, timeout: float, between: Callable[[], None]) -> None:
        """Apply everything up to the current end."""

    def close(self) -> None:
        """Disconnect."""


MakeTable = Callable[[Callable[[Inbound], None]], QuarantineTable]
Held = dict[str, BlobQuarantined]


@dataclass(frozen=True, slots=True)
class Register:
    """The quarantine topic: its name, how to read it, and how many seconds without data to tolerate at an assignment."""

    topic: str
    make_table: MakeTable
    patience: float


class Quarantine:
    """The quarantined blobs of the owned partitions."""

    def __init__(self, register: Register, clock: Callable[[], float] = time.time) -> None:
        self._register = register
        self._clock = clock
        self._held: dict[int, Held] = {}  # only partitions with quarantined blobs
        self._new: dict[int, Held] = {}  # since `begin`, not committed
        self._looked_at = 0.0
        self._has_looked = False  # since `begin`
        self._beat: Callable[[], None] = lambda: None

    def begin(self) -> None:
        """Forget uncommitted additions."""
        self._new = {}
        self._has_looked = False

    def holds(self, message: Inbound, segment: Segment) -> bool:
        """Return whether the blob generation of a segment, received in `message`, is quarantined."""
        partition = message.partition
        if not self._new and not self._held:
            return False
        if _has(self._new, partition, segment):
            return True
        may_follow_a_release = message.timestamp_ms / 1_000 > self._looked_at - CLOCKS_DIFFER_SECONDS
        if may_follow_a_release and not self._has_looked and _has(self._held, partition, segment):
            self._look()
            self._has_looked = True
        return _has(self._held, partition, segment)

    def put(self, partition: int, source: Source, offset: int, tally: Tally) -> None:
        """Quarantine a blob generation, effective when committed."""
        blob, generation = source
        now = datetime.fromtimestamp(self._clock(), UTC)
        event = BlobQuarantined(blob, generation, offset, tally.records, tally.bad, now)
        self._new.setdefault(partition, {})[blob] = event

    def outputs(self) -> Iterator[Outbound]:
        """Yield the records to commit for the additions."""
        for partition, held in self._new.items():
            for blob, event in held.items():
                yield Outbound(self._register.topic, encode_event(event), blob.encode(), event_headers(event), partition)

    def committed(self) -> None:
        """Keep the additions since `begin`."""
        for partition, held in self._new.items():
            self._held.setdefault(partition, {}).update(held)
            for event in held.values():
                log.warning(
                    "a blob was quarantined: most of it cannot be parsed, so its segments go to Errors by reference",
                    blob=event.blob,
                    offset=event.offset,
                    records=event.records,
                    rejected=event.rejected,
                )
        self._new = {}
        self._count()

    def assigned(self, partitions: Collection[int], between: Callable[[], None]) -> None:
        """Load new partitions, calling `between` throughout.

        Raises:
            ServerUnreachable: Kafka is down; exceptions of `between` propagate too. The partitions must then be loaded again.
        """
        if partitions:
            self._replace(self._load(partitions, self._register.patience, between))
        self._looked_at = self._clock()
        self._count()

    def revoked(self, partitions: Collection[int]) -> None:
        """Forget partitions."""
        for number in partitions:
            self._held.pop(number, None)
            self._new.pop(number, None)
        self._count()

    def tick(self, health: Health) -> None:
        """Check periodically for releases, and report how many blobs are quarantined."""
        self._beat = health.beat
        if self._held and self._clock() - self._looked_at >= LOOK_SECONDS:
            self._look()
        count = self._count()
        blobs = "1 blob is" if count == 1 else f"{count} blobs are"
        health.note(NOTE, f"{blobs} in quarantine: see `blobtide quarantine list`" if count else "")

    def _look(self) -> None:
        """Check for releases."""
        partitions = list(self._held)
        try:
            found = self._load(partitions, LOOK_PATIENCE_SECONDS, self._beat)
        except ServerUnreachable as error:
            log.info("cannot check now whether blobs were released from quarantine", error=str(error))
            return
        finally:
            self._looked_at = self._clock()
        for number in partitions:
            for blob in self._held[number].keys() - found[number].keys():
                log.info("a blob was released from quarantine", blob=blob)
        self._replace(found)

    def _replace(self, found: dict[int, Held]) -> None:
        for number, held in found.items():
            self._held.pop(number, None)
            if held:
                self._held[number] = held

    def _load(self, partitions: Collection[int], patience: float, between: Callable[[], None]) -> dict[int, Held]:
        found: dict[int, Held] = {number: {} for number in partitions}
        with closing(self._register.make_table(partial(_apply, found))) as table:
            table.open(partitions)
            table.catch_up(patience, between)
        return found

    def _count(self) -> int:
        count = sum(len(held) for held in self._held.values())
        metrics.QUARANTINED.set(count)
        return count


def _has(held: dict[int, Held], partition: int, segment: Segment) -> bool:
    known = held.get(partition, {}).get(segment.blob)
    return known is not None and known.generation == segment.generation


def _apply(found: dict[int, Held], record: Inbound) -> None:
    held, blob = found[record.partition], (record.key or b"").decode(errors="replace")
    if record.value is None:
        held.pop(blob, None)
        return
    try:
        event = decode_event(record.value)
    except CodecError as error:
        log.warning("skipping an unreadable record of the quarantine topic", blob=blob, error=str(error))
        return
    if isinstance(event, BlobQuarantined):
        held[blob] = event
