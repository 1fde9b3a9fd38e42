"""The parts of the Kafka client's classes that we use, so that tests can substitute a fake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from confluent_kafka import Message, TopicPartition


class ListingClient(Protocol):
    """Of any class of clients."""

    def list_topics(self, topic: str | None = ..., timeout: float = ...) -> Any:
        """Ask for the topics; raises KafkaException if nobody answers."""


class ProducerClient(ListingClient, Protocol):
    """Of `confluent_kafka.Producer`."""

    def produce(
        self, topic: str, value: Any = ..., key: Any = ..., partition: int = ..., on_delivery: Any = ..., /, **more: Any
    ) -> None:
        """Queue one record."""

    def poll(self, timeout: float, /) -> int:
        """Serve callbacks and log lines."""

    def flush(self, timeout: float, /) -> int:
        """Wait for acknowledgements; return how many are missing."""

    def __len__(self) -> int: ...


class TransactionalClient(Protocol):
    """Of `confluent_kafka.Producer`, with transactions."""

    def init_transactions(self, timeout: float, /) -> None:
        """Get a producer id, and end what an older producer with the transactional id left open."""

    def begin_transaction(self) -> None:
        """Begin; local."""

    def produce(self, topic: str, value: Any = ..., key: Any = ..., partition: int = ..., **more: Any) -> None:
        """Queue one record."""

    def poll(self, timeout: float, /) -> int:
        """Serve callbacks and log lines."""

    def flush(self, timeout: float, /) -> int:
        """Wait for acknowledgements; return how many are missing."""

    def send_offsets_to_transaction(self, positions: Any, group_metadata: Any, timeout: float, /) -> None:
        """Add offsets to the transaction; the group coordinator checks the generation."""

    def commit_transaction(self, timeout: float, /) -> None:
        """End the transaction."""

    def abort_transaction(self, timeout: float, /) -> None:
        """Abort the transaction."""

    def __len__(self) -> int: ...


RebalanceCallback = Callable[[Any, list[TopicPartition]], None]


class ConsumerClient(Protocol):
    """Of `confluent_kafka.Consumer`."""

    def subscribe(self, topics: list[str], on_assign: Any = ..., on_revoke: Any = ..., on_lost: Any = ...) -> None:
        """Join the group."""

    def consume(self, num_messages: int = ..., timeout: float = ...) -> list[Message]:
        """Wait the full time unless the number is reached; serve callbacks."""

    def assign(self, partitions: list[TopicPartition], /) -> None:
        """Set what is read, and from where."""

    def committed(self, partitions: list[TopicPartition], timeout: float = ...) -> list[TopicPartition]:
        """Read committed offsets; waits for open transactions of the group."""

    def get_watermark_offsets(self, partition: TopicPartition, timeout: float = ...) -> tuple[int, int]:
        """Read the first offset and the end."""

    def pause(self, partitions: list[TopicPartition], /) -> None:
        """Stop fetching."""

    def resume(self, partitions: list[TopicPartition], /) -> None:
        """Fetch again."""

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> object:
        """Commit outside a transaction; the answer comes to `on_commit`."""

    def consumer_group_metadata(self) -> bytes:
        """Return group, generation and member in the client's own form."""

    def close(self) -> None:
        """Leave the group."""
