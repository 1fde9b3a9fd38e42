"""Requests from a queue of Azure Storage: a thread receives messages, the main loop writes what becomes of them to Kafka.

A message is deleted once that is committed: the same request in `Collection.Requests`, or a dead letter, of which the poison
queue gets a copy. Until then it is kept hidden from other collectors. If the process dies, it comes again, and a request that
is then written twice does nothing the second time, because its id is known. There are never more messages in memory than one
receive brings, and none is received before there is room for them.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from libs.common.azure.storage.api import MessageGone, StorageError, StorageRefused, StorageUnavailable, WorkQueue
from libs.common.kafka.client.throttle import Throttle
from libs.common.kafka.records import Outbound
from libs.common.process.crash import crash_point
from libs.common.settings.collector import RequestQueue
from libs.common.settings.kafka import TopicSettings
from services.collector import metrics
from services.collector.queue_messages import HeldMessage, MessageReading

log = structlog.get_logger(__name__)

MOST_MESSAGES: Final = 32  # per request
_PAUSE_SECONDS: Final = 5.0
_SLICE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Where messages come from, and where they go."""

    queue: WorkQueue
    poison: WorkQueue
    settings: RequestQueue
    topics: TopicSettings
    clock: Callable[[], float] = time.monotonic


class QueueFeed:
    """Feeds the main loop from one queue. Only `run` belongs to the thread. `trouble` says why the queue cannot be read."""

    def __init__(self, place: QueuePlace) -> None:
        self._place = place
        self._reading = MessageReading(place.settings, place.topics)
        self._wanted = threading.Event()
        self._arrived: queue.SimpleQueue[list[HeldMessage]] = queue.SimpleQueue()
        self._settled: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._failing, self._unpoisoned = Throttle(place.clock), Throttle(place.clock)
        self._broken: Exception | None = None
        self.awaits_commit = False  # whether messages were handed over and not settled
        self.trouble = ""

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self.run, name="queue", daemon=True).start()

    def take(self) -> list[Outbound]:
        """Return what must be written because of the messages that have arrived, for which there must be room.

        Call `settle` when that has been tried.
        """
        if self._broken is not None:
            raise self._broken
        if not self.awaits_commit:
            self._wanted.set()
        try:
            held = self._arrived.get_nowait()
        except queue.Empty:
            return []
        self.awaits_commit = True
        return [one.record for one in held]

    def settle(self, *, committed: bool) -> None:
        """Say whether what was taken is written; if it is not, it arrives again."""
        if self.awaits_commit:
            self.awaits_commit = False
            self._settled.put(committed)

    def stop(self) -> None:
        """Let the thread end, once what was settled is deleted."""
        self._stop.set()

    def run(self) -> None:
        """Receive, hand over, wait, delete; again and again."""
        try:
            while not self._stop.is_set():
                if self._wanted.wait(_SLICE_SECONDS):
                    self._wanted.clear()
                    self._round()
        except Exception as error:  # noqa: BLE001 - the top of a thread; raised again in the main thread
            self._broken = error
        finally:
            self._place.queue.close()
            self._place.poison.close()

    def _round(self) -> None:
        try:
            messages = self._place.queue.receive(MOST_MESSAGES, self._place.settings.visibility_seconds)
        except StorageError as error:
            self.trouble = f"the queue of requests cannot be read: {error}"
            self._tell(error)
            return
        self.trouble = ""
        if not messages:
            self._stop.wait(self._place.settings.poll_seconds)
            return
        written = self._written([self._reading.held(message) for message in messages])
        if written:
            crash_point("collector.queue-written")
        for held in written:
            self._remove(held)

    def _written(self, held: list[HeldMessage]) -> list[HeldMessage]:
        """Return the messages, with their newest receipts, once all are committed; none if the process stops before."""
        self._arrived.put(held)
        extended = self._place.clock()
        while True:
            try:
                if self._settled.get(timeout=_SLICE_SECONDS):
                    return held
                self._arrived.put(held)  # the transaction was aborted
            except queue.Empty:
                if self._stop.is_set():
                    return []
            if self._place.clock() - extended >= self._place.settings.visibility_seconds / 2:
                extended = self._place.clock()
                held = self._extended(held)

    def _extended(self, held: list[HeldMessage]) -> list[HeldMessage]:
        """Keep the messages hidden for longer; those for which that fails come again."""
        hidden = []
        for one in held:
            try:
                receipt = self._place.queue.extend(one.message.receipt, self._place.settings.visibility_seconds)
            except MessageGone:
                hidden.append(one)
            except StorageError as error:
                self._tell(error)
                return hidden + held[len(hidden) :]
            else:
                hidden.append(replace(one, message=replace(one.message, receipt=receipt)))
        return hidden

    def _remove(self, held: HeldMessage) -> None:
        if held.code is not None:
            metrics.DEAD_LETTERS.labels(held.code).inc()
        try:
            if held.code is not None:
                self._poison(held)
            self._place.queue.delete(held.message.receipt)
        except MessageGone:  # it was visible again too soon, and comes again with a request that is known
            metrics.MESSAGES.labels("late").inc()
        except StorageError as error:
            metrics.MESSAGES.labels("late").inc()
            self._tell(error)
        else:
            metrics.MESSAGES.labels("deleted" if held.code is None else "poison").inc()

    def _poison(self, held: HeldMessage) -> None:
        """Copy a message to the poison queue, if that may be written: without it, `Errors` has the content all the same."""
        try:
            self._place.poison.put(held.message.text)
        except StorageRefused as error:
            if self._unpoisoned.admits():
                log.warning("a message that cannot be handled is only in Errors", error=str(error))

    def _tell(self, error: StorageError) -> None:
        if self._failing.admits():
            log.warning("the queue of requests cannot be used now", queue=self._place.settings.queue, error=str(error))
        after = error.after if isinstance(error, StorageUnavailable) else _PAUSE_SECONDS
        self._stop.wait(after)
