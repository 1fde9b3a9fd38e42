"""Limit repeated log lines, such as those about a broker outage, to one a minute."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS_BETWEEN_LINES = 60.0


class Throttle:
    """Decides when the next line may be written, and counts the lines swallowed since the last one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._quiet_until = float("-inf")
        self._swallowed = 0

    def admits(self) -> bool:
        """Return whether a line may be written now; if not, count it as swallowed."""
        if self._clock() < self._quiet_until:
            self._swallowed += 1
            return False
        self._quiet_until = self._clock() + SECONDS_BETWEEN_LINES
        return True

    def take_swallowed(self) -> int:
        """Return how many lines were swallowed since the last call."""
        count, self._swallowed = self._swallowed, 0
        return count
