"""Counts that take effect when committed, so that a batch repeated after an aborted transaction counts once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.row_type import RowType
from libs.common.rows.types.flows import FLOWS
from services.parser import metrics
from services.parser.extraction import Extraction

_NANOSECONDS: Final = 1_000_000_000
_MAX_LATENCY_SECONDS: Final = 86_400.0


@dataclass(slots=True)
class Counted:
    """The results of one `handle`."""

    segments: int = 0
    bytes: int = 0
    records: int = 0
    rows: Counter[str] = field(default_factory=Counter)  # by type
    letters: Counter[ErrorCode] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    batches: list[tuple[int, int]] = field(default_factory=list)  # rows and bytes of each
    judged: dict[str, tuple[int, int]] = field(default_factory=dict)  # for the limit on dead letters: total and bad, by topic
    newest: int | None = None  # record time, nanoseconds since 1970

    def add(self, extraction: Extraction, segments: int, size: int) -> None:
        """Add what a number of segments gave."""
        self.segments += segments
        self.bytes += size
        self.records += extraction.records
        self.skipped += extraction.skipped
        self.newest = max(filter(None, (self.newest, extraction.newest)), default=None)

    def add_batch(self, row_type: RowType, rows: int, size: int) -> None:
        """Add a batch of rows."""
        self.rows[row_type.name] += rows
        self.batches.append((rows, size))

    def count(self, now: float) -> None:
        """Add all of it to the metrics; `now` in seconds since 1970."""
        metrics.SEGMENTS.inc(self.segments)
        metrics.SEGMENT_BYTES.inc(self.bytes)
        metrics.RECORDS.inc(self.records)
        metrics.TUPLES.inc(self.rows[FLOWS.name])
        for name, count in self.rows.items():
            metrics.ROWS.labels(name).inc(count)
        for reason, count in self.skipped.items():
            metrics.SKIPPED.labels(reason).inc(count)
        for code, count in self.letters.items():
            metrics.DEAD_LETTERS.labels(code.value).inc(count)
        for rows, size in self.batches:
            metrics.BATCH_ROWS.observe(rows)
            metrics.BATCH_BYTES.observe(size)
        if self.newest is not None:
            metrics.LATENCY_SECONDS.observe(min(max(now - self.newest / _NANOSECONDS, 0.0), _MAX_LATENCY_SECONDS))
