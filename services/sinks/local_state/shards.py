"""The shards of a sink with state on a local disk: opened on first use, given up on release or after any failure.

The design is crash-only: whatever goes wrong with a shard, it is closed, `Retry` says why, and the next use opens and recovers
it. A full or broken disk therefore stops the sink until it is repaired, and nothing is lost.

A shard that nobody uses may still hold rows for a file, for instance after a restart with other partitions. Like all others,
these rows go into a file when their time is up, made by any process that uses the directory.

Sinks of different kinds would mistake each other's positions for their own. A directory therefore belongs to the kind that
opened it first, whose name is in ``.blobtide/kind``.
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import structlog

from libs.common.errors import CodecError, ConfigError, Retry
from libs.common.security.private_files import private, private_directory
from services.sinks.local_state.shard_store import HIDDEN, FileOutlet, ShardStore

log = structlog.get_logger(__name__)

T = TypeVar("T")

FLUSH_SECONDS: Final = 4.0  # of the ten seconds that a stop may take
_DISK_RETRY_SECONDS: Final = 5.0
_SWEEP_SECONDS: Final = 30.0
_MAINTAIN_SECONDS: Final = 86_400.0
_HOME = re.compile(r"p([0-9]+)")


@dataclass(frozen=True, slots=True)
class ShardsSpec:
    """What the shards of one sink have in common."""

    kind: str
    outlet: FileOutlet
    prepare: Callable[[sqlite3.Connection], None]  # creates tables and removes old entries; on opening and once a day
    flush_on_close: bool = True
    settle: Callable[[ShardStore], None] | None = None  # does time-based work before files are made; not in a transaction


class Shards:
    """All shards that this process has open."""

    def __init__(self, spec: ShardsSpec, clock: Callable[[], float] = time.time) -> None:
        self._spec = spec
        self._clock = clock
        self._open: dict[int, ShardStore] = {}
        self._swept_at = self._maintained_at = clock()

    def open(self) -> None:
        """Recover the existing state.

        Raises:
            ConfigError: if the directory is not writable, or belongs to a sink of another kind.
        """
        directory = self._spec.outlet.directory
        try:
            private_directory(directory / HIDDEN)
            owner = first_written(directory / HIDDEN / "kind", self._spec.kind)
        except OSError as error:
            raise ConfigError(f"cannot write to directory {directory}: {error.strerror}") from error
        if owner != self._spec.kind:
            raise ConfigError(
                f"directory {directory} belongs to a {owner} sink: give the {self._spec.kind} sink its own directory"
            )
        self._sweep()

    @contextmanager
    def writing(self, shard: int) -> Iterator[ShardStore]:
        """Open a transaction on `shard`; after it ends, everything done in it is durable, and complete files are made.

        Raises:
            Retry: if another process holds the shard or the disk fails; nothing is lost.
        """
        with self._guarded(shard):
            store = self._opened(shard)
            with store.transaction():
                yield store
            store.roll_if_due()

    def tick(self) -> None:
        """Make the files that are due."""
        for shard in list(self._open):
            self._try(shard, partial(self._settle, shard))
        now = self._clock()
        if abs(now - self._swept_at) >= _SWEEP_SECONDS:
            self._swept_at = now
            self._sweep()
        if abs(now - self._maintained_at) >= _MAINTAIN_SECONDS:
            self._maintained_at = now
            for shard in list(self._open):
                self._try(shard, partial(self._maintain, shard))

    def release(self, shards: Collection[int]) -> None:
        """Give up `shards`, making files from their rows as far as time allows."""
        give_up_at = time.monotonic() + FLUSH_SECONDS
        for shard in sorted(shards):
            store = self._open.get(shard)
            if store is not None and self._spec.flush_on_close and time.monotonic() < give_up_at:
                self._try(shard, store.roll)
            self._drop(shard)

    def close(self) -> None:
        """Give up all shards. Idempotent."""
        self.release(list(self._open))

    def look(self, at: Callable[[ShardStore], T]) -> list[T]:
        """Return what `at` reads in each shard that no other process holds; those whose disk fails are left out.

        This includes closed shards: after a restart, or when partitions move, most are closed until rows arrive for them.
        """
        found = [self._seen(shard, at) for shard in self._known()]
        return [value for value in found if value is not None]

    def _opened(self, shard: int) -> ShardStore:
        if shard not in self._open:
            store = ShardStore(shard, self._spec.outlet, self._clock)
            try:
                store.open()
                self._spec.prepare(store.database)
            except BaseException:
                store.close()
                raise
            self._open[shard] = store
        return self._open[shard]

    def _sweep(self) -> None:
        """Make due files for shards that no process has open."""
        for shard in self._known():
            if shard not in self._open:
                self._try(shard, partial(self._settle, shard))
                self._drop(shard)

    def _known(self) -> list[int]:
        """Return the shards with state in the directory; none if it cannot be read, which a write will report."""
        try:
            homes = [_HOME.fullmatch(home.name) for home in (self._spec.outlet.directory / HIDDEN).iterdir()]
        except OSError:
            return []
        return sorted(int(name[1]) for name in homes if name)  # anything else, such as a copy of a home, is not ours

    def _seen(self, shard: int, at: Callable[[ShardStore], T]) -> T | None:
        was_open = shard in self._open
        value = self._try(shard, lambda: at(self._opened(shard)))
        if not was_open:
            self._drop(shard)
        return value

    def _settle(self, shard: int) -> None:
        store = self._opened(shard)
        if self._spec.settle is not None:
            self._spec.settle(store)
        store.roll_if_due()

    def _maintain(self, shard: int) -> None:
        self._spec.prepare(self._opened(shard).database)

    def _try(self, shard: int, act: Callable[[], T]) -> T | None:
        try:
            with self._guarded(shard):
                return act()
        except Retry as error:
            if not isinstance(error.__cause__, BlockingIOError):  # it is normal that another process holds the shard
                log.warning("a file will be completed later", shard=shard, reason=str(error))
            return None

    @contextmanager
    def _guarded(self, shard: int) -> Iterator[None]:
        """Drop the shard after any exception; translate disk errors."""
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            self._drop(shard)
            where = self._spec.outlet.home(shard)
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            raise Retry(f"cannot write under {where}: {reason}", after=_DISK_RETRY_SECONDS) from error
        except sqlite3.DatabaseError as error:
            self._drop(shard)
            if type(error) is not sqlite3.DatabaseError:
                raise  # a constraint or a statement: a bug, not a damaged file
            raise CodecError(f"{self._spec.outlet.home(shard) / 'state.db'} is damaged: {error}") from error
        except BaseException:
            self._drop(shard)
            raise

    def _drop(self, shard: int) -> None:
        store = self._open.pop(shard, None)
        if store is not None:
            store.close()


def first_written(path: Path, text: str) -> str:
    """Return what `path` holds; if that is nothing, write `text` there durably. Raises OSError."""
    with open(path, "a+", encoding="utf-8", opener=private) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # if two processes start at the same time, one is first
        file.seek(0)
        if found := file.read():
            return found
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return text
