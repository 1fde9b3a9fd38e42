"""A group consumer over a fake client and a fake admin client, which do what a test scripts."""

# ruff: noqa: ARG002, D102 - the fakes have the client's methods and signatures

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Collection, Iterable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, TopicCollection
from confluent_kafka import TopicPartition as ClientPartition
from prometheus_client import REGISTRY

from libs.common.kafka.group.consumer import GroupConsumer
from libs.common.kafka.group.membership import GroupSpec, Use
from libs.common.kafka.records import TopicPartition
from libs.common.settings.kafka import KafkaSettings


class Client:
    """Answers as scripted; `happen` holds what the next `consume` calls do before they return messages."""

    def __init__(self) -> None:
        self.happen: deque[Any] = deque()
        self.offsets: dict[int, int] = {}
        self.watermarks: dict[int, tuple[int, int]] = {}
        self.committed_error: KafkaError | None = None
        self.assign_error: KafkaError | None = None
        self.assigned: list[dict[int, int]] = []
        self.paused: set[int] = set()
        self.generation = 1
        self.closed = False

    def subscribe(self, topics: list[str], on_assign: Any = None, on_revoke: Any = None, on_lost: Any = None) -> None:
        assert on_lost is not None
        self.on_assign, self.on_revoke = on_assign, on_revoke

    def consume(self, num_messages: int = 1, timeout: float = 0) -> list[Message]:
        messages: list[Message] = []
        while self.happen:
            event = self.happen.popleft()
            if isinstance(event, list):
                return event
            kind, partitions = event
            (self.on_assign if kind == "assign" else self.on_revoke)(self, [ClientPartition("t", p) for p in partitions])
        return messages

    def assign(self, partitions: list[ClientPartition]) -> None:
        if self.assign_error is not None:
            raise KafkaException(self.assign_error)
        self.assigned.append({p.partition: p.offset for p in partitions})

    def committed(self, partitions: list[ClientPartition], timeout: float = 0) -> list[ClientPartition]:
        if self.committed_error is not None:
            raise KafkaException(self.committed_error)
        return [ClientPartition(p.topic, p.partition, self.offsets.get(p.partition, -1001)) for p in partitions]

    def get_watermark_offsets(self, partition: ClientPartition, timeout: float = 0) -> tuple[int, int]:
        return self.watermarks.get(partition.partition, (0, 100))

    def pause(self, partitions: list[ClientPartition]) -> None:
        self.paused |= {p.partition for p in partitions}

    def resume(self, partitions: list[ClientPartition]) -> None:
        self.paused -= {p.partition for p in partitions}

    def commit(self, *, offsets: list[ClientPartition], asynchronous: bool) -> None: ...

    def consumer_group_metadata(self) -> bytes:
        return b"CGMDv2:" + struct.pack("<i", self.generation) + b"group"

    def close(self) -> None:
        self.closed = True


class End:
    """What Kafka answers about one partition."""

    def __init__(self, offset: int) -> None:
        self.offset = offset


class Admin:
    """Is asked for the ends of partitions; answers when `answer` is called."""

    def __init__(self) -> None:
        self.asked: dict[ClientPartition, Future[End]] = {}
        self.questions = 0

    def poll(self, timeout: float) -> int:
        return 0

    def list_offsets(self, wanted: Iterable[ClientPartition], **_: Any) -> dict[ClientPartition, Future[End]]:
        self.questions += 1
        self.asked = {partition: Future() for partition in wanted}
        return self.asked

    def describe_topics(self, topics: TopicCollection, **_: Any) -> dict[str, Future[SimpleNamespace]]:
        self.described: dict[str, Future[SimpleNamespace]] = {name: Future() for name in topics.topic_names}
        return self.described

    def tell_counts(self, **counts: int) -> None:
        """Answer how many partitions topics have; of one that is not in `counts` nothing is told."""
        for name, future in self.described.items():
            if name in counts:
                future.set_result(SimpleNamespace(partitions=list(range(counts[name]))))
            else:
                future.set_exception(KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)))

    def answer(self, ends: dict[int, int]) -> None:
        """Answer what was asked last; a partition that is not in `ends` has no leader."""
        for partition, future in self.asked.items():
            if partition.partition in ends:
                future.set_result(End(ends[partition.partition]))
            else:
                future.set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT, retriable=True)))


class Recorder:
    """A listener that notes what it is told, and raises `error`."""

    def __init__(self) -> None:
        self.log: list[tuple[str, list[int]]] = []
        self.error: Exception | None = None

    def _note(self, what: str, partitions: Collection[TopicPartition]) -> None:
        self.log.append((what, sorted(p.partition for p in partitions)))
        if self.error is not None:
            raise self.error

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        self._note("assigned", partitions)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        self._note("revoked", partitions)

    def rewound(self, partitions: Collection[TopicPartition]) -> None:
        self._note("rewound", partitions)


class World:
    """The consumer of topic "t" in group "g", its clients, and a clock."""

    def __init__(self, use: Use = Use.READ, with_partners: tuple[str, ...] = ()) -> None:
        self.clients: list[Client] = [Client()]
        self.admin = Admin()
        self.made = 0
        self.now = 0.0
        self.listener = Recorder()
        spec = GroupSpec("g", ("t",), use, with_partners)
        self.consumer = GroupConsumer(KafkaSettings(), spec, self.listener, lambda _: self._make(), lambda: self.now)

    @property
    def client(self) -> Client:
        return self.clients[-1]

    def _make(self) -> Client:
        self.made += 1
        if self.made > 1:
            self.clients.append(Client())
        return self.clients[-1]

    def poll(self, *events: Any) -> list[int]:
        self.client.happen.extend(events)
        return [record.offset for record in self.consumer.poll(100, 0.1)]


def message(partition: int, offset: int) -> Message:
    """Return a record."""
    return Message(topic="t", partition=partition, offset=offset, value=b"v", timestamp=(1, 0))


def shown_lag(partition: int) -> float | None:
    """Return what the metric shows of a partition."""
    return REGISTRY.get_sample_value("blobtide_kafka_consumer_lag_records", {"topic": "t", "partition": str(partition)})
