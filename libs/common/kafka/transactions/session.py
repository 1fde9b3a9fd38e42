"""A consumer and a transactional producer that advance together: the `records.Session` for consume-transform-produce.

Delivered work is either committed with its offsets or repeated. After anything other than a committed transaction, the session

1. replaces the producer; starting the new one ends what the old one left open, so the outcome is known afterwards;
2. seeks every owned partition to its committed offset (after a fatal or group error, rejoins the group);
3. tells the listener (`rewound`, or `revoked` and `assigned`) before any record is delivered.

If Kafka is down, steps 1 to 3 happen in a later `poll`; until then `commit` returns ABORTED. No call blocks for more than about
eight seconds, not counting the listener itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import structlog
from confluent_kafka import Producer

from libs.common.errors import ServerUnreachable
from libs.common.kafka.client.client_log import ClientLog
from libs.common.kafka.client.configs import check_reachable, make_client, transactional_config
from libs.common.kafka.client.failures import OutputRefused, OutputTooLarge
from libs.common.kafka.client.protocols import TransactionalClient
from libs.common.kafka.group.consumer import GroupConsumer
from libs.common.kafka.group.membership import GroupSpec, Use
from libs.common.kafka.records import CommitResult, Inbound, Listener, NextOffsets, Outbound, TopicPartition
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.kafka.transactions.producer import ProducerState, Transaction, TransactionalProducer, TransactionEnd
from libs.common.settings.kafka import KafkaSettings

log = structlog.get_logger(__name__)

PREPARE_SECONDS: Final = 1.0
OPEN_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """Identifies a session.

    Attributes:
        role: group is ``<group_prefix>.<role>``, transactional id ``<group_prefix>.<role>.<ordinal>``.
        ordinal: number of this process among its replicas; two with the same number fence each other.
        topics: subscribed together; co-partitioned topics have equal partition counts (eager range assignment).
        use: purpose of the partitions.
        partners: topics that must have a partition of the same number for each one read; partitions without one wait.
    """

    role: str
    ordinal: int
    topics: tuple[str, ...]
    use: Use = Use.READ
    partners: tuple[str, ...] = ()


class TransactionalSession:
    """See `libs.common.kafka.records.Session`. Nothing happens before `open`.

    `limits` are kept up to date here; producers of outputs consult them for maximum sizes.
    """

    def __init__(self, kafka: KafkaSettings, spec: SessionSpec, listener: Listener, limits: TopicLimits | None = None) -> None:
        self._kafka = kafka
        self._spec = spec
        self._limits = limits or TopicLimits(kafka)
        group = f"{kafka.group_prefix}.{spec.role}"
        self._consumer = GroupConsumer(kafka, GroupSpec(group, spec.topics, spec.use, spec.partners), listener)
        self._producer = TransactionalProducer(f"{group}.{spec.ordinal}", self._make_producer)

    def open(self) -> None:
        """Connect, fence older instances of the same transactional id, subscribe.

        Raises:
            ServerUnreachable: Kafka or its transaction coordinator does not respond.
            ConfigError: a topic does not exist, or its size limit is too small.
        """
        check_reachable(self._kafka, self._spec.topics)
        self._limits.read()
        deadline = time.monotonic() + OPEN_SECONDS
        while not self._producer.prepare(PREPARE_SECONDS):
            if time.monotonic() > deadline:
                raise ServerUnreachable(
                    f"Kafka at {self._kafka.bootstrap_servers} opened no transaction within {OPEN_SECONDS:.0f} s; "
                    "check that its topic __transaction_state is healthy"
                )
        self._consumer.open()

    def poll(self, max_records: int, seconds: float) -> list[Inbound]:
        """Return what arrives within `seconds`, at most `max_records`; listeners are called first."""
        ready = self._producer.prepare(max(0.1, min(seconds, PREPARE_SECONDS)))
        return self._consumer.poll(max_records, seconds, place=ready)

    def commit(self, outputs: list[Outbound], offsets: NextOffsets) -> CommitResult:
        """Write `outputs` and `offsets` in one transaction, within eight seconds.

        A dead letter that is too large for its topic is truncated.

        Raises:
            OutputRefused: an output can never be written; work was rewound as after ABORTED. One that is only too large for
                its topic ends as ABORTED, and the limit is then smaller.
            ConfigError: the size limit of a topic is too small.
            BlobtideError: another process uses this transactional id, or Kafka denies this user part of the work.
        """
        transaction = self._transaction(outputs, offsets)
        if transaction is None:
            self._rewind()
            return CommitResult.ABORTED
        try:
            ending = self._producer.commit(transaction)
        except OutputTooLarge as error:
            self._limits.refused(error.topics)
            ending = TransactionEnd.ABORTED
        except OutputRefused:
            self._rewind()
            raise
        if ending is TransactionEnd.COMMITTED:
            self._consumer.moved(transaction.offsets)
            return CommitResult.COMMITTED
        if ending is TransactionEnd.LEFT_GROUP:
            self._consumer.rejoin()
        self._rewind()
        return CommitResult.ABORTED

    def trouble(self) -> str:
        """Return why partitions wait that could otherwise be read; empty if none do."""
        return self._consumer.trouble()

    def owned(self) -> frozenset[TopicPartition]:
        """Return the partitions announced to the listener and not revoked."""
        return self._consumer.owned()

    def pause(self) -> None:
        """Stop delivery from all partitions until `resume`."""
        self._consumer.pause()

    def resume(self) -> None:
        """Resume delivery."""
        self._consumer.resume()

    def close(self) -> None:
        """Leave the group and drop the producer. Idempotent; never waits for a broker."""
        if self._producer.state is ProducerState.READY:
            self._consumer.close()
        else:
            self._consumer.abandon()
        self._producer.close()

    def _transaction(self, outputs: list[Outbound], offsets: NextOffsets) -> Transaction | None:
        """Freeze what is committed together; None if it must not be committed: no longer ours, or not provably so."""
        readable = self._consumer.readable()
        frozen = dict(offsets) or self._consumer.unmoved()
        if not frozen or not frozen.keys() <= readable or not self._producer.prepare(PREPARE_SECONDS):
            return None
        metadata = self._consumer.group_metadata()
        return None if metadata is None else Transaction(tuple(map(self._limits.fitted, outputs)), frozen, metadata)

    def _rewind(self) -> None:
        self._consumer.rewind()
        if self._producer.prepare(PREPARE_SECONDS):
            self._consumer.place()

    def _make_producer(self, client_log: ClientLog) -> TransactionalClient:
        make: Callable[..., Any] = Producer
        config = transactional_config(self._kafka, f"{self._kafka.group_prefix}.{self._spec.role}.{self._spec.ordinal}")
        return cast("TransactionalClient", make_client(make, self._limits.config(config), client_log))
