"""Choose the next blob: one queue per account, round robin between queues and within each, so that none starves. Pure.

An account that fails is tried with one blob at a time; after three failures in a row it rests, longer each time. Several
accounts share the slots in such a way that a hanging account leaves some to the others. A refusal is not a failure of the
account: only that blob waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import heapify, heappop, heappush
from typing import Final

FAILURES_BEFORE_REST: Final = 3
LONGEST_REST_SECONDS: Final = 60.0  # unless storage asks for more
REFUSALS_EVERY_SECONDS: Final = 60.0  # minimum interval between reports of refusals


class Answering(StrEnum):
    """Whether an account responds."""

    YES = "yes"
    AGAIN = "again"  # for the first time after a rest
    DOUBTFUL = "doubtful"  # a few failures
    NO = "no"  # it rests
    REFUSES = "refuses"  # one blob; for the first time in a while


@dataclass(slots=True)
class _AccountQueue:
    ready: deque[bytes] = field(default_factory=deque)
    later: list[tuple[float, bytes]] = field(default_factory=list)  # heap of (due, key)
    running: int = 0
    failures: int = 0  # in a row
    rests_until: float = 0.0
    quiet_until: float = 0.0  # refusals are not reported again before
    refuses: bool = False  # whether the last blob was refused

    def wake(self, now: float) -> None:
        while self.later and self.later[0][0] <= now:
            self.ready.append(heappop(self.later)[1])


class FairQueues:
    """Queues of keys. Every key taken must be returned exactly once, with `succeeded`, `refused`, `failed` or `release`."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._queues: dict[str, _AccountQueue] = {}
        self._turns: deque[str] = deque()

    def put(self, account: str, key: bytes) -> None:
        """Append `key`."""
        self._queue_of(account).ready.append(key)

    def put_first(self, account: str, key: bytes) -> None:
        """Insert `key` before all others of the account."""
        self._queue_of(account).ready.appendleft(key)

    def put_later(self, account: str, key: bytes, due: float) -> None:
        """Append `key` at the time `due`."""
        heappush(self._queue_of(account).later, (due, key))

    def take(self, now: float, admits: Callable[[str], bool] = lambda _: True) -> bytes | None:
        """Return the next key that may be worked on now, from an account that `admits` allows to start another."""
        if sum(queue.running for queue in self._queues.values()) >= 2 * self._concurrency:
            return None
        for _ in range(len(self._turns)):
            self._turns.rotate(-1)
            queue = self._queues[self._turns[-1]]
            queue.wake(now)
            ready = queue.ready and queue.rests_until <= now and queue.running < self._share(queue)
            if ready and admits(self._turns[-1]):
                queue.running += 1
                return queue.ready.popleft()
        return None

    def succeeded(self, account: str) -> Answering:
        """Return a key of `account` for which storage responded."""
        rested = self.resting(account)
        queue = self._queue_of(account)
        queue.running -= 1
        queue.failures = 0
        queue.rests_until = 0.0
        queue.refuses = False
        return Answering.AGAIN if rested else Answering.YES

    def refused(self, account: str, now: float) -> Answering:
        """Return a key of `account` that storage refused."""
        self.succeeded(account)
        queue = self._queue_of(account)
        queue.refuses = True
        if now < queue.quiet_until:
            return Answering.YES
        queue.quiet_until = now + REFUSALS_EVERY_SECONDS
        return Answering.REFUSES

    def release(self, account: str) -> None:
        """Return a key of `account` that was not used."""
        self._queue_of(account).running -= 1

    def failed(self, account: str, now: float, after: float) -> float:
        """Return a key of `account` for which storage did not respond; return the seconds until its next attempt."""
        queue = self._queue_of(account)
        queue.running -= 1
        queue.failures += 1
        seconds = max(after, min(LONGEST_REST_SECONDS, 2.0 ** min(queue.failures, 6)))
        if queue.failures >= FAILURES_BEFORE_REST:
            queue.rests_until = now + seconds
        return seconds

    def forget(self, keys: AbstractSet[bytes]) -> None:
        """Drop waiting keys."""
        for queue in self._queues.values():
            queue.ready = deque(key for key in queue.ready if key not in keys)
            queue.later = [entry for entry in queue.later if entry[1] not in keys]
            heapify(queue.later)

    def waiting(self, account: str) -> int:
        """Return the number of the account's keys that wait for a later time."""
        return len(self._queue_of(account).later)

    def doubtful(self, account: str) -> bool:
        """Return whether the account failed to respond last time."""
        return self._queue_of(account).failures > 0

    def resting(self, account: str) -> bool:
        """Return whether the account has failed so often that it is resting."""
        return self._queue_of(account).failures >= FAILURES_BEFORE_REST

    def gives_nothing(self, account: str) -> bool:
        """Return whether there is nothing to try: the account rests, or it refused the last blob and all others wait."""
        queue = self._queue_of(account)
        return self.resting(account) or (queue.refuses and not queue.ready)

    def _share(self, queue: _AccountQueue) -> int:
        if queue.failures:
            return 1
        busy = sum(1 for other in self._queues.values() if other.ready or other.running)
        # Twice the threads keeps them busy while the main thread commits; with other accounts, leave them some threads.
        return 2 * self._concurrency if busy <= 1 else max(1, self._concurrency * 3 // 4)

    def _queue_of(self, account: str) -> _AccountQueue:
        queue = self._queues.get(account)
        if queue is None:
            queue = self._queues[account] = _AccountQueue()
            self._turns.append(account)
        return queue
