"""All metrics of ingest. Published data counts when it is committed; announcements count each time they arrive."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

EVENTS: Final = Counter("blobtide_ingest_events_total", "Announcements received.", ["type"])
STEPS: Final = Counter("blobtide_ingest_steps_total", "Reading steps finished.", ["stream"])
BYTES: Final = Counter("blobtide_ingest_bytes_total", "Bytes of blobs published as segments.", ["stream"])
SEGMENTS: Final = Counter("blobtide_ingest_segments_total", "Segments published.", ["stream"])
RECORDS: Final = Counter("blobtide_ingest_records_total", "Records or lines published.", ["stream"])
COMPLETED: Final = Counter("blobtide_ingest_completed_blobs_total", "Closed blobs read completely.", ["stream"])
SKIPPED: Final = Counter(
    "blobtide_ingest_skipped_total",
    "Announcements for which nothing was read, by reason; not_configured: no enabled environment has the container.",
    ["reason"],
)
ENDED: Final = Counter(
    "blobtide_ingest_ended_generations_total", "Generations that ended before they were complete.", ["reason"]
)
DEAD_LETTERS: Final = Counter("blobtide_ingest_dead_letters_total", "Dead letters written.", ["code"])
QUARANTINED: Final = Gauge(
    "blobtide_ingest_quarantined_blobs", "Blobs in owned partitions that are no longer read because reading crashed too often."
)
STORAGE_FAILURES: Final = Counter("blobtide_ingest_storage_failures_total", "Steps postponed because storage did not respond.")
TRANSACTIONS: Final = Counter("blobtide_ingest_transactions_total", "Transactions, by result.", ["result"])
BACKLOG: Final = Gauge("blobtide_ingest_backlog_blobs", "Announced blobs not yet read completely.")
RESERVED: Final = Gauge("blobtide_ingest_reserved_bytes", "Memory reserved for running steps and uncommitted results.")
PAUSED: Final = Gauge(
    "blobtide_ingest_paused_info", "1 while the intake of announcements is paused because the backlog is full."
)
KNOWN: Final = Gauge("blobtide_ingest_known_blobs", "Blobs in owned partitions that have a checkpoint.")
AT_HAND: Final = Gauge("blobtide_ingest_checkpoints_at_hand", "Checkpoints in memory; the others are looked up in Kafka.")
LOOKUPS: Final = Counter("blobtide_ingest_checkpoint_lookups_total", "Checkpoints looked up in Kafka.")
HELD: Final = Gauge(
    "blobtide_ingest_checkpoint_places", "Blobs for which the position of the checkpoint in Kafka is in memory."
)
RECALLS: Final = Counter(
    "blobtide_ingest_checkpoint_readings_total",
    "Parts of the checkpoint topic read again, for announcements of days no longer in memory.",
)
DECODER_BYTES: Final = Gauge(
    "blobtide_ingest_decoder_bytes", "Approximate memory of decoders of compressed blobs that are kept between steps."
)
DECODED_AGAIN: Final = Counter(
    "blobtide_ingest_decoded_again_bytes_total",
    "Compressed bytes decoded again, because the decoder of an incomplete member was not kept.",
)
