"""What was measured: samples of one stage on one estate, and the figures that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    """One repetition: seconds of CPU in the measured processes, seconds on the clock; None where waiting is not the matter."""

    cpu: float
    wall: float | None = None


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
        """Median seconds of CPU."""
        return median(sample.cpu for sample in self.samples)

    @property
    def wall(self) -> float | None:
        """Median seconds on the clock."""
        walls = [sample.wall for sample in self.samples if sample.wall is not None]
        return median(walls) if walls else None

    @property
    def spread(self) -> float | None:
        """Distance between the cheapest and the dearest repetition, as a share of the median."""
        costs = [sample.cpu for sample in self.samples]
        return (max(costs) - min(costs)) / self.cpu if len(costs) > 1 else None


def memory_of(samples: Sequence[tuple[float, int]], peak: int) -> Memory:
    """Return the peak and, from samples (seconds, bytes) over at least half a minute, the slope behind their first third."""
    later = samples[len(samples) // 3 :]
    long_enough = bool(samples) and samples[-1][0] - samples[0][0] >= SECONDS_FOR_GROWTH
    return Memory(peak, 60.0 * _slope(later) if long_enough else None)


SECONDS_FOR_GROWTH = 30.0


def _slope(samples: Sequence[tuple[float, int]]) -> float:
    """Fit a line by least squares."""
    count = len(samples)
    mean_x = sum(x for x, _ in samples) / count
    mean_y = sum(y for _, y in samples) / count
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread
