"""Metrics of the recorder. The label source is the configured name of a source."""

from prometheus_client import Counter, Gauge, Histogram

POLLS = Counter(
    "blobtide_recorder_polls_total",
    "Answered requests by outcome: recorded, unchanged or refused (committed), or failed.",
    ["source", "outcome"],
)
ROWS = Counter("blobtide_recorder_rows_total", "Committed rows.", ["source"])
BYTES = Counter("blobtide_recorder_answer_bytes_total", "Bytes of recorded answers.", ["source"])
MISSED = Counter(
    "blobtide_recorder_missed_turns_total",
    "Turns at which the source was not asked, because an earlier one took too long.",
    ["source"],
)
DROPPED = Counter(
    "blobtide_recorder_dropped_answers_total",
    "Answers that were not recorded because another recorder has taken over the source.",
    ["source"],
)
SECONDS = Histogram(
    "blobtide_recorder_response_seconds",
    "Seconds from a request to the end of its answer.",
    ["source"],
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
)
UP = Gauge("blobtide_recorder_source_up", "1 while the answers of an owned source can be recorded, 0 while not.", ["source"])
LAST = Gauge(
    "blobtide_recorder_last_answer_timestamp_seconds",
    "When the source was asked for its last recorded or unchanged answer.",
    ["source"],
)
SOURCES = Gauge("blobtide_recorder_sources", "Sources that this process asks.")
COMMITS = Counter("blobtide_recorder_transactions_total", "Transactions, by result.", ["result"])
UNREADABLE_STATE = Counter("blobtide_recorder_unreadable_state_total", "State records that could not be read.")
