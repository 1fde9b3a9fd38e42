"""Which blob is read next: one lane an account, round robin between lanes and within each, so that nobody waits for ever. Pure.

An account that fails is tried with one blob at a time; after three failures in a row it rests, longer each time. Several
accounts share the slots so that one that hangs leaves some to the others. What an account refuses is no failure of it: only
that blob waits.
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
REFUSALS_EVERY_SECONDS: Final = 60.0  # are they told


class Answering(StrEnum):
    """Whether an account answers."""

    YES = "yes"
    AGAIN = "again"  # for the first time after a rest
    DOUBTFUL = "doubtful"  # a few failures
    NO = "no"  # it rests
    REFUSES = "refuses"  # one blob; for the first time in a while


@dataclass(slots=True)
class _Lane:
    queue: deque[bytes] = field(default_factory=deque)
    later: list[tuple[float, bytes]] = field(default_factory=list)  # heap of (due, key)
    running: int = 0
    failures: int = 0  # in a row
    rests_until: float = 0.0
    quiet_until: float = 0.0  # refusals are not told again
    refuses: bool = False  # the last blob

    def wake(self, now: float) -> None:
        while self.later and self.later[0][0] <= now:
            self.queue.append(heappop(self.later)[1])


class Lanes:
    """Queues of keys. Every key that was taken must be given back with `succeeded`, `failed` or `release`, once."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._lanes: dict[str, _Lane] = {}
        self._turns: deque[str] = deque()

    def put(self, account: str, key: bytes) -> None:
        """Append `key`."""
        self._lane(account).queue.append(key)

    def put_later(self, account: str, key: bytes, due: float) -> None:
        """Append `key` when the time `due` has come."""
        heappush(self._lane(account).later, (due, key))

    def take(self, now: float, admits: Callable[[str], bool] = lambda _: True) -> bytes | None:
        """Return the next key that may be worked on now, of an account that `admits` lets begin another."""
        if sum(lane.running for lane in self._lanes.values()) >= 2 * self._concurrency:
            return None
        for _ in range(len(self._turns)):
            self._turns.rotate(-1)
            lane = self._lanes[self._turns[-1]]
            lane.wake(now)
            ready = lane.queue and lane.rests_until <= now and lane.running < self._share(lane)
            if ready and admits(self._turns[-1]):
                lane.running += 1
                return lane.queue.popleft()
        return None

    def succeeded(self, account: str) -> Answering:
        """Give back a key of `account` for which storage answered."""
        rested = self.resting(account)
        lane = self._lane(account)
        lane.running -= 1
        lane.failures = 0
        lane.rests_until = 0.0
        lane.refuses = False
        return Answering.AGAIN if rested else Answering.YES

    def refused(self, account: str, now: float) -> Answering:
        """Give back a key of `account` for which storage answered that it will not."""
        self.succeeded(account)
        lane = self._lane(account)
        lane.refuses = True
        if now < lane.quiet_until:
            return Answering.YES
        lane.quiet_until = now + REFUSALS_EVERY_SECONDS
        return Answering.REFUSES

    def release(self, account: str) -> None:
        """Give back a key of `account` that nothing was done with."""
        self._lane(account).running -= 1

    def failed(self, account: str, now: float, after: float) -> float:
        """Give back a key of `account` that storage did not answer for; return the seconds after which to try it again."""
        lane = self._lane(account)
        lane.running -= 1
        lane.failures += 1
        seconds = max(after, min(LONGEST_REST_SECONDS, 2.0 ** min(lane.failures, 6)))
        if lane.failures >= FAILURES_BEFORE_REST:
            lane.rests_until = now + seconds
        return seconds

    def forget(self, keys: AbstractSet[bytes]) -> None:
        """Drop keys that wait."""
        for lane in self._lanes.values():
            lane.queue = deque(key for key in lane.queue if key not in keys)
            lane.later = [entry for entry in lane.later if entry[1] not in keys]
            heapify(lane.later)

    def waiting(self, account: str) -> int:
        """Return how many keys of the account wait for a time to come."""
        return len(self._lane(account).later)

    def doubtful(self, account: str) -> bool:
        """Tell whether the account did not answer the last time."""
        return self._lane(account).failures > 0

    def resting(self, account: str) -> bool:
        """Tell whether the account has failed so often that nothing is expected of it."""
        return self._lane(account).failures >= FAILURES_BEFORE_REST

    def gives_nothing(self, account: str) -> bool:
        """Tell whether there is nothing to try: the account rests, or it refused the last blob and all others wait."""
        lane = self._lane(account)
        return self.resting(account) or (lane.refuses and not lane.queue)

    def _share(self, lane: _Lane) -> int:
        if lane.failures:
            return 1
        busy = sum(1 for other in self._lanes.values() if other.queue or other.running)
        # Twice the threads keeps them busy while the main thread commits; with others around, leave them some threads.
        return 2 * self._concurrency if busy <= 1 else max(1, self._concurrency * 3 // 4)

    def _lane(self, account: str) -> _Lane:
        lane = self._lanes.get(account)
        if lane is None:
            lane = self._lanes[account] = _Lane()
            self._turns.append(account)
        return lane
