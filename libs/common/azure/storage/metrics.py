"""Metrics of storage access. The account label is the configured alias."""

from prometheus_client import Counter

REQUESTS = Counter("blobtide_storage_requests_total", "Requests sent to blob storage.", ["account"])
RETRIES = Counter("blobtide_storage_retries_total", "Requests retried: throttled, reset, truncated or timed out.", ["account"])
