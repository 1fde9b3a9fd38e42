"""The limit on dead letters: when too much looks bad, stop instead of draining a topic into the errors topic."""

from __future__ import annotations

from collections import deque
from typing import Final

from libs.common.errors import DeadLetterLimit

WINDOW_RECORDS: Final = 10_000
SMALLEST_SAMPLE: Final = 100
CONSECUTIVE: Final = 1_000


class RejectionLimit:
    """Judges the share of rejected records over the last `WINDOW_RECORDS`, and a run of batches without any success."""

    def __init__(self, share: float, consecutive: int = CONSECUTIVE) -> None:
        self._share = share
        self._consecutive = consecutive
        self._window: deque[tuple[int, int]] = deque()
        self._total = 0
        self._rejected = 0
        self._run = 0

    def check(self, total: int, rejected: int) -> None:
        """Count a batch of `total` records, `rejected` of them bad; call it before anything is committed.

        Raises:
            DeadLetterLimit: too many.
        """
        total = max(total, rejected)
        self._add(total, rejected)
        self._run = self._run + rejected if rejected == total else 0
        if self._run >= self._consecutive:
            raise DeadLetterLimit(f"{self._run} records in a row were rejected; nothing of the last batch was committed")
        if self._total >= SMALLEST_SAMPLE and self._rejected > self._share * self._total:
            raise DeadLetterLimit(
                f"{self._rejected} of the last {self._total} records were rejected, more than the share {self._share:g} that "
                "dead_letter_limit allows; nothing of the last batch was committed"
            )

    def _add(self, total: int, rejected: int) -> None:
        self._window.append((total, rejected))
        self._total += total
        self._rejected += rejected
        while self._total - self._window[0][0] >= WINDOW_RECORDS:
            old_total, old_rejected = self._window.popleft()
            self._total -= old_total
            self._rejected -= old_rejected
