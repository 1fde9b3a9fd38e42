"""Metrics of the parser. They count what is committed; only parsing times include repeated work."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

SEGMENTS: Final = Counter("blobtide_parser_segments_total", "Segments read.")
SEGMENT_BYTES: Final = Counter("blobtide_parser_segment_bytes_total", "Bytes of segments read.")
RECORDS: Final = Counter("blobtide_parser_records_total", "Flow-log records, and lines of logs, read.")
TUPLES: Final = Counter("blobtide_parser_tuples_total", "Flow tuples that became rows.")
ROWS: Final = Counter("blobtide_parser_rows_total", "Rows written, by type.", ["row_type"])
SKIPPED: Final = Counter(
    "blobtide_parser_skipped_lines_total", "Lines of logs that are no rows without being bad, by reason.", ["reason"]
)
DEAD_LETTERS: Final = Counter(
    "blobtide_parser_dead_letters_total", "Tuples, records, lines and segments that could not become rows, by code.", ["code"]
)
QUARANTINED: Final = Gauge(
    "blobtide_parser_quarantined_blobs", "Quarantined blobs in owned partitions: their segments are only referenced in Errors."
)
PARSE_SECONDS: Final = Histogram(
    "blobtide_parser_parse_duration_seconds",
    "Seconds to parse the segments of one poll, or as many as are parsed together.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
BATCH_ROWS: Final = Histogram(
    "blobtide_parser_batch_rows", "Rows in a batch.", buckets=(1, 10, 100, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000)
)
BATCH_BYTES: Final = Histogram(
    "blobtide_parser_batch_bytes", "Bytes of a batch.", buckets=(1_000, 10_000, 100_000, 500_000, 1e6, 2e6, 4e6, 8e6)
)
LATENCY_SECONDS: Final = Histogram(
    "blobtide_parser_end_to_end_latency_seconds",
    "Age in seconds of the newest record in a batch, by the record's own time.",
    buckets=(1, 5, 15, 30, 60, 90, 120, 180, 300, 600, 1_800, 3_600, 21_600, 86_400),
)
