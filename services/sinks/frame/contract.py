"""The sink contract. Reviews cite its numbers.

1. The constructor takes the sink's own settings and the type of its rows, and does no I/O. `open` does I/O and may raise
   `ServerUnreachable` or `ConfigError`. `close` is idempotent.
2. `write` blocks until every row of every part is durable at the destination or named in the outcome, or raises `Retry`.
   After `Retry` the same rows come again, possibly cut into other batches and after a restart in another process.
3. Writing the same rows twice, in the same or other batches, leaves one copy, if `promise` is `EFFECTIVELY_ONCE`. A row is
   identified by the position columns of its row type (source, generation, offset, index) and by nothing else.
4. Rows of one part come from one Kafka partition, `shard`. A source is always on the same shard, and within a shard the rows
   of one source come in ascending (offset, index), except when an earlier range is replayed.
5. A sink never commits, never writes dead letters, never retries without bound: the loop does. It knows nothing of offsets.
6. `release` is called when shards move to another process: forget all about them, give up their locks, start no more writes.
7. Partial success is normal: `Outcome.rejected` names rows that the destination refuses for good; all others are durable.
8. Memory is bounded by the batch.
9. What a kind need not do has a default in `Sink` that does nothing: nobody asks whether a method is there.
10. All calls come from one thread.
"""
# ruff: noqa: B027 - most methods are there to do nothing unless a kind has something to do

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import pyarrow as pa

from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.row_type import RowType
from libs.common.rows.types import ROW_TYPES
from libs.common.settings import Settings
from services.sinks.frame.kind import Promise

ALL: Final = tuple(ROW_TYPES)
"""The names of all row types."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one shard, in order.

    Attributes:
        shard: the Kafka partition that they came from.
        row_type: their type.
        rows: all columns of the row type in its order, each in one chunk.
        ends: where each message ends, ascending: ``rows[:ends[0]]`` came in the first message, and so on; the last is the
            number of rows.
    """

    shard: int
    row_type: RowType
    rows: pa.Table
    ends: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that the destination refuses for good: its part, its index in the part, and why."""

    part: int
    row: int
    code: ErrorCode
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a write. Rows that are not rejected are durable."""

    written: int  # rows newly written
    already_there: int = 0  # rows recognised as written before
    rejected: tuple[RejectedRow, ...] = ()


@dataclass(frozen=True, slots=True)
class KafkaUse:
    """What a destination uses of the pipeline's own cluster, beside the topic of the rows and that of dead letters.

    Attributes:
        reads, writes: topics.
        is_transactional: has transactional ids that begin with the name of the sink's consumer group and a dot.
    """

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    is_transactional: bool = False


class Sink(ABC):
    """One destination. A subclass is constructed as ``Own(settings, row_type)``; further parameters have defaults."""

    row_types: ClassVar[tuple[str, ...]] = ALL
    """The names of the row types that it takes; others are refused at the start."""

    @property
    def promise(self) -> Promise:
        """What the destination gets when something fails, with the settings that this sink has."""
        return Promise.AT_LEAST_ONCE

    def join(self, name: str, pipeline: Settings) -> None:
        """Learn the sink's configured name, and what the destination needs of the pipeline's settings. Called before all else.

        Raises:
            ConfigError: if the destination would be a part of the pipeline itself.
        """

    def kafka_use(self) -> KafkaUse:
        """Return what it uses of the pipeline's own Kafka, for the rights of its user. Called after `join`."""
        return KafkaUse()

    def read_files(self) -> None:
        """Read the files that settings name and `open` needs, such as secrets, and keep nothing. Raises `ConfigError`."""

    def setup(self) -> str | None:
        """Prepare the destination, idempotently, and return a line that says what was done; None if it needs nothing.

        Raises:
            ServerUnreachable, ConfigError: the destination is not there, or does not allow it.
        """
        return None

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Take what a `write` that may wait for long calls every few seconds, so that its process counts as alive.

        `beat` may call `release`: then the write goes on, and what it writes may be written by another process too.
        """

    def open(self) -> None:
        """Connect, check, recover what a crash left."""

    @abstractmethod
    def write(self, parts: Sequence[Part]) -> Outcome:
        """Make all rows durable; see rules 2 to 4 and 7."""

    def tick(self) -> None:
        """Do what is due by time. Called between polls, also when nothing arrives; never raises for the world's faults."""

    def release(self, shards: Collection[int]) -> None:
        """Let go of shards; see rule 6."""

    def close(self) -> None:
        """Flush nothing (writes were durable), close connections and files."""
