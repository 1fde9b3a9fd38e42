"""Metrics of blob_monitor. The account label is the configured alias of an environment."""

from prometheus_client import Counter, Gauge, Histogram

BLOBS = Counter("blobtide_blob_monitor_blobs_total", "Listed blobs, by decision.", ["account", "verdict"])
EVENTS = Counter("blobtide_blob_monitor_events_total", "Committed events, by type.", ["account", "type"])
LISTINGS = Counter("blobtide_blob_monitor_listings_total", "Completed listings of a prefix.", ["account", "kind"])
LISTING_SECONDS = Counter("blobtide_blob_monitor_listing_seconds_total", "Seconds spent listing.", ["account", "kind"])
LAST_ROUND = Gauge("blobtide_blob_monitor_last_round_timestamp_seconds", "End of the last complete round.", ["account", "kind"])
STORAGE_ERRORS = Counter("blobtide_blob_monitor_storage_errors_total", "Failed rounds of a container.", ["account", "error"])
STORAGE_UP = Gauge("blobtide_blob_monitor_storage_up", "1 while the environment's storage responds.", ["account"])
STORAGE_TROUBLE = Gauge(
    "blobtide_blob_monitor_storage_trouble",
    "1 while a container cannot be listed, by kind of error.",
    ["account", "container", "error"],
)
SCOPES = Gauge("blobtide_blob_monitor_scopes", "Scopes found, and scopes owned by this process.", ["account", "share"])
NOTICES = Counter("blobtide_blob_monitor_notices_total", "Events read from the queue, by outcome.", ["account", "outcome"])
NOTICE_AGE = Histogram(
    "blobtide_blob_monitor_notice_age_seconds",
    "Seconds from the time of an event to the look at its blob.",
    ["account"],
    buckets=(0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000),
)
SETTLED = Counter("blobtide_blob_monitor_settled_messages_total", "Queue messages that were handled.", ["account"])
LATE_DELETIONS = Counter(
    "blobtide_blob_monitor_late_deletions_total", "Messages that reappeared before they were deleted.", ["account"]
)
QUEUE_UP = Gauge("blobtide_blob_monitor_queue_up", "1 while the environment's event queue responds.", ["account"])
KNOWN = Gauge("blobtide_blob_monitor_known_blobs", "Blobs in memory.")
OPEN = Gauge("blobtide_blob_monitor_open_blobs", "Open blobs, waiting to be closed.")
COMMITS = Counter("blobtide_blob_monitor_transactions_total", "Transactions, by result.", ["result"])
UNREADABLE_STATE = Counter("blobtide_blob_monitor_unreadable_state_total", "State records that could not be read.")
