"""Play commits to storage: on time or as fast as possible, many sources at once, each in order.

A demo continues where it was stopped: commits of an earlier run are recognised, and not made again. How, and how a commit is
made so that repeating it changes nothing, depends on the kind of blob (`BlockLists`, `applogs.appends.Appends`). If storage
becomes unavailable, the player waits for as long as the writer's retry policy allows.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Generic, Protocol, TypeVar

from libs.common.azure.storage.writer import Target
from libs.common.messages.blobs import BlobId
from libs.common.process.service import Stop
from libs.demo.commits import Action, MinuteCommit

TRACKS: Final = 8
_QUEUED_PER_LANE: Final = 32
_LOOK_AROUND_SECONDS: Final = 0.2
_GRACE_SECONDS: Final = 5.0  # for requests in flight after a stop


class Commit(Protocol):
    """One write to one blob."""

    @property
    def source(self) -> int:
        """Number of the interface or pod that writes; its commits are made in order."""

    @property
    def due(self) -> datetime:
        """When Azure or the writer would make it."""

    @property
    def rows(self) -> Sized:
        """The rows that it adds."""

    @property
    def size(self) -> int:
        """Bytes to upload."""


C = TypeVar("C", bound=Commit)
C_contra = TypeVar("C_contra", bound=Commit, contravariant=True)


class Writing(Protocol[C_contra]):
    """Makes commits. Each source belongs to one thread."""

    def write(self, commit: C_contra) -> bool:
        """Make `commit`; return False if storage has it already."""

    def close(self) -> None:
        """End waits between retries."""


class BlockStorage(Protocol):
    """The part of a `BlobWriter` that writes block lists."""

    def block_ids(self, target: Target) -> tuple[str, ...]:
        """Return the ids of the committed blocks; none if there is no blob."""

    def stage_block(self, target: Target, block_id: str, data: bytes) -> None:
        """Upload a block."""

    def commit_blocks(self, target: Target, block_ids: Sequence[str]) -> None:
        """Make the blob consist of these blocks."""

    def close(self) -> None:
        """End waits between retries."""


class BlockLists:
    """Commits of block lists. Each names all blocks of its blob, so that repeating it changes nothing."""

    def __init__(self, storage: BlockStorage) -> None:
        self._storage = storage
        self._present: dict[BlobId, frozenset[str]] = {}  # blocks that a blob had when first seen

    def write(self, commit: MinuteCommit) -> bool:
        """Make `commit`; return False if storage has it already."""
        target = Target(commit.blob.container, commit.blob.name)
        if commit.blob not in self._present:
            self._present[commit.blob] = frozenset(self._storage.block_ids(target))
        present = self._present[commit.blob]
        new = any(block.id not in present for block in commit.staged)
        if new:
            for block in commit.staged:
                self._storage.stage_block(target, block.id, block.data)
            self._storage.commit_blocks(target, commit.block_ids)
        if commit.action is Action.FINISH:
            del self._present[commit.blob]
        return new

    def close(self) -> None:
        """End waits between retries."""
        self._storage.close()


@dataclass(frozen=True, slots=True)
class PlaybackPace:
    """When to make commits. At speed 60, a minute lasts a second; at speed 0, nothing waits."""

    speed: float = 60.0
    never_ahead_of_clock: bool = False
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], object] = time.sleep

    def moment(self, commit: Commit, first: Commit, started: float) -> float:
        """Return the clock time at which `commit` is due if `first` was due at `started`."""
        by_speed = started + (commit.due - first.due).total_seconds() / self.speed if self.speed else started
        return max(by_speed, commit.due.timestamp()) if self.never_ahead_of_clock else by_speed


@dataclass(frozen=True, slots=True)
class Played:
    """The progress so far."""

    commits: int = 0
    already_there: int = 0  # of these
    rows: int = 0
    bytes: int = 0

    def plus(self, commit: Commit, *, new: bool) -> Played:
        """Return the sum with one more commit."""
        return replace(
            self,
            commits=self.commits + 1,
            already_there=self.already_there + (not new),
            rows=self.rows + len(commit.rows),
            bytes=self.bytes + commit.size,
        )


class Player(Generic[C]):
    """Plays commits. `on_commit` is called for each one that is in storage, from the player's threads, one call at a time."""

    def __init__(
        self, writing: Writing[C], pace: PlaybackPace, on_commit: Callable[[C, Played], None] = lambda _commit, _played: None
    ) -> None:
        self._writing = writing
        self._pace = pace
        self._on_commit = on_commit
        self._lock = threading.Lock()
        self._played = Played()

    def play(self, commits: Iterable[C], stop: Stop) -> Played:
        """Make `commits` until they end or `stop` is set; then finish those that have begun and drop the rest.

        Raises:
            StorageError: if storage refused one or stayed unavailable; commits of other sources may have followed.
        """
        halt = threading.Event()
        tracks = [_Track(self._writing, self._note, halt) for _ in range(TRACKS)]
        for track in tracks:
            track.start()
        try:
            if not self._hand_out(commits, tracks, lambda: stop.is_set() or halt.is_set()):
                halt.set()
        except BaseException:
            halt.set()
            raise
        finally:
            self._wait_for(tracks, stop)
        for track in tracks:
            if track.failure is not None:
                raise track.failure
        return self._played

    def _hand_out(self, commits: Iterable[C], tracks: Sequence[_Track[C]], ended: Callable[[], bool]) -> bool:
        """Pass each commit to its source's track when it is due; return whether all were passed."""
        first: C | None = None
        started = self._pace.clock()
        for commit in commits:
            first = first or commit
            moment = self._pace.moment(commit, first, started)
            while (wait := moment - self._pace.clock()) > 0 and not ended():
                self._pace.sleep(min(wait, _LOOK_AROUND_SECONDS))
            while not ended() and not tracks[commit.source % TRACKS].offer(commit):
                pass
            if ended():
                return False
        return True

    def _wait_for(self, tracks: Sequence[_Track[C]], stop: Stop) -> None:
        """Wait for all tracks to finish; after a stop, no longer than storage needs to respond."""
        for track in tracks:
            track.end()
        give_up_at = None
        for track in tracks:
            while not track.join(_LOOK_AROUND_SECONDS):
                if stop.is_set() and give_up_at is None:
                    give_up_at = time.monotonic() + _GRACE_SECONDS
                if give_up_at is not None and time.monotonic() > give_up_at:
                    self._writing.close()

    def _note(self, commit: C, *, new: bool) -> None:
        with self._lock:
            self._played = self._played.plus(commit, new=new)
            self._on_commit(commit, self._played)


class _Track(Generic[C]):
    """The commits of some sources, made one after the other by one thread."""

    def __init__(self, writing: Writing[C], note: Callable[..., None], halt: threading.Event) -> None:
        self.failure: Exception | None = None
        self._writing = writing
        self._note = note
        self._halt = halt
        self._queue: queue.Queue[C | None] = queue.Queue(_QUEUED_PER_LANE)
        self._thread = threading.Thread(target=self._run, name="demo", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def offer(self, commit: C) -> bool:
        """Accept `commit`; return False if there is still no room after a short wait."""
        try:
            self._queue.put(commit, timeout=_LOOK_AROUND_SECONDS)
        except queue.Full:
            return False
        return True

    def end(self) -> None:
        """Signal that no more commits follow."""
        self._queue.put(None)

    def join(self, seconds: float) -> bool:
        """Wait for the thread to end; return whether it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (commit := self._queue.get()) is not None:
            if self._halt.is_set():
                continue  # dropped: accepted but not begun
            try:
                self._note(commit, new=self._writing.write(commit))
            except Exception as error:  # noqa: BLE001 - raised again by Player.play in the caller's thread
                self.failure = error
                self._halt.set()
