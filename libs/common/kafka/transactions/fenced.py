"""Records in transactions of an id that stands for a piece of work, so that at any time one process writes it.

Who takes the id over ends what its holder before left open, and from then on that one can commit nothing: Kafka fences it. So
what the new holder reads as committed after the take-over is all that there is, until it is fenced itself. No consumer offsets
are in these transactions; who needs to know how far it has come writes that as one of the records.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from confluent_kafka import Producer

from libs.common.errors import Retry
from libs.common.kafka.client.client_log import ClientLog
from libs.common.kafka.client.configs import make_client, transactional_config
from libs.common.kafka.client.failures import OutputTooLarge
from libs.common.kafka.client.protocols import TransactionalClient
from libs.common.kafka.records import Outbound
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.kafka.transactions.producer import Transaction, TransactionalProducer, TransactionEnd, TransactionTimes
from libs.common.settings.kafka import KafkaSettings

_PREPARE_SECONDS: Final = 1.0
_TAKE_OVER_SECONDS: Final = 10.0
# That another process takes an id over is how work moves here, not a mistake of whoever numbered processes.
_TIMES: Final = TransactionTimes(fence_window=0.0)


class FencedWriter:
    """Holds one transactional id. Nothing happens before `take_over`; after any `Retry` of `write` it comes first again."""

    def __init__(self, kafka: KafkaSettings, transactional_id: str, limits: TopicLimits) -> None:
        self._kafka = kafka
        self._id = transactional_id
        self._limits = limits
        self._producer = TransactionalProducer(transactional_id, self._make, _TIMES)

    def take_over(self, between: Callable[[], None] = lambda: None) -> None:
        """Fence whoever holds the id; `between` is called about every second.

        Raises:
            Retry: Kafka's coordinator does not answer.
            BlobtideError: Kafka denies it.
        """
        deadline = time.monotonic() + _TAKE_OVER_SECONDS
        while not self._producer.prepare(_PREPARE_SECONDS):
            between()
            if time.monotonic() > deadline:
                raise Retry(f"Kafka at {self._kafka.bootstrap_servers} opens no transactions")

    def write(self, records: Sequence[Outbound]) -> None:
        """Write all `records` in one transaction; return when it is committed.

        Raises:
            Retry: it was not, or nobody knows; somebody else may hold the id now. Also if a topic takes only smaller records
                than these, which `TopicLimits.takes` then tells.
            BlobtideError: Kafka denies it, or a record can never be written.
        """
        try:
            end = self._producer.commit(Transaction(records))
        except OutputTooLarge as error:
            self._limits.refused(error.topics)
            raise Retry(str(error), after=0.0, kind="too_large") from error
        if end is not TransactionEnd.COMMITTED:
            raise Retry(f"a transaction of {self._id} did not commit", kind="transaction")

    def close(self) -> None:
        """Drop the client. What is open is ended by whoever takes the id over, or by its timeout. Idempotent."""
        self._producer.close()

    def _make(self, log: ClientLog) -> TransactionalClient:
        make: Callable[..., Any] = Producer
        config = self._limits.config(transactional_config(self._kafka, self._id))
        return cast("TransactionalClient", make_client(make, config, log))
