"""Where each partition of a member stands: whether it is read, from where it was begun, and what is delivered next. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from libs.common.kafka.records import TopicPartition


class Phase(StrEnum):
    """How far a partition of ours has come."""

    ARRIVED = "arrived"  # assigned; the listener does not know it yet
    REWINDING = "rewinding"  # uncommitted work was thrown away
    READING = "reading"


class Placements:
    """The partitions that are assigned."""

    def __init__(self) -> None:
        self._phases: dict[TopicPartition, Phase] = {}
        self._due: dict[TopicPartition, float] = {}  # when the listener is to be asked again
        self.starts: dict[TopicPartition, int] = {}  # committed
        self.expected: dict[tuple[str, int], int] = {}  # next to be delivered, of partitions that are read

    def arrive(self, partitions: Iterable[TopicPartition]) -> None:
        """Take partitions that were assigned."""
        self._phases.update(dict.fromkeys(partitions, Phase.ARRIVED))

    def forget(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Phase]:
        """Drop partitions; return those that were there, and how far they had come."""
        gone = {p: self._phases.pop(p) for p in partitions if p in self._phases}
        for partition in gone:
            self.starts.pop(partition, None)
            self._due.pop(partition, None)
            self.expected.pop((partition.topic, partition.partition), None)
        return gone

    def all(self) -> tuple[TopicPartition, ...]:
        """Return all partitions."""
        return tuple(self._phases)

    def owned(self) -> frozenset[TopicPartition]:
        """Return the partitions that the listener has been told of."""
        return frozenset(p for p, phase in self._phases.items() if phase is not Phase.ARRIVED)

    def readable(self) -> frozenset[TopicPartition]:
        """Return the partitions that are placed: only their offsets may be committed."""
        return frozenset(p for p, phase in self._phases.items() if phase is Phase.READING)

    def waiting(self, now: float) -> list[TopicPartition]:
        """Return the partitions that are to be placed now."""
        return [p for p, phase in self._phases.items() if phase is not Phase.READING and self._due.get(p, now) <= now]

    def is_in(self, partition: TopicPartition, phase: Phase) -> bool:
        """Tell whether a partition has come so far."""
        return self._phases.get(partition) is phase

    def begin(self, starts: Mapping[TopicPartition, int]) -> None:
        """Take note that the client reads from `starts`."""
        self.expected = self.expected_with(starts)
        self.starts.update(starts)
        self._phases.update(dict.fromkeys(starts, Phase.READING))

    def expected_with(self, starts: Mapping[TopicPartition, int]) -> dict[tuple[str, int], int]:
        """Return what is delivered next if the client reads from `starts` too."""
        return self.expected | {(p.topic, p.partition): offset for p, offset in starts.items()}

    def stop(self, partitions: Iterable[TopicPartition], phase: Phase) -> None:
        """Drop what comes of `partitions` until they are placed again."""
        for partition in partitions:
            self._phases[partition] = phase
            self.expected.pop((partition.topic, partition.partition), None)

    def delay(self, partitions: Iterable[TopicPartition], until: float) -> None:
        """Place `partitions` no sooner than that."""
        self._due.update(dict.fromkeys(partitions, until))

    def put_last(self, partition: TopicPartition) -> None:
        """Let all others be placed before this one."""
        self._phases[partition] = self._phases.pop(partition)

    def unmoved(self) -> dict[TopicPartition, int]:
        """Return the committed position of one partition, to be committed again."""
        return {p: self.starts[p] for p in sorted(self.readable())[:1]}

    def moved(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Take note of offsets that were committed."""
        self.starts.update({p: offset for p, offset in offsets.items() if p in self._phases})
