"""Calls into the client that may never return.

`send_offsets_to_transaction` does not keep its timeout when the group coordinator goes away at the wrong moment (librdkafka
#5456, #5511): the process would hang until it is killed, deaf to signals. So such calls are made by a separate
thread; one that does not return is abandoned, together with its client, which must not be used again.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class CallHangs(Exception):
    """The call did not return, but may still take effect."""


_Answers = queue.SimpleQueue[BaseException | None]
_Job = tuple[Callable[[], object], _Answers]


class BoundedCalls:
    """Makes one call at a time; each may exceed its timeout by `grace` seconds. The first one starts the thread."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._jobs: queue.SimpleQueue[_Job | None] | None = None

    def run(self, call: Callable[[], object], seconds: float) -> None:
        """Make `call`, which should return within `seconds`; its exceptions propagate.

        Raises:
            CallHangs: it did not return.
        """
        if self._jobs is None:
            self._jobs = queue.SimpleQueue()
            threading.Thread(target=_serve, args=(self._jobs,), name="kafka-calls", daemon=True).start()
        answers: _Answers = queue.SimpleQueue()
        self._jobs.put((call, answers))
        try:
            raised = answers.get(timeout=seconds + self._grace)
        except queue.Empty:
            self.close()
            raise CallHangs from None
        if raised is not None:
            raise raised

    def close(self) -> None:
        """Let the thread end when its call returns. Idempotent; a later call starts another."""
        if self._jobs is not None:
            self._jobs.put(None)
            self._jobs = None


def _serve(jobs: queue.SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        call, answers = job
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            answers.put(error)
        else:
            answers.put(None)
        del job, call, answers  # holds no client while it waits
