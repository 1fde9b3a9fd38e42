"""The limit on dead letters: when too much looks bad, stop instead of draining a topic into the errors topic."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

from libs.common.errors import DeadLetterLimit

WINDOW_RECORDS: Final = 10_000
SMALLEST_SAMPLE: Final = 100
SMALLEST_SAMPLE_OF_SINKS: Final = 20
"""Rows that reach a sink have been parsed: it refuses few of them or, if something is wrong with it, all."""
CONSECUTIVE: Final = 1_000

NOT_COMMITTED: Final = "nothing of the last batch was committed"
WAY_PAST: Final = (
    f"{NOT_COMMITTED}; to send all of them to the errors topic, set dead_letter_limit to 1 until they have passed, "
    "see docs/how-to/dead-letters.md"
)


@dataclass(frozen=True, slots=True)
class _Sums:
    """Totals after counting a batch."""

    total: int
    rejected: int
    run: int
    leaving: int  # number of oldest batches that then leave the window


class RejectionLimit:
    """Limits the share of rejected records over the last `WINDOW_RECORDS`, and runs of batches without any success.

    The share is judged from `smallest` records on, however small the batches are.
    Without `consecutive`, a share of 1 lets everything pass: the operator then wants it in the errors topic.
    """

    def __init__(self, share: float, consecutive: int | None = None, smallest: int = SMALLEST_SAMPLE) -> None:
        self._share = share
        self._smallest = smallest
        self._consecutive = consecutive or (CONSECUTIVE if share < 1 else math.inf)
        self._advice = NOT_COMMITTED if consecutive else WAY_PAST
        self._window: deque[tuple[int, int]] = deque()
        self._sums = _Sums(0, 0, 0, 0)

    def check(self, total: int, rejected: int) -> None:
        """Judge a batch and count it; call it before anything is committed.

        Raises:
            DeadLetterLimit: too many.
        """
        self.judge(total, rejected)
        self.count(total, rejected)

    def judge(self, total: int, rejected: int) -> None:
        """Judge a batch of `total` records, `rejected` of them bad, together with those counted before.

        Raises:
            DeadLetterLimit: too many.
        """
        sums = self._sums_with(total, rejected)
        if sums.run >= self._consecutive:
            raise DeadLetterLimit(f"{sums.run} records in a row were rejected; {self._advice}")
        if sums.total >= self._smallest and sums.rejected > self._share * sums.total:
            raise DeadLetterLimit(
                f"{sums.rejected} of the last {sums.total} records were rejected, more than the share of {self._share:g} "
                f"allowed by dead_letter_limit; {self._advice}"
            )

    def count(self, total: int, rejected: int) -> None:
        """Count a batch once, when it is committed."""
        self._sums = self._sums_with(total, rejected)
        self._window.append((max(total, rejected), rejected))
        for _ in range(self._sums.leaving):
            self._window.popleft()

    def _sums_with(self, total: int, rejected: int) -> _Sums:
        total = max(total, rejected)
        run = self._sums.run + rejected if rejected == total else 0
        total, rejected, leaving = self._sums.total + total, self._sums.rejected + rejected, 0
        for old_total, old_rejected in self._window:
            if total - old_total < WINDOW_RECORDS:
                break
            total, rejected, leaving = total - old_total, rejected - old_rejected, leaving + 1
        return _Sums(total, rejected, run, leaving)
