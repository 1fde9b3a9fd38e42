"""Counts that take effect when committed, so that a batch repeated after an aborted transaction counts once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.messages.dead_letters import ErrorCode
from services.parser import metrics
from services.parser.flows.kernel import Parsed

_NANOSECONDS: Final = 1_000_000_000
_MAX_LATENCY_SECONDS: Final = 86_400.0


@dataclass(slots=True)
class Counted:
    """The results of one `handle`."""

    segments: int = 0
    bytes: int = 0
    records: int = 0
    rows: int = 0
    letters: Counter[ErrorCode] = field(default_factory=Counter)
    batches: list[tuple[int, int]] = field(default_factory=list)  # rows and bytes of each
    too_large: int = 0  # rows that fit in no message
    judged: tuple[int, int] = (0, 0)  # for the limit on dead letters: number of tuples, and of bad ones
    newest: int | None = None  # record time, nanoseconds since 1970

    def add(self, parsed: Parsed, segments: int, size: int) -> None:
        """Add the result of parsing a number of segments."""
        self.segments += segments
        self.bytes += size
        self.records += parsed.records
        newest = pc.max(parsed.batch["record_time"].cast(pa.int64())).as_py()
        self.newest = max(filter(None, (self.newest, newest)), default=None)

    def add_batch(self, rows: int, size: int) -> None:
        """Add a flow batch."""
        self.rows += rows
        self.batches.append((rows, size))

    def count(self, now: float) -> None:
        """Add all of it to the metrics; `now` in seconds since 1970."""
        metrics.SEGMENTS.inc(self.segments)
        metrics.SEGMENT_BYTES.inc(self.bytes)
        metrics.RECORDS.inc(self.records)
        metrics.TUPLES.inc(self.rows)
        for code, count in self.letters.items():
            metrics.DEAD_LETTERS.labels(code.value).inc(count)
        for rows, size in self.batches:
            metrics.BATCH_ROWS.observe(rows)
            metrics.BATCH_BYTES.observe(size)
        if self.newest is not None:
            metrics.LATENCY_SECONDS.observe(min(max(now - self.newest / _NANOSECONDS, 0.0), _MAX_LATENCY_SECONDS))
