"""How far each blob of the owned partitions has been read: the current view of the checkpoint topic.

A partition may contain very many blobs, most of which will never be written again. For those likely to be needed soon, memory
holds the offset of their checkpoint, and for the others the part of the topic that contains it (`places.py`). Checkpoints
themselves are in memory only for blobs that are open or were looked up recently; any other is looked up in Kafka when its blob
is announced. So nothing already read is ever taken for new, and memory is proportional to the open blobs. Checkpoints in memory
are kept encoded but without the blob's name, which is most of their size and which the caller knows.

Loading them may take longer than Kafka lets a group member go without polling. So it is done in steps, each continuing where
the last one stopped: what is written in the meantime is at the end of the topic, which every step determines anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, Protocol

import structlog

from libs.common.errors import CodecError, Retry
from libs.common.kafka.records import Inbound
from libs.common.messages.events import QUARANTINED, BlobCheckpoint, CheckpointStatus, decode_event
from libs.common.packed import digest_of
from services.ingest import metrics
from services.ingest.pending.places import MOST_HELD, Places, Recall, Times

log = structlog.get_logger(__name__)

_NOWHERE: Final = 255  # names are found near the beginning
_MARK_BYTES: Final = 10  # of a schema's fingerprint
_LONGEST_LENGTH: Final = 3  # bytes of the encoded length of a blob's name
_CONTINUES: Final = 0x80  # a length of more than one byte
_OPEN: Final = bytes((2 * len(CheckpointStatus.OPEN),)) + CheckpointStatus.OPEN.encode()
MOST_AT_HAND: Final = 50_000  # beyond this, the least recently used are dropped
LOOKUP_SECONDS: Final = 5.0
_TIMES: Final = Times(time.monotonic, time.time)
_GOES: Final = 3  # per poll interval: assigned and rewound partitions may be loaded one by one


class CheckpointTable(Protocol):
    """Followed partitions of a compacted topic; see `libs.common.kafka.readers.compacted.CompactedTable`."""

    def open(self, partitions: Collection[int], first: int = 0) -> None:
        """Start at the beginning, or at the offset `first`."""

    def catch_up(self, timeout: float, between: Callable[[], None]) -> None:
        """Apply everything up to the current end; exceptions of `between` propagate, and the next call continues from there."""

    def read_to(self, last: int, timeout: float, between: Callable[[], None]) -> None:
        """Apply everything up to the offset `last`, possibly more; otherwise like `catch_up`."""

    def close(self) -> None:
        """Disconnect."""


class CheckpointLookup(Protocol):
    """Reads single records; see `libs.common.kafka.readers.lookup.Lookup`."""

    def read(self, partition: int, offset: int, seconds: float) -> Inbound | None:
        """Return the record at `offset`; None if it no longer exists."""

    def close(self) -> None:
        """Disconnect."""


MakeTable = Callable[[Callable[[Inbound], None]], CheckpointTable]


@dataclass(frozen=True, slots=True)
class LoadingTimes:
    """Time limits, in seconds."""

    patience: float  # without a record before the end, after which Kafka counts as down
    poll_interval: float  # the longest time between two polls of the consumer


class StillLoading(Retry):
    """The consumer has to poll now; repeat the call to continue loading."""


@dataclass(frozen=True, slots=True)
class _Unfinished:
    table: CheckpointTable
    left_at: float


@dataclass(frozen=True, slots=True)
class _Recalling(_Unfinished):
    recall: Recall


@dataclass(frozen=True, slots=True)
class Topic:
    """Ways to read the checkpoint topic."""

    make_table: MakeTable
    lookup: CheckpointLookup


@dataclass(frozen=True, slots=True)
class CheckpointPlace:
    """Where a checkpoint, or (without a status) its removal, was written."""

    partition: int
    offset: int
    status: CheckpointStatus | None


class _Partition:
    """State of the blobs of one partition."""

    def __init__(self, times: Times) -> None:
        self.places = Places(times)
        self.at_hand: dict[bytes, bytes] = {}  # by digest of the key, as returned by `without`; the most recent is last
        self.quarantined: set[bytes] = set()
        self.unplaced: set[bytes] = set()  # those at hand whose offset is not known yet

    def hold(self, digest: bytes, value: bytes) -> None:
        self.at_hand.pop(digest, None)
        self.at_hand[digest] = value

    def place(self, key: bytes, offset: int, *, is_open: bool) -> None:
        self.places.put(key, offset, stays=is_open or digest_of(key) in self.quarantined)
        self.unplaced.discard(digest_of(key))
        if not is_open:
            self.at_hand.pop(digest_of(key), None)

    def remove(self, key: bytes, offset: int | None = None) -> None:
        self.places.remove(key, offset)
        self.at_hand.pop(digest_of(key), None)
        self.unplaced.discard(digest_of(key))
        self.quarantined.discard(digest_of(key))

    def mark(self, key: bytes, *, quarantined: bool) -> None:
        (self.quarantined.add if quarantined else self.quarantined.discard)(digest_of(key))

    def let_go(self, count: int) -> None:
        """Drop the first `count` that can be looked up."""
        placed = (digest for digest in self.at_hand if digest not in self.unplaced)
        for digest in list(islice(placed, count)):
            del self.at_hand[digest]


class Checkpoints:
    """Checkpoints by blob key, grouped by partition."""

    def __init__(self, topic: Topic, pace: LoadingTimes, times: Times = _TIMES) -> None:
        self._topic = topic
        self._pace = pace
        self._times = times
        self._partitions: dict[int, _Partition] = {}
        self._unfinished: dict[frozenset[int], _Unfinished] = {}
        self._recalls: dict[int, _Recalling] = {}  # parts being read again, by partition

    @property
    def known(self) -> int:
        """Approximate number of known blobs: one that was just read may count twice."""
        return sum(partition.places.known for partition in self._partitions.values())

    @property
    def held(self) -> int:
        """Approximate number of blobs with the offset of their checkpoint in memory."""
        return sum(partition.places.held for partition in self._partitions.values())

    @property
    def at_hand(self) -> int:
        """Number of checkpoints in memory."""
        return sum(len(partition.at_hand) for partition in self._partitions.values())

    @property
    def quarantined(self) -> int:
        """Number of quarantined blobs."""
        return sum(len(partition.quarantined) for partition in self._partitions.values())

    def load(self, partitions: Collection[int], beat: Callable[[], None]) -> int:
        """Read these partitions to their ends; return the number of blobs they contain.

        Blocks for at most a third of the poll interval, calling `beat` throughout. Exceptions of `beat` propagate, and the
        partitions then have to be loaded again from their beginnings.

        Raises:
            StillLoading: the ends are not reached yet; repeat the call with the same partitions soon to continue from here.
            ServerUnreachable: Kafka is down; the next load starts over.
        """
        wanted = frozenset(partitions)
        table = self._taken_up(wanted) or self._begun(wanted)
        try:
            table.catch_up(self._pace.patience, self._go(beat))
        except StillLoading:
            self._unfinished[wanted] = _Unfinished(table, self._times.clock())
            log.info("loading checkpoints", partitions=sorted(wanted), known_blobs=self._count(wanted))
            raise
        except BaseException:
            table.close()
            raise
        table.close()
        for number in wanted:
            self._partitions[number].places.let_go(MOST_HELD // len(self._partitions))
        return self._count(wanted)

    def forget(self, partitions: Collection[int]) -> None:
        """Drop these partitions."""
        for wanted in [wanted for wanted in self._unfinished if not wanted.isdisjoint(partitions)]:
            self._unfinished.pop(wanted).table.close()
        for number in partitions:
            self._partitions.pop(number, None)
            if number in self._recalls:
                self._recalls.pop(number).table.close()

    def _go(self, beat: Callable[[], None]) -> Callable[[], None]:
        """Return a callback for use during reading, which raises `StillLoading` when it is time to poll."""
        until = self._times.clock() + self._pace.poll_interval / _GOES

        def between() -> None:
            beat()
            if self._times.clock() > until:
                raise StillLoading("loading checkpoints")

        return between

    def _taken_up(self, wanted: frozenset[int]) -> CheckpointTable | None:
        """Return the table of a load that can continue."""
        kept = self._unfinished.get(wanted)
        if kept is None or self._is_stale(kept):
            return None
        del self._unfinished[wanted]
        return kept.table

    def _is_stale(self, kept: _Unfinished) -> bool:
        """Return whether a load was suspended for so long that it may have missed deletions."""
        return self._times.clock() - kept.left_at > self._pace.poll_interval

    def _begun(self, wanted: frozenset[int]) -> CheckpointTable:
        self.forget(wanted)
        self._partitions.update({number: _Partition(self._times) for number in wanted})
        table = self._topic.make_table(self._apply)
        table.open(wanted)
        return table

    def _apply(self, record: Inbound) -> None:
        key, known = record.key or b"", self._partitions[record.partition]
        if record.value is None:
            known.remove(key, record.offset)
            self._make_room(known)
            return
        is_open = _is_open(key, record.value)
        known.mark(key, quarantined=QUARANTINED in record.headers)
        known.place(key, record.offset, is_open=is_open)
        if is_open:
            known.hold(digest_of(key), without(key, record.value))
        self._make_room(known)

    def _make_room(self, partition: _Partition) -> None:
        owned = max(1, len(self._partitions))
        if len(partition.at_hand) > MOST_AT_HAND // owned:
            partition.let_go(MOST_AT_HAND // 100 + 1)
        if partition.places.is_due:
            partition.places.let_go(MOST_HELD // owned)

    def _count(self, partitions: Collection[int]) -> int:
        return sum(len(self._partitions[number].places) for number in partitions)

    def get(self, number: int, key: bytes, beat: Callable[[], None]) -> BlobCheckpoint | None:
        """Return the checkpoint of a blob of partition `number`. Long waits for Kafka call `beat`.

        Raises:
            ServerUnreachable: it must be looked up, but Kafka is down.
            StillLoading: part of the topic is being read for it, and the consumer has to poll now; repeat the call to continue.
            CodecError: it was written by a newer version or is broken; continuing would read the blob twice.
        """
        kept = self._partitions[number].at_hand.get(digest_of(key))
        value = self._look_up(number, key, beat) if kept is None else with_key(key, kept)
        if value is None:
            return None
        event = decode_event(value)
        if not isinstance(event, BlobCheckpoint):
            raise CodecError(f"the checkpoint topic contains a {type(event).__name__}; check topics.checkpoints")
        return event

    def _look_up(self, number: int, key: bytes, beat: Callable[[], None]) -> bytes | None:
        partition = self._partitions[number]
        while (recall := partition.places.missing(key)) is not None:
            self._recall(number, recall, beat)
        offset = partition.places.get(key)
        self._make_room(partition)
        if offset is None:
            return None
        metrics.LOOKUPS.inc()
        record = self._topic.lookup.read(number, offset, LOOKUP_SECONDS)
        value = record.value if record is not None and record.key == key else self._search(number, key, beat)
        if value is not None:  # repeated announcements tend to keep repeating
            partition.hold(digest_of(key), without(key, value))
            partition.places.touch(key)
            self._make_room(partition)
        return value

    def _recall(self, number: int, wanted: Recall, beat: Callable[[], None]) -> None:
        """Read a part of the partition again, or continue a suspended reading.

        Raises:
            StillLoading: its end is not reached yet; repeat the call for any blob in it soon to continue from here.
        """
        reading = self._recall_taken_up(number) or self._recall_begun(number, wanted)
        try:
            reading.table.read_to(reading.recall.span.last, self._pace.patience, self._go(beat))
        except StillLoading:
            self._recalls[number] = replace(reading, left_at=self._times.clock())
            raise
        except BaseException:
            reading.table.close()
            raise
        reading.table.close()
        self._partitions[number].places.end(reading.recall)

    def _recall_taken_up(self, number: int) -> _Recalling | None:
        left = self._recalls.pop(number, None)
        if left is not None and self._is_stale(left):
            left.table.close()
            return None
        return left

    def _recall_begun(self, number: int, recall: Recall) -> _Recalling:
        metrics.RECALLS.inc()
        known = self._partitions[number].places
        known.begin(recall)

        def apply(record: Inbound) -> None:
            known.recalled(recall, record.key or b"", record.offset, is_gone=record.value is None)

        table = self._topic.make_table(apply)
        table.open([number], recall.span.first)
        return _Recalling(table, self._times.clock(), recall)

    def _search(self, number: int, key: bytes, beat: Callable[[], None]) -> bytes | None:
        """Search the whole partition for a checkpoint that is not at its offset: Kafka may have expired it."""
        found: dict[bytes | None, bytes | None] = {}

        def look(record: Inbound) -> None:
            if record.key == key:
                found[key] = record.value

        table = self._topic.make_table(look)
        try:
            table.open([number])
            table.catch_up(self._pace.patience, beat)
        finally:
            table.close()
        return found.get(key)

    def put(self, number: int, key: bytes, value: bytes, *, quarantined: bool = False) -> None:
        """Replace the checkpoint of a blob with an encoded one that is not committed yet."""
        partition, digest = self._partitions[number], digest_of(key)
        partition.hold(digest, without(key, value))
        partition.unplaced.add(digest)
        partition.places.touch(key)
        partition.mark(key, quarantined=quarantined)

    def remove(self, number: int, key: bytes) -> None:
        """Forget a blob."""
        self._partitions[number].remove(key)

    def committed(self, placed: Iterable[tuple[bytes, CheckpointPlace]]) -> None:
        """Record where checkpoints were written, by key. Those that are not open leave memory."""
        for key, place in placed:
            partition = self._partitions.get(place.partition)
            if partition is None:
                continue
            if place.status is None:
                partition.places.remove(key, place.offset)
            else:
                partition.place(key, place.offset, is_open=place.status is CheckpointStatus.OPEN)
            self._make_room(partition)

    def close(self) -> None:
        """Disconnect."""
        self._topic.lookup.close()


def _is_open(key: bytes, value: bytes) -> bool:
    """Return whether an encoded checkpoint is that of an open blob, without decoding, since a start reads millions.

    Every version of the schema begins with blob, generation and status; a string is its doubled length followed by its bytes.
    Anything that does not match is looked up and decoded when its blob is announced.
    """
    generation = value.find(key, _MARK_BYTES, _MARK_BYTES + len(key) + _LONGEST_LENGTH) + len(key)
    if generation < _MARK_BYTES + len(key) or generation >= len(value):
        return False
    status = generation + 1 + value[generation] // 2
    return value[generation] < _CONTINUES and value.startswith(_OPEN, status)


def without(key: bytes, value: bytes) -> bytes:
    """Return `value` without the first occurrence of `key`, preceded by a byte that gives its position, or that it has none."""
    at = value.find(key)
    if not 0 <= at < _NOWHERE:
        return bytes((_NOWHERE,)) + value
    return bytes((at,)) + value[:at] + value[at + len(key) :]


def with_key(key: bytes, kept: bytes) -> bytes:
    """Return the value that `without` was given for the same key."""
    at = kept[0]
    return kept[1:] if at == _NOWHERE else kept[1 : at + 1] + key + kept[at + 1 :]
