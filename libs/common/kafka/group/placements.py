"""The state of each partition of a member: whether it is being read, where it started, and the next offset. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from libs.common.kafka.records import TopicPartition


class Phase(StrEnum):
    """Phase of an assigned partition."""

    ARRIVED = "arrived"  # assigned, but not announced to the listener yet
    REWINDING = "rewinding"  # uncommitted work was discarded
    READING = "reading"


class Placements:
    """The assigned partitions."""

    def __init__(self) -> None:
        self._phases: dict[TopicPartition, Phase] = {}
        self._due: dict[TopicPartition, float] = {}  # when to call the listener again
        self.starts: dict[TopicPartition, int] = {}  # committed
        self.expected: dict[tuple[str, int], int] = {}  # next offset to deliver, for partitions being read

    def arrive(self, partitions: Iterable[TopicPartition]) -> None:
        """Add assigned partitions."""
        self._phases.update(dict.fromkeys(partitions, Phase.ARRIVED))

    def forget(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Phase]:
        """Drop partitions; return those that existed, with their phases."""
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
        """Return the partitions announced to the listener."""
        return frozenset(p for p, phase in self._phases.items() if phase is not Phase.ARRIVED)

    def readable(self) -> frozenset[TopicPartition]:
        """Return the placed partitions: only their offsets may be committed."""
        return frozenset(p for p, phase in self._phases.items() if phase is Phase.READING)

    def waiting(self, now: float) -> list[TopicPartition]:
        """Return the partitions to place now."""
        return [p for p, phase in self._phases.items() if phase is not Phase.READING and self._due.get(p, now) <= now]

    def is_in(self, partition: TopicPartition, phase: Phase) -> bool:
        """Return whether a partition has reached this phase."""
        return self._phases.get(partition) is phase

    def begin(self, starts: Mapping[TopicPartition, int]) -> None:
        """Record that the client reads from `starts`."""
        self.expected = self.expected_with(starts)
        self.starts.update(starts)
        self._phases.update(dict.fromkeys(starts, Phase.READING))

    def expected_with(self, starts: Mapping[TopicPartition, int]) -> dict[tuple[str, int], int]:
        """Return the positions to assign: `starts` in addition to the partitions already being read."""
        return self.expected | {(p.topic, p.partition): offset for p, offset in starts.items()}

    def stop(self, partitions: Iterable[TopicPartition], phase: Phase) -> None:
        """Drop records of `partitions` until they are placed again."""
        for partition in partitions:
            self._phases[partition] = phase
            self.expected.pop((partition.topic, partition.partition), None)

    def delay(self, partitions: Iterable[TopicPartition], until: float) -> None:
        """Do not place `partitions` before a certain time."""
        self._due.update(dict.fromkeys(partitions, until))

    def put_last(self, partition: TopicPartition) -> None:
        """Place all others before this one."""
        self._phases[partition] = self._phases.pop(partition)

    def unmoved(self) -> dict[TopicPartition, int]:
        """Return the committed position of one partition, to be committed again."""
        return {p: self.starts[p] for p in sorted(self.readable())[:1]}

    def moved(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Record committed offsets."""
        self.starts.update({p: offset for p, offset in offsets.items() if p in self._phases})
