"""Plays commits against storage: on time or as fast as it goes, many interfaces at once, each in order.

A commit names all blocks of its blob, so doing it again changes nothing: a retry never doubles a block. Before its first commit
to a blob the player asks which blocks are there and skips what an earlier run has done, so that a demo goes on where it was
stopped. Storage that goes away is waited for as long as the writer's retry policy says.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from libs.common.azure.storage.writer import Target
from libs.common.messages.blobs import BlobId
from libs.common.process.service import Stop
from libs.demo.commits import Action, MinuteCommit

TRACKS: Final = 8
_QUEUED_PER_LANE: Final = 32
_LOOK_AROUND_SECONDS: Final = 0.2
_GRACE_SECONDS: Final = 5.0  # for requests in flight after a stop


class Storage(Protocol):
    """What the player needs of a `BlobWriter`."""

    def block_ids(self, target: Target) -> tuple[str, ...]:
        """Return the ids of the committed blocks, none if there is no blob."""

    def stage_block(self, target: Target, block_id: str, data: bytes) -> None:
        """Upload a block."""

    def commit_blocks(self, target: Target, block_ids: Sequence[str]) -> None:
        """Make the blob of these blocks."""

    def close(self) -> None:
        """End waits between retries."""


@dataclass(frozen=True, slots=True)
class PlaybackPace:
    """When commits are done. Speed 60 makes a minute last a second; 0 waits for nothing."""

    speed: float = 60.0
    never_ahead_of_clock: bool = False
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], object] = time.sleep

    def moment(self, commit: MinuteCommit, first: MinuteCommit, started: float) -> float:
        """Return the clock's time at which `commit` is to be done if `first` was at `started`."""
        by_speed = started + (commit.due - first.due).total_seconds() / self.speed if self.speed else started
        return max(by_speed, commit.due.timestamp()) if self.never_ahead_of_clock else by_speed


@dataclass(frozen=True, slots=True)
class Played:
    """What has been done so far."""

    commits: int = 0
    already_there: int = 0  # of these
    tuples: int = 0
    bytes: int = 0

    def plus(self, commit: MinuteCommit, *, new: bool) -> Played:
        """Return the sum with one more commit."""
        return replace(
            self,
            commits=self.commits + 1,
            already_there=self.already_there + (not new),
            tuples=self.tuples + len(commit.rows),
            bytes=self.bytes + commit.size,
        )


# Called one at a time, from the player's threads, after a commit is in storage.
OnCommit = Callable[[MinuteCommit, Played], None]


class Player:
    """Plays commits. `on_commit` hears of each one that storage has."""

    def __init__(self, storage: Storage, pace: PlaybackPace, on_commit: OnCommit = lambda _commit, _played: None) -> None:
        self._storage = storage
        self._pace = pace
        self._on_commit = on_commit
        self._lock = threading.Lock()
        self._played = Played()

    def play(self, commits: Iterable[MinuteCommit], stop: Stop) -> Played:
        """Do `commits` until they end or `stop` is set; then finish those that have begun and drop the rest.

        Raises:
            StorageError: what storage refused, or that it stayed away; commits of other interfaces may have followed.
        """
        halt = threading.Event()
        tracks = [_Track(self._storage, self._note, halt) for _ in range(TRACKS)]
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

    def _hand_out(self, commits: Iterable[MinuteCommit], tracks: Sequence[_Track], ended: Callable[[], bool]) -> bool:
        """Give each commit to its interface's track in time; return whether all were given."""
        first, started = None, self._pace.clock()
        for commit in commits:
            first = first or commit
            moment = self._pace.moment(commit, first, started)
            while (wait := moment - self._pace.clock()) > 0 and not ended():
                self._pace.sleep(min(wait, _LOOK_AROUND_SECONDS))
            while not ended() and not tracks[commit.nic % TRACKS].offer(commit):
                pass
            if ended():
                return False
        return True

    def _wait_for(self, tracks: Sequence[_Track], stop: Stop) -> None:
        """Let all tracks come to their end; after a stop, not longer than storage needs to answer."""
        for track in tracks:
            track.end()
        give_up_at = None
        for track in tracks:
            while not track.join(_LOOK_AROUND_SECONDS):
                if stop.is_set() and give_up_at is None:
                    give_up_at = time.monotonic() + _GRACE_SECONDS
                if give_up_at is not None and time.monotonic() > give_up_at:
                    self._storage.close()

    def _note(self, commit: MinuteCommit, *, new: bool) -> None:
        with self._lock:
            self._played = self._played.plus(commit, new=new)
            self._on_commit(commit, self._played)


class _Track:
    """The commits of some interfaces, done one after the other by one thread."""

    def __init__(self, storage: Storage, note: Callable[..., None], halt: threading.Event) -> None:
        self.failure: Exception | None = None
        self._storage = storage
        self._note = note
        self._halt = halt
        self._queue: queue.Queue[MinuteCommit | None] = queue.Queue(_QUEUED_PER_LANE)
        self._present: dict[BlobId, frozenset[str]] = {}  # blocks that a blob had when it was first met
        self._thread = threading.Thread(target=self._run, name="demo", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def offer(self, commit: MinuteCommit) -> bool:
        """Take `commit`; return False if there is no room for a while."""
        try:
            self._queue.put(commit, timeout=_LOOK_AROUND_SECONDS)
        except queue.Full:
            return False
        return True

    def end(self) -> None:
        """Say that nothing more comes."""
        self._queue.put(None)

    def join(self, seconds: float) -> bool:
        """Wait for the end; return whether it has come."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (commit := self._queue.get()) is not None:
            if self._halt.is_set():
                continue  # dropped: what was given and not begun
            try:
                self._do(commit)
            except Exception as error:  # noqa: BLE001 - raised again by Player.play in the caller's thread
                self.failure = error
                self._halt.set()

    def _do(self, commit: MinuteCommit) -> None:
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
        self._note(commit, new=new)
