"""The partitions of the rows in many frames: which of them get files, and which are read and written together.

A partition has a *key*, an integer that ascends with time, and a *number*, its index among those that get a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

NO_KEY: Final = int(np.iinfo(np.int64).min)
"""The key of rows without a partition of their own."""

_GROUP_ROWS: Final = 65_536
_GROUP_BYTES: Final = 8_388_608

Ints = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class FrameCount:
    """The keys in a frame, ascending, with the number of rows of each, and the average size of a row in bytes."""

    keys: Ints
    rows: Ints
    row_bytes: float

    @classmethod
    def of(cls, keys: Ints, size: int) -> Self:
        """Count the keys of the rows of a frame of `size` bytes."""
        distinct, rows = np.unique(keys, return_counts=True)
        return cls(distinct, rows, size / max(len(keys), 1))


@dataclass(frozen=True, slots=True)
class PartitionGroup:
    """Partitions written together: `size` of them from number `first`, with the frames that contain their rows."""

    first: int
    size: int
    frames: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Partitions:
    """The partitions of a rotation, numbered by time; the last number belongs to `NO_KEY`, often without rows."""

    keys: Ints
    rows: Ints
    sizes: np.ndarray[tuple[int], np.dtype[np.float64]]
    frames: tuple[Ints, ...]  # numbers of the partitions in each frame, ascending

    @classmethod
    def of(cls, counted: Sequence[FrameCount], most: int) -> Self:
        """Number the `most` partitions with the most rows; rows of all others count as rows of `NO_KEY`."""
        keys = _largest(counted, most)
        frames = [_numbers(keys, frame.keys) for frame in counted]
        rows = np.zeros(len(keys) + 1, np.int64)
        sizes = np.zeros(len(keys) + 1, np.float64)
        for frame, numbers in zip(counted, frames, strict=True):
            np.add.at(rows, numbers, frame.rows)
            np.add.at(sizes, numbers, frame.rows * frame.row_bytes)
        return cls(keys, rows, sizes, tuple(map(np.unique, frames)))

    def numbers(self, keys: Ints) -> Ints:
        """Return the number of the partition of each key."""
        return _numbers(self.keys, keys)

    def groups(self) -> Iterator[PartitionGroup]:
        """Group neighbours as long as their total size is small."""
        first, rows, size = 0, 0, 0.0
        for number in range(len(self.rows)):
            rows += int(self.rows[number])
            size += float(self.sizes[number])
            if number > first and (rows > _GROUP_ROWS or size > _GROUP_BYTES):
                yield self._group(first, number)
                first, rows, size = number, int(self.rows[number]), float(self.sizes[number])
        if rows:
            yield self._group(first, len(self.rows))

    def _group(self, first: int, end: int) -> PartitionGroup:
        return PartitionGroup(first, end - first, self._frames_with(first, end))

    def _frames_with(self, first: int, end: int) -> tuple[int, ...]:
        return tuple(
            at for at, numbers in enumerate(self.frames) if np.searchsorted(numbers, first) < np.searchsorted(numbers, end)
        )


def _largest(counted: Sequence[FrameCount], most: int) -> Ints:
    """Return the keys of the partitions with the most rows, in order."""
    keys, at = np.unique(np.concatenate([frame.keys for frame in counted]), return_inverse=True)
    rows = np.bincount(at, weights=np.concatenate([frame.rows for frame in counted]))
    keys, rows = keys[keys != NO_KEY], rows[keys != NO_KEY]
    return np.sort(keys[np.lexsort((keys, -rows))[:most]])


def _numbers(kept: Ints, keys: Ints) -> Ints:
    """Return the index of each of `keys` in `kept`; the length of `kept` if it is not there."""
    if not len(kept):
        return np.zeros(len(keys), np.int64)
    at = np.minimum(np.searchsorted(kept, keys), len(kept) - 1)
    return np.where(kept[at] == keys, at, len(kept))
