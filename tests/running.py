"""A service in a thread of the test's own process, and waiting for what it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from libs.common.process.health import Health
from libs.common.process.service import Service, Stop

WAIT_SECONDS = 90.0


@contextmanager
def running(service: Service) -> Iterator[Health]:
    """Run a service; raise what it raises."""
    stop, health, failures = Stop(), Health(), []

    def run() -> None:
        try:
            service.run(stop, health)
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield health
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()
    assert not failures, failures


def until(done: Callable[[], bool], what: str) -> None:
    """Wait for what must come."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
