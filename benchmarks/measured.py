"""Measurements: samples of one stage on one estate, and the figures derived from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Work:
    """The work done in one repetition. `bytes` are those of the logs before parsing."""

    tuples: int
    bytes: int
    blobs: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """One repetition: CPU seconds of the measured processes, and wall-clock seconds (None where waiting does not matter).

    `share` is the part of the row's work done in it: 1, unless one long run was divided into parts.
    """

    cpu: float
    wall: float | None = None
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Mark:
    """The progress of a long run at one moment: CPU seconds, wall-clock seconds, and the work done in any unit."""

    cpu: float
    at: float
    done: float


def parts_of(marks: Sequence[Mark]) -> tuple[Sample, ...]:
    """Return the cost of each part of a long run; parts in which nothing was done are left out."""
    whole = marks[-1].done - marks[0].done
    return tuple(
        Sample(new.cpu - old.cpu, new.at - old.at, (new.done - old.done) / whole)
        for old, new in pairwise(marks)
        if new.done > old.done
    )


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of the largest process in bytes, and its growth in bytes per minute (None if the run was too short)."""

    peak: int
    growth: float | None


@dataclass(frozen=True, slots=True)
class Measured:
    """One row of the table.

    Attributes:
        against: the stage on the same estate with which the speed is compared.
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
        """Median CPU seconds for all of the work."""
        return median(sample.cpu / sample.share for sample in self.samples)

    @property
    def wall(self) -> float | None:
        """Median wall-clock seconds for all of the work."""
        walls = [sample.wall / sample.share for sample in self.samples if sample.wall is not None]
        return median(walls) if walls else None

    @property
    def spread(self) -> float | None:
        """Difference between the cheapest and the most expensive repetition (or part of a long one), relative to the median."""
        costs = [sample.cpu / sample.share for sample in self.samples]
        return (max(costs) - min(costs)) / self.cpu if len(costs) > 1 else None


def memory_of(samples: Sequence[tuple[float, int]], peak: int) -> Memory:
    """Return the peak and, from samples (seconds, bytes) over several minutes, the slope after their first third.

    A slope over a shorter time means nothing: 40 seconds showed +8.7 to +29 MiB a minute where 200 seconds showed +1.5 to +2.4.
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
