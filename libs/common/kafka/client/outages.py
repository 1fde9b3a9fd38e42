"""Temporary errors: logged once a minute, not raised."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from confluent_kafka import KafkaError

from libs.common.kafka.client.failures import is_passing, outage, translated
from libs.common.kafka.client.throttle import Throttle

log = structlog.get_logger(__name__)


class Outages:
    """The errors of one client that indicate a broker outage."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._throttle = Throttle(clock)

    def tolerate(self, error: KafkaError, doing: str) -> None:
        """Log temporary errors once a minute; raise others."""
        if not is_passing(error):
            raise translated(error, doing)
        self.say(doing, error.str(), outage(error))

    def say(self, doing: str, error: str, what: str = "Kafka did not respond") -> None:
        """Log `what` the problem is, unless one was logged recently."""
        if self._throttle.admits():
            log.warning("Kafka cannot be used now; retrying", problem=what, doing=doing, error=error)
