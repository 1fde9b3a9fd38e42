"""How waiting rows are divided into files: all into one, or by the days and hours of their time.

Arriving rows are sorted by partition and spooled in frames that hold one partition or several small ones. When files are made,
the frames are read partition by partition, skipping those without rows of it. This works for any frames, so rows spooled under
another layout get their files under the current one.

Memory holds one frame and the rows of one *group*: a single partition, which is streamed, or several small consecutive ones,
which are sorted together. One file is written at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
import structlog

from libs.common.rows.used_words import used_words_only
from services.sinks.local_state.partitions import NO_KEY, FrameCount, Ints, PartitionGroup, Partitions

log = structlog.get_logger(__name__)

ELSEWHERE: Final = "__HIVE_DEFAULT_PARTITION__"
"""The name that readers of such directories treat as null: the partition of rows without one of their own."""

_FRAME_ROWS: Final = 2_048  # each frame costs a few kilobytes in addition to its rows
_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


class Frames(Protocol):
    """Tables in order; each is read on every access."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, number: int) -> pa.Table:
        """Read one."""

    def __iter__(self) -> Iterator[pa.Table]:
        """Read all, one at a time."""


@dataclass(frozen=True, slots=True)
class FileRows:
    """A file to be made: its folder, relative to the directory of all files, and its rows, which can be read only once."""

    folder: str
    tables: Iterable[pa.Table]


class FileLayout(Protocol):
    """A way to divide rows into files."""

    def frames(self, rows: pa.Table) -> Iterable[pa.Table]:
        """Divide `rows` (at least one) into frames for the spool."""

    def files(self, frames: Frames) -> Iterator[FileRows]:
        """Return the files for `frames`, which must not be empty. Each must be written before the next is requested."""


class _Flat:
    def frames(self, rows: pa.Table) -> Iterable[pa.Table]:
        return (rows,)

    def files(self, frames: Frames) -> Iterator[FileRows]:
        yield FileRows("", frames)


FLAT: Final[FileLayout] = _Flat()
"""All rows into one file."""


class Period(StrEnum):
    """A unit by which times are divided. The value is the column name that readers see."""

    DAY = "day"
    HOUR = "hour"


_SECONDS: Final = {Period.DAY: 86_400, Period.HOUR: 3_600}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
_LAST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class ByTime:
    """A file for each UTC day or hour, in folders like ``day=2026-05-01/hour=04``.

    Times in the years 1 to 9999 have folders. Rows with other times go to the partition `ELSEWHERE`, and so do those of the
    smallest partitions if there are more than `most`: a log with nonsensical times must not create a million files.

    Attributes:
        column: name of the time column, a timestamp.
        periods: `DAY`, or `DAY` and `HOUR`.
        most: the maximum number of partitions for which one rotation makes files, besides `ELSEWHERE`.
    """

    column: str
    periods: tuple[Period, ...] = (Period.DAY, Period.HOUR)
    most: int = 1_000

    def frames(self, rows: pa.Table) -> Iterable[pa.Table]:
        """Sort by time, as far as it determines the file."""
        keys = self._keys(rows)
        if (keys == keys[0]).all():
            return (rows,)
        rows, keys = _sorted(rows, keys)
        cuts = [0, *_cuts(keys), len(keys)]
        return (used_words_only(rows.slice(start, end - start)) for start, end in pairwise(cuts))

    def files(self, frames: Frames) -> Iterator[FileRows]:
        """Divide by time; rows stay in order in every file except that of `ELSEWHERE`."""
        partitions = Partitions.of([FrameCount.of(self._keys(frame), frame.nbytes) for frame in frames], self.most)
        self._warn(partitions)
        for group in partitions.groups():
            tables = self._tables(frames, partitions, group)
            if group.size == 1:
                yield FileRows(self._folder(partitions, group.first), (rows for rows, _ in tables))
            else:
                for number, rows in _divided(tables):
                    yield FileRows(self._folder(partitions, number), (rows,))

    def _keys(self, rows: pa.Table) -> Ints:
        """Return the number of each row's period, counted from 1970, or `NO_KEY`."""
        times = rows.column(self.column)
        ticks = times.cast(pa.int64()).to_numpy()
        keys: Ints = np.floor_divide(ticks, _PER_SECOND[times.type.unit] * self._seconds)
        return np.where((keys < _FIRST // self._seconds) | (keys > _LAST // self._seconds), NO_KEY, keys)

    @property
    def _seconds(self) -> int:
        return _SECONDS[self.periods[-1]]

    def _folder(self, partitions: Partitions, number: int) -> str:
        if number == len(partitions.keys):
            values = [ELSEWHERE, ELSEWHERE]
        else:
            began = _EPOCH + timedelta(seconds=int(partitions.keys[number]) * self._seconds)
            values = [began.date().isoformat(), f"{began.hour:02}"]
        named = zip(self.periods, values[: len(self.periods)], strict=True)
        return "/".join(f"{period}={value}" for period, value in named)

    def _tables(self, frames: Frames, partitions: Partitions, group: PartitionGroup) -> Iterator[tuple[pa.Table, Ints]]:
        """Read the rows of a group, frame by frame, with the numbers of their partitions."""
        for at in group.frames:
            frame = frames[at]
            numbers = partitions.numbers(self._keys(frame))
            wanted = (numbers >= group.first) & (numbers < group.first + group.size)
            if wanted.all():
                yield frame, numbers
            else:
                yield used_words_only(frame.filter(pa.array(wanted))), numbers[wanted]

    def _warn(self, partitions: Partitions) -> None:
        if rows := int(partitions.rows[-1]):
            log.warning("rows without a partition of their own", rows=rows, other_partitions=len(partitions.keys))


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


def _cuts(keys: Ints) -> Iterator[int]:
    """Return where frames end in rows sorted by `keys`: around every large partition, and between groups of small ones."""
    starts = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    begin = before = 0
    for start, end in pairwise([*starts.tolist(), len(keys)]):
        if max(start - before, end - start, start - begin) >= _FRAME_ROWS:
            yield start
            begin = start
        before = start
