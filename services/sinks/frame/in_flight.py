"""Do a few pieces of work at the same time, such as requests of one write, while the process keeps beating."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final, TypeVar

_BEAT_SECONDS: Final = 1.0

Work = TypeVar("Work")
Result = TypeVar("Result")


class InFlight:
    """A bounded number of threads. All calls come from one thread; only the work itself is done in others.

    Attributes:
        beat: called every second while waiting.
    """

    def __init__(self, most: int, name: str) -> None:
        """At `most` so many pieces of work at the same time, in threads of that name; none is started yet."""
        self._most = most
        self._name = name
        self._threads: ThreadPoolExecutor | None = None
        self.beat: Callable[[], None] = lambda: None

    def open(self) -> None:
        """Get ready."""
        self.close()
        self._threads = ThreadPoolExecutor(self._most, thread_name_prefix=self._name)

    def close(self) -> None:
        """Wait for the work in flight; idempotent."""
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None

    def results(self, works: Iterable[Work], do: Callable[[Work], Result]) -> Iterator[tuple[Work, Result]]:
        """Yield each piece of work with its result, in order. If one raises, wait for the others in flight, and raise.

        `do` must end by itself: every request has a time limit.
        """
        if self._threads is None:
            raise RuntimeError("write before open")
        waiting: deque[tuple[Work, Future[Result]]] = deque()
        try:
            for work in works:
                waiting.append((work, self._threads.submit(do, work)))
                if len(waiting) >= self._most:
                    yield self._first(waiting)
            while waiting:
                yield self._first(waiting)
        finally:
            self._wait([future for _, future in waiting])

    def _first(self, waiting: deque[tuple[Work, Future[Result]]]) -> tuple[Work, Result]:
        work, future = waiting.popleft()
        self._wait([future])
        return work, future.result()

    def _wait(self, futures: list[Future[Result]]) -> None:
        self.beat()
        while wait(futures, _BEAT_SECONDS).not_done:
            self.beat()
