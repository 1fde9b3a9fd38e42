"""A sink that only makes files from its rows: what such kinds have in common, except for what the files are.

Promise: effectively once, because how far every generation of a source has been written is committed together with the rows.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Sequence

from services.sinks.frame.contract import Outcome, Part, Sink
from services.sinks.frame.kind import Promise
from services.sinks.local_state.positions import Positions
from services.sinks.local_state.settings import LocalFilesSettings
from services.sinks.local_state.shard_store import FileOutlet
from services.sinks.local_state.shards import Shards, ShardsSpec


class LocalFilesSink(Sink):
    """Rows into the files of an outlet. `kind` is the owner that a directory notes."""

    def __init__(
        self, settings: LocalFilesSettings, kind: str, outlet: FileOutlet, clock: Callable[[], float] = time.time
    ) -> None:
        self._remember_days = settings.remember_days
        self._clock = clock
        self._shards = Shards(ShardsSpec(kind, outlet, self._prepare, settings.flush_on_close), clock)

    @property
    def promise(self) -> Promise:
        """Positions and rows are committed together."""
        return Promise.EFFECTIVELY_ONCE

    def open(self) -> None:
        """Recover from a crash. Raises ConfigError if the directory is not writable."""
        self._shards.open()

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Make all rows durable, each once. Raises Retry if the disk fails or another process holds a shard."""
        written = known = 0
        for part in parts:
            with self._shards.writing(part.shard) as store:
                positions = Positions(store.database, self._clock)
                fresh = positions.fresh(part.rows, part.row_type.position)
                store.append(fresh.rows)
                positions.advance(fresh)
            written, known = written + fresh.rows.num_rows, known + fresh.known
        return Outcome(written, known)

    def tick(self) -> None:
        """Complete files that are due."""
        self._shards.tick()

    def release(self, shards: Collection[int]) -> None:
        """Give up `shards`, so that other processes can take them."""
        self._shards.release(shards)

    def close(self) -> None:
        """Give up all shards."""
        self._shards.close()

    def _prepare(self, database: sqlite3.Connection) -> None:
        positions = Positions(database, self._clock)
        positions.create()
        positions.prune(self._remember_days)
