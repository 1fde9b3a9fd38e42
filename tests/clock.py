"""A clock for whatever takes one as an argument."""

from __future__ import annotations


class Clock:
    """A clock that stands still until `now` is changed."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time."""
        return self.now
