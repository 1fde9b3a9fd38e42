"""Metrics of the Kafka layer; every service that uses it has them."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

RECORDS_READ = Counter("blobtide_kafka_records_read_total", "Records delivered by the consumer.", ["topic"])
RECORDS_WRITTEN = Counter("blobtide_kafka_records_written_total", "Records of committed transactions.", ["topic"])
PUBLISHED = Counter("blobtide_kafka_records_published_total", "Records acknowledged outside of transactions.", ["what"])
BYTES_READ = Counter("blobtide_kafka_read_bytes_total", "Bytes of values of delivered records.", ["topic"])
TRANSACTIONS = Counter("blobtide_kafka_transactions_total", "Transactions, by outcome.", ["outcome"])
TRANSACTION_SECONDS = Histogram(
    "blobtide_kafka_transaction_duration_seconds",
    "Seconds from the beginning of a transaction to its end.",
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10),
)
RECYCLES = Counter("blobtide_kafka_producer_recycles_total", "Producers replaced by a new one.", ["reason"])
REWINDS = Counter("blobtide_kafka_rewinds_total", "Times that reading went back to the committed offsets.")
REJOINS = Counter("blobtide_kafka_rejoins_total", "Consumers replaced by a new one.")
GAP_RECORDS = Counter("blobtide_kafka_offset_gap_records_total", "Records deleted before they were read.", ["topic"])
LAG = Gauge(
    "blobtide_kafka_consumer_lag_records",
    "Offsets between the group's committed position and the last committed record; transaction markers count as well.",
    ["topic", "partition"],
)
PARTITIONS = Gauge("blobtide_kafka_assigned_partitions", "Partitions assigned to this process.", ["topic"])
DEAD_LETTERS = Counter("blobtide_kafka_dead_letters_total", "Records written to the errors topic.", ["stage", "code"])
RETRIES = Counter("blobtide_kafka_sink_retries_total", "Batches retried at the request of the destination.")
WORK_RETRIES = Counter("blobtide_kafka_transform_retries_total", "Batches retried after a temporary failure.")
LOST_COMMITS = Counter("blobtide_kafka_sink_lost_commits_total", "Commits of sink positions that failed.", ["reason"])
