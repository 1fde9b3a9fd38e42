"""Divide tables by the partitions of their rows: into frames for a spool, and the frames of a spool into one table a partition.

Frames hold one partition or several small ones. They are read partition by partition, skipping those without rows of it; small
partitions are read together, see `services.sinks.local_state.partitions`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Final, Protocol

import numpy as np
import pyarrow as pa

from libs.common.rows.used_words import used_words_only
from services.sinks.local_state.partitions import Ints, PartitionGroup, Partitions

FRAME_ROWS: Final = 2_048  # each frame costs a few kilobytes in addition to its rows


class Frames(Protocol):
    """Tables in order; each is read on every access."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, number: int) -> pa.Table:
        """Read one."""

    def __iter__(self) -> Iterator[pa.Table]:
        """Read all, one at a time."""


def divided_frames(rows: pa.Table, keys: Ints, least: int = FRAME_ROWS) -> Iterable[pa.Table]:
    """Sort `rows` (at least one) by their `keys`, and divide them; partitions with fewer than `least` rows share a frame."""
    if (keys == keys[0]).all():
        return (rows,)
    rows, keys = _sorted(rows, keys)
    cuts = [0, *_cuts(keys, least), len(keys)]
    return (used_words_only(rows.slice(start, end - start)) for start, end in pairwise(cuts))


def divided_tables(
    frames: Frames, numbers_of: Callable[[pa.Table], Ints], partitions: Partitions
) -> Iterator[tuple[int, Iterable[pa.Table]]]:
    """Yield the number of each partition that has rows, with these in order; they must be read before the next is requested.

    `numbers_of` returns the number of the partition of each row of a frame.
    """
    for group in partitions.groups():
        tables = _tables(frames, numbers_of, group)
        if group.size == 1:
            yield group.first, (rows for rows, _ in tables)
        else:
            for number, rows in _divided(tables):
                yield number, (rows,)


def _tables(frames: Frames, numbers_of: Callable[[pa.Table], Ints], group: PartitionGroup) -> Iterator[tuple[pa.Table, Ints]]:
    """Read the rows of a group, frame by frame, with the numbers of their partitions."""
    for at in group.frames:
        frame = frames[at]
        numbers = numbers_of(frame)
        wanted = (numbers >= group.first) & (numbers < group.first + group.size)
        if wanted.all():
            yield frame, numbers
        else:
            yield used_words_only(frame.filter(pa.array(wanted))), numbers[wanted]


def _divided(tables: Iterable[tuple[pa.Table, Ints]]) -> Iterator[tuple[int, pa.Table]]:
    """Return the rows of each partition with its number."""
    rows, numbers = _sorted(*_joined(tables))
    found, starts = np.unique(numbers, return_index=True)
    for number, (start, end) in zip(found.tolist(), pairwise([*starts.tolist(), len(numbers)]), strict=True):
        yield number, used_words_only(rows.slice(start, end - start))


def _joined(tables: Iterable[tuple[pa.Table, Ints]]) -> tuple[pa.Table, Ints]:
    parts, numbers = zip(*tables, strict=True)
    return pa.concat_tables(parts).unify_dictionaries().combine_chunks(), np.concatenate(numbers)


def _sorted(rows: pa.Table, numbers: Ints) -> tuple[pa.Table, Ints]:
    """Sort rows by their numbers; rows with equal numbers stay in order."""
    if (numbers[1:] >= numbers[:-1]).all():
        return rows, numbers
    order = np.argsort(numbers, kind="stable")
    return rows.take(pa.array(order)), numbers[order]


def _cuts(keys: Ints, least: int) -> Iterator[int]:
    """Return where frames end in rows sorted by `keys`: around every large partition, and between groups of small ones."""
    starts = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    begin = before = 0
    for start, end in pairwise([*starts.tolist(), len(keys)]):
        if max(start - before, end - start, start - begin) >= least:
            yield start
            begin = start
        before = start
