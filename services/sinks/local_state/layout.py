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
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
import structlog

from services.sinks.local_state.dividing import Frames, divided_frames, divided_tables
from services.sinks.local_state.partitions import NO_KEY, FrameCount, Ints, Partitions

log = structlog.get_logger(__name__)

ELSEWHERE: Final = "__HIVE_DEFAULT_PARTITION__"
"""The name that readers of such directories treat as null: the partition of rows without one of their own."""

_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class FileRows:
    """A file to be made.

    Attributes:
        folder: relative to the directory of all files.
        tables: its rows, which can be read only once.
        titles: names that it may have, without extension, without end; the first one that no file of the directory has ever had
            is taken. None: the outlet's template names it.
    """

    folder: str
    tables: Iterable[pa.Table]
    titles: Iterable[str] | None = None


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
        return divided_frames(rows, self._keys(rows))

    def files(self, frames: Frames) -> Iterator[FileRows]:
        """Divide by time; rows stay in order in every file except that of `ELSEWHERE`."""
        partitions = Partitions.of([FrameCount.of(self._keys(frame), frame.nbytes) for frame in frames], self.most)
        self._warn(partitions)
        for number, tables in divided_tables(frames, lambda frame: partitions.numbers(self._keys(frame)), partitions):
            yield FileRows(self._folder(partitions, number), tables)

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

    def _warn(self, partitions: Partitions) -> None:
        if rows := int(partitions.rows[-1]):
            log.warning("rows without a partition of their own", rows=rows, other_partitions=len(partitions.keys))
