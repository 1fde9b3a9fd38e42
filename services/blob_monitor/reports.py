"""Which listings are written down as `BlobsListed`: those that announced something, and one of every scope now and then."""

from __future__ import annotations

from collections.abc import Callable

from services.blob_monitor.listing import Task


class Reports:
    """Keeps, by scope, what has been announced since the last listing ended and when one was last written down."""

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._news: set[tuple[str, bool]] = set()
        self._written: dict[str, float] = {}

    def announced(self, task: Task) -> None:
        """Note that the listing of `task` that is going on has led to an event."""
        self._news.add(_key(task))

    def is_wanted(self, task: Task) -> bool:
        """Tell whether to write down the listing of `task` that has just ended."""
        now, scope, key = self._monotonic(), task.scope.key, _key(task)
        written = self._written.get(scope)
        if key not in self._news and written is not None and now - written < self._seconds:
            return False
        self._news.discard(key)
        self._written[scope] = now
        return True

    def forget(self) -> None:
        """Begin anew: what was noted has not been committed, or is another monitor's matter now."""
        self._news.clear()
        self._written.clear()


def _key(task: Task) -> tuple[str, bool]:
    # A scope may be in a full listing and in a current one at the same time.
    return task.scope.key, bool(task.listing_round)
