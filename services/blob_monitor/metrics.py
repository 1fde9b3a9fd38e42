"""Metrics of blob_monitor. The account label is the configured alias of an environment."""

from prometheus_client import Counter, Gauge, Histogram

BLOBS = Counter("blobtide_blob_monitor_blobs_total", "Listed blobs by what was decided.", ["account", "verdict"])
EVENTS = Counter("blobtide_blob_monitor_events_total", "Committed events by type.", ["account", "type"])
LISTINGS = Counter("blobtide_blob_monitor_listings_total", "Completed listings of one prefix.", ["account", "kind"])
LISTING_SECONDS = Counter("blobtide_blob_monitor_listing_seconds_total", "Time spent listing.", ["account", "kind"])
LAST_ROUND = Gauge("blobtide_blob_monitor_last_round_timestamp_seconds", "End of the last complete round.", ["account", "kind"])
STORAGE_ERRORS = Counter("blobtide_blob_monitor_storage_errors_total", "Failed rounds of a container.", ["account", "error"])
STORAGE_UP = Gauge("blobtide_blob_monitor_storage_up", "1 while the environment's storage answers.", ["account"])
STORAGE_TROUBLE = Gauge(
    "blobtide_blob_monitor_storage_trouble",
    "1 while a container cannot be listed, by error.",
    ["account", "container", "error"],
)
SCOPES = Gauge("blobtide_blob_monitor_scopes", "Scopes found, and owned by this process.", ["account", "share"])
NOTICES = Counter("blobtide_blob_monitor_notices_total", "Events read from the queue, by outcome.", ["account", "outcome"])
NOTICE_AGE = Histogram(
    "blobtide_blob_monitor_notice_age_seconds",
    "From what an event tells of to the look at the blob.",
    ["account"],
    buckets=(0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000),
)
SETTLED = Counter("blobtide_blob_monitor_settled_messages_total", "Messages of the queue that were dealt with.", ["account"])
LATE_DELETIONS = Counter(
    "blobtide_blob_monitor_late_deletions_total", "Messages that came again before they were deleted.", ["account"]
)
QUEUE_UP = Gauge("blobtide_blob_monitor_queue_up", "1 while the environment's queue of events answers.", ["account"])
KNOWN = Gauge("blobtide_blob_monitor_known_blobs", "Blobs in memory.")
OPEN = Gauge("blobtide_blob_monitor_open_blobs", "Blobs whose end is awaited.")
COMMITS = Counter("blobtide_blob_monitor_transactions_total", "Transactions by how they ended.", ["result"])
UNREADABLE_STATE = Counter("blobtide_blob_monitor_unreadable_state_total", "State records that could not be read.")
