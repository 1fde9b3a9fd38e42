"""Temporary errors: logged once a minute, not raised."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from confluent_kafka import KafkaError

from libs.common.kafka.client.failures import is_passing, translated
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
        self.say(doing, error.str())

    def say(self, doing: str, error: str) -> None:
        """Log that Kafka does not respond, unless that was logged recently."""
        if self._throttle.admits():
            log.warning("Kafka does not respond; retrying", doing=doing, error=error)
