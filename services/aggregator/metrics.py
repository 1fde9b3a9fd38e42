"""Metrics of the aggregator. They count what is committed; only the duration includes repeated work."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Histogram

FLOWS: Final = Counter("blobtide_aggregator_flows_total", "Flow tuples read.")
FILTERED: Final = Counter(
    "blobtide_aggregator_filtered_flows_total", "Flow tuples that the condition of an aggregation left out.", ["aggregation"]
)
ROWS: Final = Counter("blobtide_aggregator_rows_total", "Rollups written, by aggregation.", ["aggregation"])
THROTTLED: Final = Counter(
    "blobtide_aggregator_throttled_rows_total",
    "Rollups left out because their record gave more than the aggregation's most_rows.",
    ["aggregation"],
)
DEAD_LETTERS: Final = Counter("blobtide_aggregator_dead_letters_total", "Messages that are no batches of flows.")
SECONDS: Final = Histogram(
    "blobtide_aggregator_duration_seconds",
    "Seconds to sum up the flows of one poll.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
