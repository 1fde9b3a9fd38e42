"""The sink contract. Reviews cite its numbers.

1. The constructor takes the sink's own settings and does no I/O. `open` does I/O and may raise `ServerUnreachable` or
   `ConfigError`. `close` is idempotent.
2. `write` blocks until every row of every part is durable at the destination or named in the outcome, or raises `Retry`.
   After `Retry` the same rows come again, possibly cut into other batches and after a restart in another process.
3. Writing the same rows twice, in the same or other batches, leaves one copy, if `promise` is `EFFECTIVELY_ONCE`. A row is
   identified by (blob, generation, record_offset, tuple_index) and by nothing else.
4. Rows of one part come from one Kafka partition, `shard`. A blob is always on the same shard, and within a shard the rows of
   one blob come in ascending (record_offset, tuple_index), except when an earlier range is replayed.
5. A sink never commits, never writes dead letters, never retries without bound: the loop does. It knows nothing of offsets.
6. `release` is called when shards move to another process: forget all about them, give up their locks, start no more writes.
7. Partial success is normal: `Outcome.rejected` names rows that the destination refuses for good; all others are durable.
8. Memory is bounded by the batch.
9. A sink that does things by time has a `tick` (`Ticking`); one whose destination needs preparing has a `setup` (`NeedsSetup`);
   one whose `write` may wait for a minute has a `while_waiting` (`Waiting`); one whose settings name files that `open` reads,
   such as of secrets, has a `read_files` (`ReadsFiles`).
10. All calls come from one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import pyarrow as pa

from libs.common.messages.dead_letters import ErrorCode


@dataclass(frozen=True, slots=True)
class FlowPart:
    """Rows of one shard, in order. `flows` has the schema `libs.common.rows.types.flows.FLOW_SCHEMA`."""

    shard: int
    flows: pa.Table


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


class Sink(Protocol):
    """One destination."""

    def open(self) -> None:
        """Connect, check, recover what a crash left."""

    def write(self, parts: Sequence[FlowPart]) -> Outcome:
        """Make all rows durable; see rules 2 to 4 and 7."""

    def release(self, shards: Collection[int]) -> None:
        """Let go of shards; see rule 6."""

    def close(self) -> None:
        """Flush nothing (writes were durable), close connections and files."""


@runtime_checkable
class Ticking(Protocol):
    """A sink that does things by time, such as closing a file that nobody adds to any more."""

    def tick(self) -> None:
        """Do what is due. Called between polls, also when nothing arrives; never raises for the world's faults."""


@runtime_checkable
class NeedsSetup(Protocol):
    """A sink whose destination needs preparing once, such as by an index template."""

    def setup(self) -> str:
        """Prepare the destination, idempotently, and return one line that says what was done. Raises `ServerUnreachable`."""


@runtime_checkable
class ReadsFiles(Protocol):
    """A sink whose settings name files that `open` reads, such as of secrets."""

    def read_files(self) -> None:
        """Read them and keep nothing, to see that they are right without connecting. Raises `ConfigError`."""


@runtime_checkable
class Waiting(Protocol):
    """A sink whose `write` may wait long for its destination, though for each answer only a bounded time."""

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Take what `write` calls every few seconds, so that its process counts as alive and keeps its shards.

        `beat` may call `release`: then the write goes on, and what it writes may be written by another process too.
        """
