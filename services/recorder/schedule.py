"""When a source is asked: at fixed intervals, and later after failures. Pure; times are monotonic seconds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

_FIRST_WAIT: Final = 1.0
_LONGEST_WAIT: Final = 60.0
_MOST_DOUBLINGS: Final = 6


class PollSchedule:
    """The turns of one source, which is asked in one turn at a time.

    Turns are `interval` seconds apart, however long each takes; those that a slow one leaves no time for are missed. Each is
    delayed by up to `jitter` seconds. After failures in a row it waits for a second, two, and so on up to a minute, and never
    less than the source demands, until the source is well again. `draw` returns a random number from 0 to 1.
    """

    def __init__(self, interval: float, jitter: float, draw: Callable[[], float]) -> None:
        self._interval = interval
        self._jitter = jitter
        self._draw = draw
        self._turn = 0.0  # without its delay
        self._failures = 0
        self.due = 0.0

    def begin(self, now: float, since_last: float | None) -> None:
        """Begin anew; `since_last` is how long ago the source was asked for its last answer, None if it never was."""
        self._failures = 0
        self._set(now if since_last is None else now + max(0.0, self._interval - max(0.0, since_last)))

    def succeeded(self, now: float) -> int:
        """Plan the turn after a complete one; return how many turns are missed."""
        self._failures = 0
        missed = max(0, math.ceil((now - self._turn) / self._interval) - 1)
        self._set(self._turn + (missed + 1) * self._interval)
        return missed

    def failed(self, now: float, demanded: float = 0.0) -> float:
        """Plan the turn after a failed one; return in how many seconds it is. `demanded` is what the source wants at least."""
        step = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** min(self._failures, _MOST_DOUBLINGS))
        self._failures += 1
        self._set(now + max(demanded, step * (1.0 - self._draw() / 2)))
        return self.due - now

    def _set(self, turn: float) -> None:
        self._turn = turn
        self.due = turn + self._jitter * self._draw()
