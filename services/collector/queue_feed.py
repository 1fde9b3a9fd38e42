"""Requests from a queue of Azure Storage: a thread receives messages, the main loop writes them to `Collection.Requests`.

A message is deleted once what became of it is committed: the same request, or a dead letter. Until then it is hidden, and comes
again if that takes too long or the process dies; a request that is then written twice does nothing the second time, because its
id is known. There are never more than one receive's worth of messages in memory.
"""

from __future__ import annotations

import base64
import binascii
import queue
import threading
from dataclasses import dataclass
from typing import Final

import structlog

from libs.common.azure.storage.api import MessageGone, Queue, QueueMessage, StorageError, StorageUnavailable
from libs.common.kafka.client.throttle import Throttle
from libs.common.kafka.records import Outbound
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.settings.collector import RequestQueue
from libs.common.settings.kafka import TopicSettings
from services.collector import metrics
from services.collector.intake import STAGE
from services.collector.requests.schema import RequestRefused, read_request

log = structlog.get_logger(__name__)

MOST_MESSAGES: Final = 32  # per request
_PAUSE_SECONDS: Final = 5.0
_SLICE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Where messages come from, and where they go."""

    queue: Queue
    settings: RequestQueue
    topics: TopicSettings


class QueueFeed:
    """Feeds the main loop from one queue. Only `run` belongs to the thread."""

    def __init__(self, place: QueuePlace) -> None:
        self._place = place
        self._arrived: queue.SimpleQueue[list[QueueMessage]] = queue.SimpleQueue()
        self._settled: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._failing = Throttle()
        self.awaits_commit = False  # whether messages were handed over and not settled

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self.run, name="queue", daemon=True).start()

    def take(self) -> list[Outbound]:
        """Return what must be written because of the messages that have arrived; call `settle` when that has been tried."""
        try:
            messages = self._arrived.get_nowait()
        except queue.Empty:
            return []
        self.awaits_commit = True
        return [self._record(message) for message in messages]

    def settle(self, *, committed: bool) -> None:
        """Say whether what was taken is written; if it is not, the messages come again."""
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
                self._round()
        finally:
            self._place.queue.close()

    def _round(self) -> None:
        try:
            messages = self._place.queue.receive(MOST_MESSAGES, self._place.settings.visibility_seconds)
        except StorageError as error:
            self._tell(error)
            return
        if not messages:
            self._stop.wait(self._place.settings.poll_seconds)
            return
        self._arrived.put(messages)
        if self._is_committed():
            self._delete(messages)

    def _is_committed(self) -> bool:
        while True:
            try:
                return self._settled.get(timeout=_SLICE_SECONDS)
            except queue.Empty:
                if self._stop.is_set():
                    return False

    def _delete(self, messages: list[QueueMessage]) -> None:
        for message in messages:
            try:
                self._place.queue.delete(message.receipt)
                metrics.MESSAGES.labels("deleted").inc()
            except MessageGone:  # it was visible again too soon, and comes again with a request that is known
                metrics.MESSAGES.labels("late").inc()
            except StorageError as error:
                metrics.MESSAGES.labels("late").inc()
                self._tell(error)

    def _tell(self, error: StorageError) -> None:
        if self._failing.admits():
            log.warning("the queue of requests cannot be used now", queue=self._place.settings.queue, error=str(error))
        after = error.after if isinstance(error, StorageUnavailable) else _PAUSE_SECONDS
        self._stop.wait(after)

    def _record(self, message: QueueMessage) -> Outbound:
        data = _content(message.text)
        if message.deliveries > self._place.settings.max_deliveries:
            reason = f"received {message.deliveries} times, but never handled"
            return self._letter(message, data, ErrorCode.UNHANDLED, reason)
        try:
            request = read_request(data)
        except RequestRefused as error:
            code = ErrorCode.BAD_JSON if str(error).startswith("not JSON") else ErrorCode.BAD_RECORD
            return self._letter(message, data, code, str(error))
        return Outbound(self._place.topics.collection_requests, data, request.message_id.encode())

    def _letter(self, message: QueueMessage, data: bytes, code: ErrorCode, reason: str) -> Outbound:
        source = {"queue": self._place.settings.queue, "message": message.receipt.message}
        letter = DeadLetter(STAGE, code, reason, data, source=source)
        metrics.DEAD_LETTERS.labels(code).inc()
        return Outbound(self._place.topics.errors, letter.data, letter.key, letter.headers())


def _content(text: str) -> bytes:
    """Return the content of a message, which some clients write as base64."""
    data = text.encode("utf-8", "surrogatepass")
    if data.lstrip()[:1] == b"{":
        return data
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return data
