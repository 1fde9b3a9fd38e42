"""Waiting for the world without leaving the group: what `Retry` means to a loop.

The partitions pause, and the process keeps polling and beating, so that it does not lose them, however long it takes. It is not
ready, and says why. After the wait the same work is tried again. A stop ends a wait at once. Records of partitions that are
revoked meanwhile are dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

import structlog
from prometheus_client import Counter

from libs.common.errors import Retry
from libs.common.kafka.client.throttle import Throttle
from libs.common.kafka.loops.batching import Collector
from libs.common.kafka.records import Inbound, TopicPartition
from libs.common.process.health import Need
from libs.common.process.watch import Watch

log = structlog.get_logger(__name__)

WAITING_SLICE_SECONDS: Final = 0.2
# Half of the minimum of max_poll_interval_ms. Not at every beat, because a pause discards prefetched records.
_POLL_AT_LEAST_SECONDS: Final = 5.0

T = TypeVar("T")


class Pausable(Protocol):
    """A consumer that can wait: a `records.Session` or a `GroupConsumer`."""

    def poll(self, max_records: int, seconds: float) -> list[Inbound]:
        """Return what arrives; stay in the group."""

    def pause(self) -> None:
        """Deliver nothing."""

    def resume(self) -> None:
        """Deliver again."""


@dataclass(slots=True)
class Held:
    """Records that were delivered but not committed: the batch being processed, and those collected for the next one."""

    batch: list[Inbound] = field(default_factory=list)
    collector: Collector | None = None

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Drop records of `partitions`: they are delivered again, here or elsewhere."""
        self.batch = [record for record in self.batch if record.source not in partitions]
        if self.collector is not None:
            self.collector.forget(partitions)


@dataclass(frozen=True, slots=True)
class Reason:
    """How waits are reported.

    Attributes:
        text: what is waiting, for the log and for readiness.
        need: what the process lacks meanwhile.
        retries: counts the waits.
    """

    text: str
    need: Need
    retries: Counter


class Waiting:
    """Repeats what raises `Retry`. Belongs to the thread of `source`."""

    def __init__(
        self, source: Pausable, collector: Collector, reason: Reason, watch: Watch, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source = source
        self._collector = collector
        self._reason = reason
        self._stop, self._health = watch.stop, watch.health
        self._clock = clock
        self._polled_at = clock()
        self._throttle = Throttle(clock)

    def until_done(self, action: Callable[[], T], wanted: Callable[[], object] = lambda: True) -> T | None:
        """Repeat `action` while it raises Retry; None if a stop came first, or it is not `wanted` any more.

        If it is wanted, it is tried at least once, so that work done before a stop is still committed.
        """
        while wanted():
            self._health.beat()
            self._polled_at = self._clock()
            try:
                done = action()
            except Retry as retry:
                self._wait(retry)
                if self._stop.is_set():
                    return None
            else:
                self._health.ready(self._reason.need)
                return done
        self._health.ready(self._reason.need)  # as far as is known
        return None

    def stay(self) -> None:
        """Show from inside a long action that the process is alive, and stay in the group."""
        self._health.beat()
        if self._clock() - self._polled_at >= _POLL_AT_LEAST_SECONDS:
            self._source.pause()
            self._poll(0.0)
            self._source.resume()
            self._polled_at = self._clock()

    def _wait(self, retry: Retry) -> None:
        self._reason.retries.inc()
        self._tell(retry)
        self._health.not_ready(f"{self._reason.text}: {retry}", self._reason.need)
        until = self._clock() + retry.after
        self._source.pause()
        while not self._stop.is_set():  # at least one poll, even if the work is retried at once
            self._health.beat()
            self._poll(min(WAITING_SLICE_SECONDS, max(0.0, until - self._clock())))
            if self._clock() >= until:
                break
        self._source.resume()

    def _poll(self, seconds: float) -> None:
        """Stay in the group without taking more records; one that was already on its way is kept for the next batch."""
        self._collector.add(self._source.poll(1, seconds))

    def _tell(self, retry: Retry) -> None:
        if self._throttle.admits():
            log.warning(
                self._reason.text,
                reason=str(retry),
                retry_seconds=retry.after,
                similar_lines=self._throttle.take_swallowed(),
            )
