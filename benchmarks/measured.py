"""What was measured: samples of one stage on one estate, and the figures that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Work:
    """What one repetition has done. `bytes` are those of the logs, before parsing."""

    tuples: int
    bytes: int
    blobs: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """One repetition: seconds of CPU in the measured processes, seconds on the clock; None where waiting is not the matter.

    `share` is the part of the row's work that was done in it: 1, unless one long run was looked at in parts.
    """

    cpu: float
    wall: float | None = None
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a long run had come at a moment: seconds of CPU, seconds on the clock, and how much was done, in any unit."""

    cpu: float
    at: float
    done: float


def parts_of(marks: Sequence[Mark]) -> tuple[Sample, ...]:
    """Return what each part of a long run has cost; parts in which nothing was done are left out."""
    whole = marks[-1].done - marks[0].done
    return tuple(
        Sample(new.cpu - old.cpu, new.at - old.at, (new.done - old.done) / whole)
        for old, new in pairwise(marks)
        if new.done > old.done
    )


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of the largest process, in bytes, and its growth in bytes a minute; None if the run was too short."""

    peak: int
    growth: float | None


@dataclass(frozen=True, slots=True)
class Measured:
    """One row of the table.

    Attributes:
        against: stage on the same estate that the speed is compared with.
        ends: what is durable when the clock stops.
    """

    stage: str
    estate: str
    work: Work
    samples: tuple[Sample, ...]
    ends: str
    against: str | None = None
    memory: Memory | None = None

    @property
    def cpu(self) -> float:
        """Median seconds of CPU for all of the work."""
        return median(sample.cpu / sample.share for sample in self.samples)

    @property
    def wall(self) -> float | None:
        """Median seconds on the clock for all of the work."""
        walls = [sample.wall / sample.share for sample in self.samples if sample.wall is not None]
        return median(walls) if walls else None

    @property
    def spread(self) -> float | None:
        """Distance between the cheapest and the dearest repetition, or part of a long one, as a share of the median."""
        costs = [sample.cpu / sample.share for sample in self.samples]
        return (max(costs) - min(costs)) / self.cpu if len(costs) > 1 else None


def memory_of(samples: Sequence[tuple[float, int]], peak: int) -> Memory:
    """Return the peak and, from samples (seconds, bytes) over minutes, the slope behind their first third.

    A slope over less says nothing: one of 40 seconds was +8.7 to +29 MiB a minute where 200 seconds showed +1.5 to +2.4.
    """
    later = samples[len(samples) // 3 :]
    long_enough = bool(samples) and samples[-1][0] - samples[0][0] >= SECONDS_FOR_GROWTH
    return Memory(peak, 60.0 * _slope(later) if long_enough else None)


SECONDS_FOR_GROWTH = 200.0


def _slope(samples: Sequence[tuple[float, int]]) -> float:
    """Fit a line by least squares."""
    count = len(samples)
    mean_x = sum(x for x, _ in samples) / count
    mean_y = sum(y for _, y in samples) / count
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread
