"""The frame of a service process: signals, a heartbeat, ``/metrics``, ``/livez`` and ``/readyz``, and one way to end.

`run_service` turns every outcome into an exit code and one log line. SIGTERM ends the main loop after its current step, and the
process in any case within ten seconds.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Protocol

import structlog

from libs.common.errors import BlobtideError, ConfigError
from libs.common.process.health import Health, HealthServer
from libs.common.process.logs import configure_logging
from libs.common.process.memory import collect_cycles_seldom
from libs.common.process.signals import stop_on_signals
from libs.common.settings import Settings

log = structlog.get_logger(__name__)


class Stop:
    """A flag set once, by a signal or a test; loops check it, and waits end early."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Request the stop."""
        self._event.set()

    def is_set(self) -> bool:
        """Return whether a stop was requested."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds`; return whether a stop was requested."""
        return self._event.wait(seconds)


class Service(Protocol):
    """The main loop of a process. Built with its parts; nothing happens before `run`."""

    def run(self, stop: Stop, health: Health) -> None:
        """Work until `stop` is set, then finish or abort open work and return."""


def run_service(name: str, settings: Settings, build: Callable[[Settings], Service]) -> int:
    """Run one service in the foreground and return the process's exit code."""
    configure_logging(settings.log, service=name)
    for said in settings.notes:
        log.warning(said)
    stop, health = Stop(), Health()

    def end() -> None:
        health.drain()
        stop.set()

    stop_on_signals(end)
    try:
        with_http = HealthServer(settings.http, health)
        with_http.start()
    except OSError as error:
        log.error(  # noqa: TRY400 - says all there is to say
            "cannot listen for probes; give each process on this machine its own port: http.port, BLOBTIDE_HTTP__PORT",
            host=settings.http.host,
            port=settings.http.port,
            error=error.strerror,
        )
        return ConfigError.exit_code
    try:
        service = build(settings)
        log.info("started", service=name, pid=os.getpid(), health_port=with_http.port)
        collect_cycles_seldom()
        service.run(stop, health)
        log.info("stopped", service=name)
    except BlobtideError as error:
        log.error(str(error), error_type=type(error).__name__)  # noqa: TRY400 - says all there is to say
        return error.exit_code
    finally:
        with_http.stop()
    return 0
