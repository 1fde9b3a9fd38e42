"""Threads that run tasks. They are daemons: a hanging request must not keep the process from ending."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class Workers(Generic[Job, Result]):
    """Runs `work` on jobs in `count` threads and returns results, or exceptions, in the order they are ready."""

    def __init__(self, count: int, work: Callable[[Job], Result]) -> None:
        self._count = count
        self._work = work
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[Job, Result | BaseException]] = queue.SimpleQueue()
        self.running = 0  # submitted but not collected

    def start(self) -> None:
        """Start the threads."""
        for number in range(self._count):
            threading.Thread(target=self._loop, name=f"reader-{number}", daemon=True).start()

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self.running += 1
        self._jobs.put(job)

    def collect(self, seconds: float) -> list[tuple[Job, Result | BaseException]]:
        """Return finished jobs; wait up to `seconds` if there are none."""
        results = []
        try:
            results.append(self._done.get(timeout=seconds) if seconds > 0 else self._done.get_nowait())
            while True:
                results.append(self._done.get_nowait())
        except queue.Empty:
            pass
        self.running -= len(results)
        return results

    def stop(self) -> None:
        """Let the threads end once they are idle, without waiting for running jobs."""
        for _ in range(self._count):
            self._jobs.put(None)

    def _loop(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._done.put((job, self._result(job)))
            del job  # nothing is kept while the thread waits: results may be large

    def _result(self, job: Job) -> Result | BaseException:
        try:
            return self._work(job)
        except BaseException as error:  # noqa: BLE001 - passed to the main thread, which raises it
            return error
