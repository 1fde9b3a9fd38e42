"""Writes requests to Kafka for the API, in a thread of its own: several at once, each acknowledged before it is answered."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, Protocol

from libs.common.errors import BlobtideError, Retry
from libs.common.kafka.publisher import RefusedRecord
from libs.common.kafka.records import Outbound

MOST_WAITING: Final = 200
_SLICE_SECONDS: Final = 0.2


class RecordPublisher(Protocol):
    """See `libs.common.kafka.publisher.Publisher`."""

    def publish(self, records: Sequence[Outbound], between: Callable[[], None]) -> list[RefusedRecord]:
        """Write records; return the refused ones once all others are acknowledged. Raises `Retry` and `BlobtideError`."""

    def close(self) -> None:
        """Disconnect."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    record: Outbound
    written: Future[None]


class RequestWriter:
    """Writes requests. `broken` is why the thread has ended by itself, if it has."""

    def __init__(self, publisher: RecordPublisher) -> None:
        self._publisher = publisher
        self._waiting: queue.Queue[_Waiting] = queue.Queue(MOST_WAITING)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="api-writer", daemon=True)
        self.broken: Exception | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end; what waits is not written."""
        self._stop.set()

    def write(self, record: Outbound) -> Future[None]:
        """Return when `record` is acknowledged, in the end.

        The future, or this itself, raises `Retry` if it was not written, or too many wait; `BlobtideError` if Kafka refuses it.
        """
        waiting = _Waiting(record, Future())
        try:
            self._waiting.put_nowait(waiting)
        except queue.Full:
            raise Retry("too many requests at once", kind="busy") from None
        return waiting.written

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._round()
        except Exception as error:  # noqa: BLE001 - the top of a thread; raised again in the main thread
            self.broken = error
        finally:
            self._publisher.close()

    def _round(self) -> None:
        try:
            batch = [self._waiting.get(timeout=_SLICE_SECONDS)]
        except queue.Empty:
            return
        while not self._waiting.empty():
            batch.append(self._waiting.get_nowait())
        batch = [one for one in batch if one.written.set_running_or_notify_cancel()]
        try:
            refused = self._publisher.publish([one.record for one in batch], self._go_on)
        except BlobtideError as error:
            for one in batch:
                one.written.set_exception(error)
            return
        reasons = {one.index: one.reason for one in refused}
        for index, one in enumerate(batch):
            if index in reasons:
                one.written.set_exception(BlobtideError(reasons[index]))
            else:
                one.written.set_result(None)

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Retry("the collector is told to stop")
