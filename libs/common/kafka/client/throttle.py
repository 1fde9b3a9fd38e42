"""One line a minute for what happens again and again, such as a broker that is away."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS_BETWEEN_LINES = 60.0


class Throttle:
    """Says when the next line may be written, and how many were swallowed since the last."""

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
