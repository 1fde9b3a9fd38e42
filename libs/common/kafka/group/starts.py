"""Where to start reading: at the committed offset, otherwise at the earliest record."""

from __future__ import annotations

from collections.abc import Collection

import structlog
from confluent_kafka import KafkaException
from confluent_kafka import TopicPartition as ClientPartition

from libs.common.kafka.client import metrics
from libs.common.kafka.client.failures import error_of, raise_for
from libs.common.kafka.client.outages import Outages
from libs.common.kafka.client.protocols import ConsumerClient
from libs.common.kafka.records import TopicPartition

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 2.0


class Starts:
    """Queries the offsets at which partitions of `group` start; waits for a response only once."""

    def __init__(self, group: str, outages: Outages) -> None:
        self._group = group
        self._outages = outages

    def find(
        self, client: ConsumerClient, partitions: Collection[TopicPartition]
    ) -> tuple[dict[TopicPartition, int], TopicPartition | None]:
        """Return the offsets that Kafka provides now, and the partition for which it does not."""
        starts: dict[TopicPartition, int] = {}
        asked = [ClientPartition(p.topic, p.partition) for p in partitions]
        try:
            answers = client.committed(asked, timeout=ANSWER_SECONDS)
        except KafkaException as exception:
            self._outages.tolerate(error_of(exception), "reading committed offsets")
            return starts, None
        for found in answers:
            partition = TopicPartition(found.topic, found.partition)
            try:
                raise_for(found)
                starts[partition] = self._start(client, found)
            except KafkaException as exception:
                self._outages.tolerate(error_of(exception), "reading committed offsets")
                return starts, partition
        return starts, None

    def _start(self, client: ConsumerClient, found: ClientPartition) -> int:
        low, high = client.get_watermark_offsets(found, timeout=ANSWER_SECONDS)
        if found.offset < 0:
            if low > 0:
                log.warning(
                    "no committed offset, and earlier records were deleted: this group is new, or was away for longer than the "
                    "broker retains offsets; starting at the earliest record",
                    group=self._group,
                    topic=found.topic,
                    partition=found.partition,
                    first=low,
                )
            return low
        if low <= found.offset <= high:
            return found.offset
        lost = max(0, low - found.offset)
        metrics.GAP_RECORDS.labels(found.topic).inc(lost)
        log.error(
            "the committed offset is outside the topic; continuing at the earliest record",
            topic=found.topic,
            partition=found.partition,
            committed=found.offset,
            first=low,
            end=high,
            lost_records=lost,
            reason="records were deleted before they were read" if lost else "the topic was recreated or truncated",
        )
        return low
