"""The lifecycle of one client in a consumer group: created, subscribed, queried for rebalances, dropped."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from confluent_kafka import KafkaException
from confluent_kafka import TopicPartition as ClientPartition

from libs.common.errors import BlobtideError
from libs.common.kafka.client.client_log import ClientLog
from libs.common.kafka.client.failures import error_of, translated
from libs.common.kafka.client.protocols import ConsumerClient, RebalanceCallback
from libs.common.kafka.records import TopicPartition

_METADATA_MAGIC = b"CGMDv2:"


class Use(StrEnum):
    """Purpose of a group's partitions."""

    READ = "read"
    OWN = "own"  # they only divide work; positions never move, so there is no lag


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """A group and its topics; each of `partners` must have a partition for each one read."""

    group: str
    topics: tuple[str, ...]
    use: Use = Use.READ
    partners: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rebalance:
    """Partitions that were assigned or revoked."""

    arrived: bool
    partitions: tuple[TopicPartition, ...]


class Membership:
    """A member of `spec`'s group while it is open. Client callbacks record facts and never raise."""

    def __init__(self, spec: GroupSpec, make: Callable[[ClientLog], ConsumerClient]) -> None:
        self._spec = spec
        self._make = make
        self._client: ConsumerClient | None = None
        self._rebalances: list[Rebalance] = []
        self._callback_error: KafkaException | None = None
        self._pid = os.getpid()

    @property
    def is_open(self) -> bool:
        """Whether there is a client."""
        return self._client is not None

    def join(self) -> None:
        """Create a client that joins the group."""
        self._client = self._make(ClientLog(self._spec.group))
        subscribe: RebalanceCallback = self._on_revoke
        self._client.subscribe(list(self._spec.topics), on_assign=self._on_assign, on_revoke=subscribe, on_lost=subscribe)

    def client(self) -> ConsumerClient:
        """Return the client."""
        if os.getpid() != self._pid:
            raise RuntimeError("a Kafka client was inherited by a forked process, where its threads do not run")
        if self._client is None:
            raise RuntimeError("the consumer is not open")
        return self._client

    def drop(self) -> None:
        """Forget the client without leaving the group. Idempotent."""
        self._client = None

    def rebalances(self) -> list[Rebalance]:
        """Return what happened since the last call, in order. Raises the error that kept the client from joining."""
        if self._callback_error is not None:
            error, self._callback_error = error_of(self._callback_error), None
            raise translated(error, f"joining {self._spec.group}")
        happened, self._rebalances = self._rebalances, []
        return happened

    def metadata(self) -> bytes | None:
        """Return the proof of membership, or None while there is none."""
        data = self.client().consumer_group_metadata()
        if not data.startswith(_METADATA_MAGIC):
            raise BlobtideError(
                "this version of the Kafka client does not expose the group's generation; install a supported version"
            )
        (generation,) = struct.unpack_from("<i", data, len(_METADATA_MAGIC))
        return data if generation >= 0 else None

    def _on_assign(self, client: ConsumerClient, partitions: list[ClientPartition]) -> None:
        self._rebalances.append(Rebalance(arrived=True, partitions=_own_partitions(partitions)))
        try:
            client.assign([])  # nothing is read before `place` knows where to start
        except KafkaException as exception:
            self._callback_error = exception

    def _on_revoke(self, _client: ConsumerClient, partitions: list[ClientPartition]) -> None:
        self._rebalances.append(Rebalance(arrived=False, partitions=_own_partitions(partitions)))


def _own_partitions(partitions: Iterable[ClientPartition]) -> tuple[TopicPartition, ...]:
    return tuple(TopicPartition(p.topic, p.partition) for p in partitions)
