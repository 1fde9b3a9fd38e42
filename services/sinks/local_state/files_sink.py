"""Sinks whose rows and positions are on a local disk, and become files there: what such kinds have in common.

Promise: effectively once, because how far every generation of a source has been written is committed together with the rows.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Sequence

import pyarrow as pa

from services.sinks.frame.contract import Outcome, Part, Sink
from services.sinks.frame.kind import Promise
from services.sinks.local_state.positions import Positions
from services.sinks.local_state.settings import LocalFilesSettings
from services.sinks.local_state.shard_store import FileOutlet
from services.sinks.local_state.shards import Shards, ShardsSpec


class LocalStateSink(Sink):
    """A sink whose state is in shards. The `prepare` of `spec` is its own method, or calls it."""

    def __init__(self, spec: ShardsSpec, remember_days: int, clock: Callable[[], float]) -> None:
        self._spec = spec
        self._remember_days = remember_days
        self._clock = clock
        self._shards = Shards(spec, clock)

    @property
    def promise(self) -> Promise:
        """Positions and rows are committed together."""
        return Promise.EFFECTIVELY_ONCE

    def open(self) -> None:
        """Recover from a crash. Raises ConfigError if the directory is not writable."""
        self._shards.open()

    def tick(self) -> None:
        """Complete files that are due."""
        self._shards.tick()

    def release(self, shards: Collection[int]) -> None:
        """Give up `shards`, so that other processes can take them."""
        self._shards.release(shards)

    def close(self) -> None:
        """Give up all shards."""
        self._shards.close()

    def prepare(self, database: sqlite3.Connection) -> None:
        """Create the tables of a shard, and forget sources that have brought nothing for long."""
        positions = Positions(database, self._clock)
        positions.create()
        positions.prune(self._remember_days)

    def append(self, part: Part, rows: pa.Table) -> tuple[int, int]:
        """Make those of the `rows` of a part durable that are new; return how many are, and how many were known.

        Raises:
            Retry: if the disk fails or another process holds the shard.
        """
        with self._shards.writing(part.shard) as store:
            positions = Positions(store.database, self._clock)
            fresh = positions.fresh(rows, part.row_type.position)
            store.append(fresh.rows)
            positions.advance(fresh)
        return fresh.rows.num_rows, fresh.known


class LocalFilesSink(LocalStateSink):
    """A sink that only makes files from its rows, those of an outlet. `kind` is the owner that a directory notes."""

    def __init__(
        self, settings: LocalFilesSettings, kind: str, outlet: FileOutlet, clock: Callable[[], float] = time.time
    ) -> None:
        spec = ShardsSpec(kind, outlet, self.prepare, settings.flush_on_close)
        super().__init__(spec, settings.remember_days, clock)

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Make all rows durable, each once. Raises Retry if the disk fails or another process holds a shard."""
        counts = [self.append(part, part.rows) for part in parts]
        return Outcome(sum(written for written, _ in counts), sum(known for _, known in counts))
