"""librdkafka's log lines: one per minute is passed on to our log, and lines that cast doubt on a transaction are noticed."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

import structlog

from libs.common.kafka.client.throttle import Throttle

log = structlog.get_logger(__name__)

# "[thrd:TxnCoordinator]: 127.0.0.1:9092/bootstrap: "; what follows is the reason.
_ORIGIN = re.compile(r"^(?:\[thrd:[^\]]*\]:\s*)?(?:\S+/(?:bootstrap|\d+):\s*)?")
_NOISE = re.compile(r"\s*\(after \d+ms in state [A-Z_]+(?:, \d+ identical error\(s\) suppressed)?\)")


class ClientLog:
    """The `logger` of one client. The client calls `log` from its `poll`, `consume` and `flush`.

    While a broker is down, librdkafka logs several lines per second; one per minute is passed on, with the number of the
    others.
    """

    def __init__(self, client: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._throttle = Throttle(clock)
        self.last_problem = ""
        self.coordinator_timed_out = False

    def log(self, level: int, form: str, *parts: object) -> None:
        """Handle one line of the client: facility, client name, text."""
        del form  # always "%s [%s] %s"
        facility, text = str(parts[0]), str(parts[-1])
        if facility == "REQTMOUT" and "TxnCoordinator" in text:
            self.coordinator_timed_out = True
        if level < logging.WARNING:
            return
        self.last_problem = reason_in(text)
        self._tell()

    def _tell(self) -> None:
        if self._throttle.admits():
            swallowed = self._throttle.take_swallowed()
            log.warning("Kafka client", client=self._client, problem=self.last_problem, similar_lines=swallowed)


def reason_in(text: str) -> str:
    """Return the readable part of a client's log line or error text."""
    return _NOISE.sub("", _ORIGIN.sub("", text))
