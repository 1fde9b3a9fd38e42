"""How waiting snapshots are divided into files: by source and, where they are of a long time, by interval.

A rotation takes what has come in an interval, so usually a source gets one file. If the sink was behind, it takes more at once;
the time from the first snapshot of a source to its last is then divided into as many equal parts as there are intervals in it,
rounded, so that the files are of the length that they would have had. Memory is bounded as in
`services.sinks.local_state.layout`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.column_values import one_array
from libs.common.rows.types.snapshots import SNAPSHOTS
from services.sinks.kinds.archive.names import FIRST_MS, LAST_MS, titles
from services.sinks.local_state.dividing import FRAME_ROWS, Frames, divided_frames, divided_tables
from services.sinks.local_state.layout import FileRows
from services.sinks.local_state.partitions import FrameCount, Ints, Partitions

_FRAME_BYTES: Final = 262_144
_MOST_PARTS: Final = 1_000
"""The most files that one rotation makes of one source: a time that makes no sense must not create a million."""

_TIME: Final = SNAPSHOTS.time
_SOURCE: Final = SNAPSHOTS.position.source


@dataclass(frozen=True, slots=True)
class BySource:
    """A file for each source and interval of so many seconds."""

    seconds: float

    def frames(self, rows: pa.Table) -> Iterable[pa.Table]:
        """Sort by source; sources with little data share a frame."""
        row_bytes = max(1, rows.nbytes // rows.num_rows)
        least = min(FRAME_ROWS, max(1, _FRAME_BYTES // row_bytes))
        codes = one_array(rows.column(_SOURCE)).indices.to_numpy().astype(np.int64)
        return divided_frames(rows, codes, least)

    def files(self, frames: Frames) -> Iterator[FileRows]:
        """Divide by source and time; the snapshots of each file stay in order."""
        parts = _Parts.of(_Sources.of(frames), self.seconds)
        partitions = Partitions.of([FrameCount.of(parts.keys(frame), frame.nbytes) for frame in frames], parts.most)
        for number, tables in divided_tables(frames, lambda frame: partitions.numbers(parts.keys(frame)), partitions):
            begins, source = parts.place(int(partitions.keys[number]))
            yield FileRows("", tables, titles(begins, source))


@dataclass(frozen=True, slots=True, eq=False)
class _Sources:
    """The sources of snapshots, in the order in which they appear, with the times of the first and last snapshot of each."""

    names: tuple[str, ...]
    first: Ints
    last: Ints

    @classmethod
    def of(cls, frames: Iterable[pa.Table]) -> Self:
        spans: dict[str, tuple[int, int]] = {}
        for frame in frames:
            table = pa.table({_SOURCE: frame.column(_SOURCE).cast(pa.string()), _TIME: _times(frame)})
            for found in table.group_by(_SOURCE).aggregate([(_TIME, "min"), (_TIME, "max")]).to_pylist():
                first, last = found[f"{_TIME}_min"], found[f"{_TIME}_max"]
                known = spans.get(found[_SOURCE], (first, last))
                spans[found[_SOURCE]] = min(first, known[0]), max(last, known[1])
        times = np.array(list(spans.values()), np.int64).reshape(-1, 2)
        return cls(tuple(spans), times[:, 0], times[:, 1])

    def numbers(self, rows: pa.Table) -> Ints:
        """Return the number of the source of each row."""
        column = one_array(rows.column(_SOURCE))
        numbers = pc.index_in(column.dictionary, value_set=pa.array(self.names, pa.string()))
        found: Ints = numbers.take(column.indices).to_numpy(zero_copy_only=False).astype(np.int64)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """Into how many parts the time of each source is divided. The key of a part is unique, and ascends with source and time."""

    sources: _Sources
    counts: Ints

    @classmethod
    def of(cls, sources: _Sources, seconds: float) -> Self:
        spans = sources.last - sources.first
        return cls(sources, np.clip(np.rint(spans / (seconds * 1_000)), 1, _MOST_PARTS).astype(np.int64))

    @property
    def most(self) -> int:
        """How many parts there may be."""
        return len(self.sources.names) * _MOST_PARTS

    def keys(self, rows: pa.Table) -> Ints:
        """Return the key of each row."""
        numbers = self.sources.numbers(rows)
        parts: Ints = (_times(rows) - self.sources.first[numbers]) * self.counts[numbers] // self._lengths[numbers]
        return numbers * _MOST_PARTS + parts

    def place(self, key: int) -> tuple[int, str]:
        """Return when a part begins, in milliseconds since 1970, and its source."""
        number, part = divmod(key, _MOST_PARTS)
        offset = -(-part * int(self._lengths[number]) // int(self.counts[number]))
        return int(self.sources.first[number]) + offset, self.sources.names[number]

    @property
    def _lengths(self) -> Ints:
        return self.sources.last - self.sources.first + 1


def _times(rows: pa.Table) -> Ints:
    """Return the time of each row in milliseconds since 1970, within what names can say."""
    times: Ints = rows.column(_TIME).cast(pa.int64()).to_numpy()
    return np.clip(times, FIRST_MS, LAST_MS)
