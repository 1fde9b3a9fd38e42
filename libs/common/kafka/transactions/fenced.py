"""Transactions whose id stands for a unit of work, so that only one process at a time does that work.

Whoever takes over the id ends the open transaction of its previous holder, which Kafka then fences: it can commit nothing more.
So the records that are committed after a take-over are complete until the new holder adds to them or is fenced itself. These
transactions contain no consumer offsets; progress is written as one of the records.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from confluent_kafka import Producer

from libs.common.errors import Retry, ServerUnreachable
from libs.common.kafka.client.client_log import ClientLog
from libs.common.kafka.client.configs import make_client, missing_topics, transactional_config
from libs.common.kafka.client.failures import OutputTooLarge
from libs.common.kafka.client.protocols import TransactionalClient
from libs.common.kafka.records import Outbound
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.kafka.transactions.producer import (
    ProducerState,
    Transaction,
    TransactionalProducer,
    TransactionEnd,
    TransactionTimes,
)
from libs.common.settings.kafka import KafkaSettings

_PREPARE_SECONDS: Final = 1.0
_TAKE_OVER_SECONDS: Final = 10.0
# Here, a take-over by another process is how work moves, not a mistake in the numbering of processes.
_TIMES: Final = TransactionTimes(fence_window=0.0)


class FencedWriter:
    """Holds one transactional id. Call `take_over` first, and again whenever it no longer `holds_id`."""

    def __init__(self, kafka: KafkaSettings, transactional_id: str, limits: TopicLimits) -> None:
        self._kafka = kafka
        self._id = transactional_id
        self._limits = limits
        self._producer = TransactionalProducer(transactional_id, self._make, _TIMES)

    @property
    def holds_id(self) -> bool:
        """Whether `write` is possible. Not after any failure, nor after a commit so slow that the client was dropped."""
        return self._producer.state is ProducerState.READY

    def take_over(self, between: Callable[[], None] = lambda: None) -> None:
        """Fence the current holder of the id; `between` is called about every second.

        Raises:
            Retry: Kafka's coordinator does not respond.
            BlobtideError: Kafka denies it.
        """
        deadline = time.monotonic() + _TAKE_OVER_SECONDS
        try:
            while not self._producer.prepare(_PREPARE_SECONDS):
                between()
                if time.monotonic() > deadline:
                    raise Retry(f"Kafka at {self._kafka.bootstrap_servers} opens no transactions")
        except ServerUnreachable as error:
            raise Retry(str(error)) from error

    def write(self, records: Sequence[Outbound]) -> None:
        """Write all `records` in one transaction; return when it is committed. Their `placed` is not called.

        Raises:
            Retry: it did not commit, or the outcome is unknown; another process may hold the id now. Also if a topic only
                accepts smaller records, as `TopicLimits.takes` then says.
            OutputRefused: records can never be written; it says which, as far as Kafka does.
            BlobtideError: Kafka denies it.
        """
        try:
            end = self._producer.commit(Transaction(records))
        except OutputTooLarge as error:
            self._limits.refused(error.topics)
            raise Retry(str(error), after=0.0, kind="too_large") from error
        if end is not TransactionEnd.COMMITTED:
            missing = missing_topics(self._kafka, {record.topic for record in records})
            raise Retry(missing or f"a transaction of {self._id} did not commit", kind="transaction")

    def close(self) -> None:
        """Drop the client. An open transaction is ended by the next holder of the id, or by its timeout. Idempotent."""
        self._producer.close()

    def _make(self, log: ClientLog) -> TransactionalClient:
        make: Callable[..., Any] = Producer
        # Nobody asks for the offsets of these records; without this, the client would call back for each that was written.
        errors_only = {"delivery.report.only.error": True}
        config = self._limits.config({**transactional_config(self._kafka, self._id), **errors_only})
        return cast("TransactionalClient", make_client(make, config, log))
