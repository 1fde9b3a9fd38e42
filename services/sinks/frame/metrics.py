"""Metrics of the sinks. The label `sink` is the configured name, so it has as many values as there are sinks."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Histogram

ROWS: Final = Counter(
    "blobtide_sink_rows_total", "Rows by what became of them: written, already_there, rejected, filtered.", ["sink", "outcome"]
)
BAD_MESSAGES: Final = Counter(
    "blobtide_sink_bad_messages_total", "Messages that are not row batches, and were dead-lettered.", ["sink"]
)
RETRIES: Final = Counter(
    "blobtide_sink_retries_total",
    "Writes that the destination could not accept at the time. `kind`: unreachable, or the destination's own term.",
    ["sink", "kind"],
)
WRITE_SECONDS: Final = Histogram(
    "blobtide_sink_write_duration_seconds",
    "Seconds until a write was durable.",
    ["sink"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
BATCH_ROWS: Final = Histogram(
    "blobtide_sink_batch_rows", "Rows in a write.", ["sink"], buckets=(1, 10, 100, 1_000, 10_000, 50_000, 100_000, 500_000)
)
LATENCY_SECONDS: Final = Histogram(
    "blobtide_sink_end_to_end_latency_seconds",
    "Age in seconds of the oldest row in a written batch, by the row's own time.",
    ["sink"],
    buckets=(1, 5, 15, 30, 60, 90, 120, 180, 300, 600, 1_800, 3_600, 21_600, 86_400),
)
