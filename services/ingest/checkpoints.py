"""How far each blob of the owned partitions has been read: the newest view of the checkpoint topic, kept as encoded bytes.

A partition may know very many blobs, so keys are held as digests, and values as they travel but without the blob's name, which
is most of them and which whoever asks knows: some 300 bytes a blob, against 530.

Reading them may take longer than Kafka lets a member of a group go without a poll. So it is done in goes, and each takes up
where the last one ended: what was written meanwhile is at the end, which every go looks for anew.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from libs.common.errors import CodecError, Retry
from libs.common.events import QUARANTINED, BlobCheckpoint, decode_event
from libs.common.kafka.records import Inbound

log = structlog.get_logger(__name__)

_NOWHERE: Final = 255  # a name stands near the beginning
_GOES: Final = 3  # in the time between two polls: partitions that arrive and such that are rewound may be loaded one by one


class Table(Protocol):
    """Partitions of a compacted topic that are followed; `libs.common.kafka.compacted.CompactedTable`."""

    def open(self, partitions: Collection[int]) -> None:
        """Begin at the beginning."""

    def catch_up(self, timeout: float, between: Callable[[], None]) -> None:
        """Apply everything up to the present end; what `between` raises is raised, and the next call goes on from there."""

    def close(self) -> None:
        """Disconnect."""


MakeTable = Callable[[Callable[[Inbound], None]], Table]


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds."""

    patience: float  # without a record before the end, then Kafka counts as away
    poll_interval: float  # the longest time between two polls of the consumer


class StillLoading(Retry):
    """The consumer has to poll now; the load goes on when it is asked for again."""


@dataclass(frozen=True, slots=True)
class _Unfinished:
    table: Table
    left_at: float


class Checkpoints:
    """Checkpoints by blob key, grouped by partition."""

    def __init__(self, make_table: MakeTable, pace: Pace, clock: Callable[[], float] = time.monotonic) -> None:
        self._make_table = make_table
        self._pace = pace
        self._clock = clock
        self._partitions: dict[int, dict[bytes, bytes]] = {}
        self._quarantined: dict[int, set[bytes]] = {}
        self._unfinished: dict[frozenset[int], _Unfinished] = {}

    @property
    def quarantined(self) -> int:
        """Return how many blobs are in quarantine."""
        return sum(len(found) for found in self._quarantined.values())

    def load(self, partitions: Collection[int], beat: Callable[[], None]) -> int:
        """Read these partitions to their ends; return how many blobs they know.

        Blocks, for a third of the poll interval at most, and calls `beat` all the while. What `beat` raises is raised, and the
        partitions have to be loaded again from their beginnings.

        Raises:
            StillLoading: the ends are not reached yet; asked for the same partitions again, soon, it goes on from here.
            ServerUnreachable: Kafka is away; the next load begins anew.
        """
        wanted = frozenset(partitions)
        table = self._taken_up(wanted) or self._begun(wanted)
        until = self._clock() + self._pace.poll_interval / _GOES

        def between() -> None:
            beat()
            if self._clock() > until:
                raise StillLoading("checkpoints are being read")

        try:
            table.catch_up(self._pace.patience, between)
        except StillLoading:
            self._unfinished[wanted] = _Unfinished(table, self._clock())
            log.info("checkpoints are being read", partitions=sorted(wanted), known_blobs=self._count(wanted))
            raise
        except BaseException:
            table.close()
            raise
        table.close()
        return self._count(wanted)

    def forget(self, partitions: Collection[int]) -> None:
        """Drop these partitions."""
        for wanted in [wanted for wanted in self._unfinished if not wanted.isdisjoint(partitions)]:
            self._unfinished.pop(wanted).table.close()
        for number in partitions:
            self._partitions.pop(number, None)
            self._quarantined.pop(number, None)

    def _taken_up(self, wanted: frozenset[int]) -> Table | None:
        """Return the table of a load that can go on; one that was left for long may have missed what was deleted since."""
        kept = self._unfinished.get(wanted)
        if kept is None or self._clock() - kept.left_at > self._pace.poll_interval:
            return None
        del self._unfinished[wanted]
        return kept.table

    def _begun(self, wanted: frozenset[int]) -> Table:
        self.forget(wanted)
        self._partitions.update({number: {} for number in wanted})
        table = self._make_table(self._apply)
        table.open(wanted)
        return table

    def _apply(self, record: Inbound) -> None:
        key = record.key or b""
        if record.value is None:
            self.remove(record.partition, key)
        else:
            self.put(record.partition, key, record.value, quarantined=QUARANTINED in record.headers)

    def _count(self, partitions: Collection[int]) -> int:
        return sum(len(self._partitions[number]) for number in partitions)

    def get(self, partition: int, key: bytes) -> BlobCheckpoint | None:
        """Return the checkpoint of a blob.

        Raises:
            CodecError: if it was written by a newer version or is broken; going on would read the blob twice.
        """
        value = self._partitions[partition].get(_digest(key))
        if value is None:
            return None
        event = decode_event(with_key(key, value))
        if not isinstance(event, BlobCheckpoint):
            raise CodecError(f"the checkpoint topic holds a {type(event).__name__}; is topics.checkpoints right?")
        return event

    def put(self, partition: int, key: bytes, value: bytes, *, quarantined: bool = False) -> None:
        """Replace the checkpoint of a blob by an encoded one."""
        digest = _digest(key)
        self._partitions[partition][digest] = without(key, value)
        self._note(partition, digest, quarantined=quarantined)

    def remove(self, partition: int, key: bytes) -> None:
        """Forget the checkpoint of a blob."""
        digest = _digest(key)
        self._partitions[partition].pop(digest, None)
        self._note(partition, digest, quarantined=False)

    def _note(self, partition: int, digest: bytes, *, quarantined: bool) -> None:
        if quarantined:
            self._quarantined.setdefault(partition, set()).add(digest)
        elif found := self._quarantined.get(partition):
            found.discard(digest)


def without(key: bytes, value: bytes) -> bytes:
    """Return `value` without `key`, the first time that it stands there; a byte before says where, or that it does not."""
    at = value.find(key)
    if not 0 <= at < _NOWHERE:
        return bytes((_NOWHERE,)) + value
    return bytes((at,)) + value[:at] + value[at + len(key) :]


def with_key(key: bytes, kept: bytes) -> bytes:
    """Return the value that `without` was given for the same key."""
    at = kept[0]
    return kept[1:] if at == _NOWHERE else kept[1 : at + 1] + key + kept[at + 1 :]


def _digest(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=16).digest()
