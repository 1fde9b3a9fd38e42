"""When to retry a request to Azure: jittered exponential waits, ``Retry-After`` honoured, one deadline for all attempts.

Waits end early when the client closes, so that a stopping process never sits in a back-off.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

# How long a caller pauses after all attempts failed, unless storage named a time itself.
_PAUSE_SECONDS = 5.0


class Transient(Exception):
    """An attempt failed, but a retry may succeed; `after` is the server's delay in seconds. Never leaves `Retrier.call`."""

    def __init__(self, reason: str, *, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long and how often to retry. All times in seconds."""

    deadline: float = 30.0  # latest beginning of an attempt, after the first one
    first_wait: float = 0.2
    longest_wait: float = 8.0

    def wait_after(self, failures: int, asked_for: float | None) -> float:
        """Return the wait after the given number of failures: a random half to all of the exponential step."""
        step = min(self.longest_wait, self.first_wait * 2.0 ** (failures - 1))
        return max(step * random.uniform(0.5, 1.0), asked_for or 0.0)  # noqa: S311 - spreads load, keeps no secret


@dataclass(frozen=True, slots=True)
class Retrier:
    """Call something until it succeeds, fails permanently, or the policy's deadline is near."""

    policy: RetryPolicy
    # Waits for the given seconds; returns True if the client is closing.
    wait: Callable[[float], bool]
    # Makes the error that is raised in the end, of the reason and, as `after`, the seconds until the caller may try again.
    exhausted: Callable[..., Exception]
    on_retry: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.monotonic

    def call(self, attempt: Callable[[], T]) -> T:
        """Return what `attempt` returns.

        Raises:
            Exception: the one that `exhausted` makes, if attempts kept failing with `Transient`; gives the last reason.
        """
        give_up_at = self.clock() + self.policy.deadline
        failures = 0
        while True:
            try:
                return attempt()
            except Transient as error:
                failures += 1
                wait = self.policy.wait_after(failures, error.after)
                tries = f"{failures} {'try' if failures == 1 else 'tries'}"
                if self.clock() + wait > give_up_at:
                    raise self.exhausted(f"{error} ({tries})", after=max(_PAUSE_SECONDS, error.after or 0.0)) from error
                if self.wait(wait):
                    raise self.exhausted(f"{error} (gave up after {tries}: closing)") from error
                self.on_retry()
