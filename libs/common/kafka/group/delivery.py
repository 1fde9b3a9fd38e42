"""What the client hands over as records: each offset of a placed partition once and in order, whatever the client does."""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from confluent_kafka import KafkaError, Message

from libs.common.kafka.client import metrics
from libs.common.kafka.client.failures import is_end, is_out_of_range
from libs.common.kafka.client.inbound import inbound
from libs.common.kafka.client.outages import Outages
from libs.common.kafka.group.lag import Lag
from libs.common.kafka.group.placements import Phase, Placements
from libs.common.kafka.records import Inbound, TopicPartition

log = structlog.get_logger(__name__)


class DeliveryOrder:
    """Accepts messages of one client at a time; `must_rejoin` means that its positions can no longer be trusted."""

    def __init__(self, group: str, placements: Placements, lag: Lag, outages: Outages) -> None:
        self._group = group
        self._placements = placements
        self._lag = lag
        self._outages = outages
        self.must_rejoin = False

    def accepted(self, messages: Iterable[Message]) -> list[Inbound]:
        """Return the records of placed partitions. Hot path: the loop runs once per message; per-poll work belongs outside."""
        expected = self._placements.expected
        records = []
        for message in messages:
            error = message.error()
            if error is not None:
                self._judge(error, message)
                continue
            record = inbound(message)
            source = (record.topic, record.partition)
            if source not in expected:
                continue
            if record.offset < expected[source]:
                self._went_back(record, expected[source])
                continue
            expected[source] = record.offset + 1
            records.append(record)
        self._count(records)
        return records

    def _went_back(self, record: Inbound, expected: int) -> None:
        if not self.must_rejoin:
            log.warning(
                "the client went back to records already delivered; rejoining the group",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                expected=expected,
            )
        self.must_rejoin = True

    def _count(self, records: Iterable[Inbound]) -> None:
        sizes: dict[str, list[int]] = {}
        for record in records:
            sizes.setdefault(record.topic, []).append(len(record.value or b""))
        for topic, of_topic in sizes.items():
            metrics.RECORDS_READ.labels(topic).inc(len(of_topic))
            metrics.BYTES_READ.labels(topic).inc(sum(of_topic))

    def _judge(self, error: KafkaError, message: Message) -> None:
        partition = message.partition()
        source = TopicPartition(message.topic() or "", -1 if partition is None else partition)
        if is_end(error):
            if (position := self._placements.expected.get((source.topic, source.partition))) is not None:
                self._lag.read_out(source, position, message.offset() or 0)
        elif is_out_of_range(error):
            # Rejoining places it again, and `Starts` reports the gap.
            self.must_rejoin |= self._placements.is_in(source, Phase.READING)
        elif error.fatal():
            log.warning("the consumer failed; rejoining the group", error=error.str(), error_code=error.name())
            self.must_rejoin = True
        else:
            self._outages.tolerate(error, f"reading {source.topic or self._group}")
