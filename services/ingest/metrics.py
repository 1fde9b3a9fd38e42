"""Every metric of ingest. What is published counts when it is committed; announcements count each time that they come."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

EVENTS: Final = Counter("blobtide_ingest_events_total", "Announcements taken in.", ["type"])
STEPS: Final = Counter("blobtide_ingest_steps_total", "Reading steps finished.", ["stream"])
BYTES: Final = Counter("blobtide_ingest_bytes_total", "Bytes of blobs published as segments.", ["stream"])
SEGMENTS: Final = Counter("blobtide_ingest_segments_total", "Segments published.", ["stream"])
RECORDS: Final = Counter("blobtide_ingest_records_total", "Records or lines published.", ["stream"])
COMPLETED: Final = Counter("blobtide_ingest_completed_blobs_total", "Closed blobs read to their end.", ["stream"])
SKIPPED: Final = Counter(
    "blobtide_ingest_skipped_total",
    "Announcements of which nothing was read, by reason; not_configured: no enabled environment has the container.",
    ["reason"],
)
ENDED: Final = Counter("blobtide_ingest_ended_generations_total", "Generations that ended incomplete.", ["reason"])
DEAD_LETTERS: Final = Counter("blobtide_ingest_dead_letters_total", "Dead letters written.", ["code"])
QUARANTINED: Final = Gauge(
    "blobtide_ingest_quarantined_blobs", "Blobs that are not read on since that crashed too often, of the owned partitions."
)
STORAGE_FAILURES: Final = Counter("blobtide_ingest_storage_failures_total", "Steps put off since storage did not answer.")
TRANSACTIONS: Final = Counter("blobtide_ingest_transactions_total", "Transactions, by result.", ["result"])
BACKLOG: Final = Gauge("blobtide_ingest_backlog_blobs", "Announced blobs that are not read to their end yet.")
RESERVED: Final = Gauge("blobtide_ingest_reserved_bytes", "Memory reserved for steps in flight and results not committed.")
PAUSED: Final = Gauge("blobtide_ingest_paused_info", "1 while no announcements are taken in because the backlog is full.")
KNOWN: Final = Gauge("blobtide_ingest_known_blobs", "Blobs of the owned partitions of which something was read.")
AT_HAND: Final = Gauge("blobtide_ingest_checkpoints_at_hand", "Checkpoints in memory; the others are looked up in Kafka.")
LOOKUPS: Final = Counter("blobtide_ingest_checkpoint_lookups_total", "Checkpoints that were looked up in Kafka.")
HELD: Final = Gauge("blobtide_ingest_checkpoint_places", "Blobs of which is in memory where their checkpoints stand in Kafka.")
RECALLS: Final = Counter(
    "blobtide_ingest_checkpoint_readings_total",
    "Parts of the checkpoint topic read again for announcements of days that have left memory.",
)
