"""Finds requests in Kafka, whoever works on them, in a thread of its own.

The thread follows `Collection.State`, and `Collection.Requests` from where the collectors have come to, and remembers only
where records are. A question is answered after a look at what was written until then: what a client was told to be accepted
is found, also by another collector. Whoever asks waits; nobody else does.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import structlog

from libs.common.errors import BlobtideError, Retry, ServerUnreachable
from libs.common.kafka.client.throttle import Throttle
from libs.common.kafka.records import Inbound
from services.collector.api.answers import CollectionProgress, progressed, waiting
from services.collector.api.places import REQUEST, STATE, RequestPlace, RequestPlaces
from services.collector.progress import decode_progress

log = structlog.get_logger(__name__)

T = TypeVar("T")

MOST_QUESTIONS: Final = 200  # at once
_FOLLOW_SECONDS: Final = 2.0  # without questions
_LEAST_SECONDS: Final = 0.1  # between two looks
_LOOK_SECONDS: Final = 1.0  # into a topic; an open transaction holds it up
_HELD_SECONDS: Final = 4.0  # for which a question waits until everything is read
_COUNT_SECONDS: Final = 60.0
_PATIENCE_SECONDS: Final = 5.0
_READ_SECONDS: Final = 3.0
_FORGET_SECONDS: Final = 3_600.0


class FollowedTopic(Protocol):
    """Followed partitions of a topic; see `libs.common.kafka.readers.compacted.CompactedTable`."""

    def open_at(self, starts: dict[int, int]) -> None:
        """Start at these offsets."""

    def catch_up(self, timeout: float, between: Callable[[], None]) -> None:
        """Apply everything up to the current end; exceptions of `between` propagate."""

    def beginnings(self) -> dict[int, int]:
        """Return the first offset that each partition still has."""

    def close(self) -> None:
        """Disconnect."""


class RecordReader(Protocol):
    """Reads single records; see `libs.common.kafka.readers.lookup.Lookup`."""

    def read(self, partition: int, offset: int, seconds: float) -> Inbound | None:
        """Return the record at `offset`; None if it no longer exists."""

    def close(self) -> None:
        """Disconnect."""


@dataclass(frozen=True, slots=True)
class DirectoryParts:
    """What a directory reads.

    Attributes:
        requests, state: make the followed topics, which pass each record to what they are given.
        partitions: asks how many the topics have.
        starts: asks how far the collectors have come in partitions of the topic of requests.
        readers: by kind of place.
    """

    requests: Callable[[Callable[[Inbound], None]], FollowedTopic]
    state: Callable[[Callable[[Inbound], None]], FollowedTopic]
    partitions: Callable[[], int]
    starts: Callable[[Collection[int]], dict[int, int]]
    readers: dict[int, RecordReader]
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class _Question(Generic[T]):
    key: bytes
    find: Callable[[bytes], T]
    until: float
    answer: Future[T]

    def settle(self, now: float) -> bool:
        """Find the answer; return whether that is over, or to be tried again after the next look."""
        try:
            found = self.find(self.key)
        except _NotYet as error:
            if now < self.until:
                return False
            self.fail(str(error))
        except BlobtideError as error:
            self.fail(str(error))
        else:
            if self.answer.set_running_or_notify_cancel():
                self.answer.set_result(found)
        return True

    def fail(self, reason: str) -> None:
        """Answer that it cannot be told now."""
        if self.answer.set_running_or_notify_cancel():
            self.answer.set_exception(Retry(reason))


class _NotYet(BlobtideError):
    """Not everything has been read that could tell."""


class _Enough(Exception):
    """The look has taken long enough, or the thread is to end."""


class RequestDirectory:
    """Answers questions about requests. `broken` is why the thread has ended by itself, if it has."""

    def __init__(self, parts: DirectoryParts) -> None:
        self._parts = parts
        self._places = RequestPlaces()
        self._requests = parts.requests(self._places.note_request)
        self._state = parts.state(self._places.note_state)
        self._questions: queue.Queue[_Question[Any]] = queue.Queue(MOST_QUESTIONS)
        self._held: list[_Question[Any]] = []
        self._stop = threading.Event()
        self._failing = Throttle(parts.clock)
        self._partitions = 0  # that are followed
        self._is_current = self._has_more = False
        self._until = self._forget_at = self._count_at = 0.0
        self.broken: Exception | None = None

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="api-progress", daemon=True).start()

    def stop(self) -> None:
        """Let the thread end."""
        self._stop.set()

    def progress(self, message_id: str) -> Future[CollectionProgress | None]:
        """Return how far a request has come, in the end: None if there is none.

        The future, or this itself, raises `Retry` if Kafka does not tell, or too many ask.
        """
        return self._ask(message_id, self._progress)

    def knows(self, message_id: str) -> Future[bool]:
        """Return whether there is such a request, in the end. Raises as `progress`."""
        return self._ask(message_id, lambda key: self._place(key) is not None)

    def _ask(self, message_id: str, find: Callable[[bytes], T]) -> Future[T]:
        answer: Future[T] = Future()
        question = _Question(message_id.encode(), find, self._parts.clock() + _HELD_SECONDS, answer)
        try:
            self._questions.put_nowait(question)
        except queue.Full:
            raise Retry("too many questions at once", kind="busy") from None
        return answer

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._round([*self._held, *self._asked()])
                self._stop.wait(_LEAST_SECONDS)
        except Exception as error:  # noqa: BLE001 - the top of a thread; raised again in the main thread
            self.broken = error
        finally:
            self._close()

    def _asked(self) -> list[_Question[Any]]:
        """Wait for questions, but not for long; return all that are there."""
        try:
            found = [self._questions.get(timeout=_LEAST_SECONDS if self._has_more else _FOLLOW_SECONDS)]
        except queue.Empty:
            return []
        while not self._questions.empty():
            found.append(self._questions.get_nowait())
        return found

    def _round(self, questions: list[_Question[Any]]) -> None:
        try:
            self._look()
        except ServerUnreachable as error:
            if self._failing.admits():
                log.warning("the API cannot tell how far requests have come", error=str(error))
            self._close()
            self._has_more, self._held = False, []
            for question in questions:
                question.fail(str(error))
        else:
            self._has_more, now = not self._is_current, self._parts.clock()
            self._held = [question for question in questions if not question.settle(now)]

    def _look(self) -> None:
        """Read what was written until now. Raises `ServerUnreachable`."""
        self._is_current = False
        now = self._parts.clock()
        if self._partitions and now >= self._count_at:
            self._count_at = now + _COUNT_SECONDS
            if self._parts.partitions() != self._partitions:
                self._close()
        if not self._partitions:
            self._open()
        read_out = [self._caught_up(topic) for topic in (self._state, self._requests)]
        self._is_current = all(read_out)
        if self._is_current and now >= self._forget_at:
            self._forget_at = now + _FORGET_SECONDS
            self._places.forget_before(REQUEST, self._requests.beginnings())
            self._places.forget_before(STATE, self._state.beginnings())

    def _open(self) -> None:
        partitions = self._parts.partitions()
        self._requests.open_at(self._parts.starts(range(partitions)))
        self._state.open_at(dict.fromkeys(range(partitions), 0))
        self._partitions = partitions

    def _caught_up(self, topic: FollowedTopic) -> bool:
        """Read what a topic has; return whether that is all, since an open transaction hides what comes after it."""
        self._until = self._parts.clock() + _LOOK_SECONDS
        try:
            topic.catch_up(_PATIENCE_SECONDS, self._hurry)
        except _Enough:
            return False
        return True

    def _hurry(self) -> None:
        if self._stop.is_set() or self._parts.clock() >= self._until:
            raise _Enough

    def _place(self, key: bytes) -> RequestPlace | None:
        place = self._places.get(key)
        if place is None and not self._is_current:
            raise _NotYet("not everything about requests can be read yet")
        return place

    def _progress(self, key: bytes) -> CollectionProgress | None:
        """Return how far a request has come; None if there is none. Raises `BlobtideError`."""
        place = self._place(key)
        if place is None:
            return None
        record = self._parts.readers[place.kind].read(place.partition, place.offset, _READ_SECONDS)
        if record is None:
            self._look()
            newer = self._places.get(key)
            if newer == place:  # it is as old as the topic keeps records
                self._places.forget(key)
            return None if newer == place else self._progress(key)
        if place.kind == REQUEST:
            return waiting(key.decode(), record)
        return progressed(key.decode(), decode_progress(record.value or b""), record.timestamp_ms)

    def _close(self) -> None:
        """Disconnect, and begin anew when the next look opens."""
        self._partitions = 0
        self._requests.close()
        self._state.close()
        for reader in self._parts.readers.values():
            reader.close()
