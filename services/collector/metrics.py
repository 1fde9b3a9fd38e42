"""All metrics of the collector. What is published counts when it is committed."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

REQUESTS: Final = Counter(
    "blobtide_collector_requests_total",
    "Requests that arrived, by what became of them: accepted, continued, repeated, refused, or expired in Kafka.",
    ["outcome"],
)
MESSAGES: Final = Counter(
    "blobtide_collector_messages_total",
    "Messages of the queue that were handled: deleted, deleted as poison, or late, which come again.",
    ["outcome"],
)
API: Final = Counter(
    "blobtide_collector_api_requests_total",
    "Answers of the API, by status: to a collect, progress or document request, or to one that is unknown or unreadable.",
    ["operation", "status"],
)
DEFAULTS: Final = Counter(
    "blobtide_collector_defaults_total",
    "Attempts to read the default subscription and tenant again from Key Vault: read, or failed.",
    ["outcome"],
)
CALLS: Final = Counter("blobtide_collector_calls_total", "Calls that ended.", ["status"])
ANSWERS: Final = Counter("blobtide_collector_answers_total", "Answers published: pages of lists, and resources.")
ELEMENTS: Final = Counter("blobtide_collector_elements_total", "Resources and rows in the answers published.")
CHANGES: Final = Counter(
    "blobtide_collector_resource_changes_total", "Resources written because they are new or different, or are gone.", ["state"]
)
RESOURCES: Final = Gauge("blobtide_collector_known_resources", "Resources of which the last state is in memory.")
RESTARTS: Final = Counter("blobtide_collector_restarts_total", "Lists begun anew because a page had expired.")
DEAD_LETTERS: Final = Counter("blobtide_collector_dead_letters_total", "Dead letters written.", ["code"])
TRANSACTIONS: Final = Counter("blobtide_collector_transactions_total", "Transactions, by result.", ["result"])
WAITING: Final = Gauge("blobtide_collector_waiting_calls", "Calls of accepted requests that have not ended.")
DEFERRED: Final = Gauge("blobtide_collector_deferred_requests", "Requests that wait in Kafka until there is room for them.")
PUT_OFF: Final = Gauge("blobtide_collector_put_off_calls", "Calls that wait because Azure does not answer or throttles.")
KNOWN: Final = Gauge("blobtide_collector_known_requests", "Requests of owned partitions that are known by their id.")
