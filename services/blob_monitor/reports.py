"""Select the listings to record as `BlobsListed`: those that announced something, and periodically one of every scope.

Where there are selectors, periodically one of every selector and day: it says that nothing is missing of these.
"""

from __future__ import annotations

from collections.abc import Callable

from services.blob_monitor.listing import ListingTask


class Reports:
    """Remembers, per scope, whether anything was announced since the last listing, and when one was last recorded."""

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._news: set[tuple[str, bool]] = set()
        self._written: dict[tuple[str, str], float] = {}

    def announced(self, task: ListingTask) -> None:
        """Note that the current listing of `task` has led to an event."""
        self._news.add(_key(task))

    def is_wanted(self, task: ListingTask, prefix: str) -> bool:
        """Return whether to record the listing of `prefix`, of `task`, that has just ended."""
        now, key = self._monotonic(), _key(task)
        place = task.scope.key, prefix if task.scope.territory.selector else ""
        written = self._written.get(place)
        if key not in self._news and written is not None and now - written < self._seconds:
            return False
        self._news.discard(key)
        self._written[place] = now
        return True

    def forget(self) -> None:
        """Forget everything: it was not committed, or another monitor is responsible now."""
        self._news.clear()
        self._written.clear()


def _key(task: ListingTask) -> tuple[str, bool]:
    # A scope may be in a full and a current listing at the same time.
    return task.scope.key, bool(task.listing_round)
