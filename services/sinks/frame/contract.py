"""The sink contract. Reviews cite its numbers.

1. The constructor takes the sink's own settings and the type of its rows, and does no I/O. `open` does I/O and may raise
   `ServerUnreachable` or `ConfigError`. `close` is idempotent.
2. `write` blocks until every row of every part is durable at the destination or named in the outcome, or raises `Retry`.
   After `Retry` the same rows come again, possibly cut into other batches and after a restart in another process.
3. Writing the same rows twice, in the same or other batches, leaves one copy if `promise` is `EFFECTIVELY_ONCE`. A row is
   identified by the position columns of its row type (source, generation, offset, index) and by nothing else.
4. Rows of one part come from one Kafka partition, `shard`. A source is always on the same shard, and within a shard the rows
   of one source come in ascending (offset, index), except when an earlier range is replayed.
5. A sink never commits, never writes dead letters, never retries without bound: the loop does. It knows nothing of offsets.
6. `release` is called when shards move to another process: forget everything about them, release their locks, start no more
   writes.
7. Partial success is normal: `Outcome.rejected` names rows that the destination permanently refuses; all others are durable.
   Until the next call of `write` has begun, they may not be dead letters: if they come again, they are named again.
8. Memory is bounded by the batch.
9. Every optional method has a default in `Sink` that does nothing: callers never check whether a method exists.
10. All calls come from one thread.
"""
# ruff: noqa: B027 - most methods do nothing unless a kind overrides them

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
        shard: the Kafka partition of the rows.
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
    """A row that the destination permanently refuses: its part, its index in the part, and why."""

    part: int
    row: int
    code: ErrorCode
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a write. Rows that are not rejected are durable."""

    written: int  # rows newly written
    already_there: int = 0  # rows recognised as written before
    rejected: tuple[RejectedRow, ...] = ()


@dataclass(frozen=True, slots=True)
class KafkaUse:
    """What a destination uses on the pipeline's own cluster, besides the topic of the rows and the topic of dead letters.

    Attributes:
        reads, writes: topics.
        is_transactional: whether it uses transactional ids that begin with the sink's consumer group and a dot.
    """

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    is_transactional: bool = False


class Sink(ABC):
    """One destination. A subclass is constructed as ``Own(settings, row_type)``; further parameters have defaults."""

    row_types: ClassVar[tuple[str, ...]] = ALL
    """The names of the row types that it accepts; others are refused at the start."""

    @property
    def promise(self) -> Promise:
        """What this sink, with its settings, guarantees when something fails."""
        return Promise.AT_LEAST_ONCE

    def join(self, name: str, pipeline: Settings) -> None:
        """Take the sink's configured name, and whatever it needs from the pipeline's settings. Called before anything else.

        Raises:
            ConfigError: if the destination would be part of the pipeline itself.
        """

    def kafka_use(self) -> KafkaUse:
        """Return what it uses on the pipeline's own Kafka, to determine its user's rights. Called after `join`."""
        return KafkaUse()

    def read_files(self) -> None:
        """Read the files named in settings that `open` needs, such as secrets, and keep nothing. Raises `ConfigError`."""

    def setup(self) -> str | None:
        """Prepare the destination and return a line that says what was done; None if nothing is needed. Idempotent.

        Raises:
            ServerUnreachable, ConfigError: if the destination cannot be reached, or does not allow it.
        """
        return None

    def maintain(self) -> str | None:
        """Do what a destination needs from time to time, and return a line that says what was done; None if it needs nothing.

        Other processes may write meanwhile. Raises as `setup` does.
        """
        return None

    def dashboard(self) -> bytes | None:
        """Return a file with a dashboard for the destination's own web interface; None if there is none. No I/O.

        Raises:
            ConfigError: if there is none for these rows.
        """
        return None

    def install_dashboard(self) -> str | None:
        """Install that dashboard and return a line that says what was done; None if there is none. Raises as `setup` does."""
        return None

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Take a callback that a long `write` calls every few seconds, so that its process counts as alive.

        `beat` may call `release`. The write then continues, and another process may write the same rows as well.
        """

    def open(self) -> None:
        """Connect, check, and recover from a crash."""

    @abstractmethod
    def write(self, parts: Sequence[Part]) -> Outcome:
        """Make all rows durable; see rules 2 to 4 and 7."""

    def tick(self) -> None:
        """Do time-based work. Called between polls, even if nothing arrives; never raises for faults from outside."""

    def release(self, shards: Collection[int]) -> None:
        """Give up shards; see rule 6."""

    def close(self) -> None:
        """Close connections and files; there is nothing to flush, since writes are durable."""
