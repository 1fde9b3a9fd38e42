"""Collect records into batches, bounded by time, count and bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from libs.common.kafka.records import Inbound, TopicPartition

# The client waits for the whole slice unless the count is reached, and handles no signals meanwhile.
SLICE_SECONDS: Final = 0.2
# Assumed size of the first record: if it is too low, one slice brings many times what a batch may hold.
_FIRST_GUESS: Final = 2_097_152.0


@dataclass(frozen=True, slots=True)
class PollPolicy:
    """A batch is complete as soon as it reaches one of these limits. `seconds` count from its first record."""

    seconds: float
    messages: int
    bytes: int


class Collector:
    """Collects batches from `poll`, which is called with (records, seconds)."""

    def __init__(
        self,
        poll: Callable[[int, float], list[Inbound]],
        policy: PollPolicy,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._poll = poll
        self._policy = policy
        self._clock = clock
        self._held: list[Inbound] = []
        self._bytes = 0
        self._since = 0.0
        # Mean size of a record so far: bounds what one slice can bring.
        self._mean = _FIRST_GUESS

    def step(self) -> list[Inbound]:
        """Poll one slice; return the batch if it is complete, otherwise nothing. Blocks for at most `SLICE_SECONDS`."""
        waited = self._clock() - self._since if self._held else 0.0
        seconds = max(0.0, min(SLICE_SECONDS, self._policy.seconds - waited))
        self.add(self._poll(self._room(), seconds))
        return self.take() if self._complete() else []

    def add(self, records: list[Inbound]) -> None:
        """Hold `records` for the next batch."""
        if not records:
            return
        if not self._held:
            self._since = self._clock()
        size = sum(len(record.value or b"") for record in records)
        self._held += records
        self._bytes += size
        mean = size / len(records)
        self._mean = max(1.0, mean, 0.5 * (self._mean + mean))  # rises at once, falls gradually

    def take(self) -> list[Inbound]:
        """Return and clear what is held."""
        batch, self._held, self._bytes = self._held, [], 0
        return batch

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Drop records of `partitions`: they are delivered again, here or elsewhere."""
        self._held = [record for record in self._held if record.source not in partitions]
        self._bytes = sum(len(record.value or b"") for record in self._held)

    def _room(self) -> int:
        by_bytes = int((self._policy.bytes - self._bytes) / self._mean)
        return max(1, min(self._policy.messages - len(self._held), by_bytes))

    def _complete(self) -> bool:
        return bool(self._held) and (
            len(self._held) >= self._policy.messages
            or self._bytes >= self._policy.bytes
            or self._clock() - self._since >= self._policy.seconds
        )
