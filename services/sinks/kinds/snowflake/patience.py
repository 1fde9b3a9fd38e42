"""Call a library that waits as long as it likes, and leave it when it takes too long.

The connector bounds retries, not requests: an upload to cloud storage may wait ten minutes for a response. Each call therefore
runs in a thread of its own, while the process beats. A call that has not returned in time goes on in its thread, which keeps
nobody from ending; whatever it belongs to must not be used any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import Final, TypeVar

_BEAT_SECONDS: Final = 1.0

Result = TypeVar("Result")


class GaveUp(Exception):
    """A call took too long."""


class Patience:
    """Waits for calls, one at a time.

    Attributes:
        beat: called at least every second while waiting.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.beat: Callable[[], None] = lambda: None

    def call(self, do: Callable[[], Result], seconds: float) -> Result:
        """Return what `do` returns, or raise what it raises.

        Raises:
            GaveUp: if it takes longer.
        """
        future = begin(do)
        until = self._clock() + seconds
        self.beat()
        while wait([future], min(_BEAT_SECONDS, max(0.0, until - self._clock()))).not_done:
            if self._clock() >= until:
                raise GaveUp(f"no response in {seconds:g} s")
            self.beat()
        return future.result()


def begin(do: Callable[[], Result]) -> Future[Result]:
    """Start a call in a thread that ends with the process."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(do())
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller gets it
            future.set_exception(error)

    Thread(target=run, name="snowflake", daemon=True).start()
    return future
