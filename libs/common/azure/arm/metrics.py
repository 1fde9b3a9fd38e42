"""Metrics of calls to Azure Resource Manager."""

from prometheus_client import Counter

REQUESTS = Counter(
    "blobtide_arm_requests_total", "Requests sent to Azure Resource Manager, by class of the status.", ["status"]
)
RETRIES = Counter("blobtide_arm_retries_total", "Requests repeated: throttled, reset, truncated or timed out.")
WAITED = Counter("blobtide_arm_waited_seconds_total", "Time that calls waited: for their turn, and between attempts.")
