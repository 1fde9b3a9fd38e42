"""Writes what was read of a blob to its raw topic, and what could not be read to the errors topic; without a transaction."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from libs.common.errors import BlobtideError, Retry, ServerUnreachable
from libs.common.kafka.publisher import Publisher, PublisherSpec
from libs.common.kafka.records import Outbound
from libs.common.kafka.topics.topic_limits import TopicLimits

if TYPE_CHECKING:
    from libs.common.settings.kafka import KafkaSettings
    from services.ingest.work import Step

_MOST_TRIES: Final = 5


class RawWriter:
    """Writes steps. If Kafka fails meanwhile, some segments may be written twice; they have the same positions."""

    def __init__(self, kafka: KafkaSettings, raw: str, errors: str) -> None:
        self._raw, self._errors = raw, errors
        self.limits = TopicLimits(kafka, (raw, errors))
        self._publisher = Publisher(kafka, PublisherSpec("segments", (raw, errors)), self.limits)

    def open(self) -> None:
        """Check that the topics exist, and read their size limits. Raises ServerUnreachable, ConfigError."""
        self._publisher.open()

    def write(self, step: Step) -> None:
        """Write the segments and dead letters of a step; return when all are acknowledged.

        Raises:
            ServerUnreachable: Kafka does not acknowledge them.
            BlobtideError: Kafka refuses one.
        """
        records = list(self._records(step))
        for tries in range(1, _MOST_TRIES + 1):
            try:
                refused = self._publisher.publish(records)
            except Retry as error:
                if tries == _MOST_TRIES:
                    raise ServerUnreachable(str(error)) from error
                time.sleep(error.after)
                continue
            if refused:
                raise BlobtideError(f"not written to {records[refused[0].index].topic}: {refused[0].reason}")
            return

    def close(self) -> None:
        """Disconnect."""
        self._publisher.close()

    def _records(self, step: Step) -> Iterator[Outbound]:
        for segment in step.segments:
            yield Outbound(self._raw, segment.data, segment.blob.encode(), segment.headers())
        for letter in step.dead_letters:
            yield self.limits.fitted(Outbound(self._errors, letter.data, letter.key, letter.headers()))
