"""The player: order, pace, resuming, failing and stopping, against a storage of dictionaries."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from libs.common.azure.storage.api import StorageUnavailable
from libs.common.azure.storage.writer import Target
from libs.common.messages.blobs import BlobId
from libs.common.process.service import Stop
from libs.demo.commits import Action, MinuteCommit, collect
from libs.demo.estate import Estate
from libs.demo.player import BlockLists, PlaybackPace, Played, Player
from libs.demo.spec import EstateSpec

SPEC = EstateSpec(nics=10, tuples_per_minute=5, minutes=62)


@dataclass
class Shelf:
    """A storage account in memory that keeps the rules of block lists."""

    staged: dict[tuple[Target, str], bytes] = field(default_factory=dict)
    committed: dict[Target, dict[str, bytes]] = field(default_factory=dict)
    commits: int = 0
    before_commit: Callable[[int], None] = lambda _number: None
    lock: threading.Lock = field(default_factory=threading.Lock)
    closed: bool = False

    def block_ids(self, target: Target) -> tuple[str, ...]:
        """Return what is committed."""
        return tuple(self.committed.get(target, ()))

    def stage_block(self, target: Target, block_id: str, data: bytes) -> None:
        """Keep a block aside."""
        self.staged[target, block_id] = data

    def commit_blocks(self, target: Target, block_ids: Sequence[str]) -> None:
        """Make the blob of blocks staged or committed before."""
        with self.lock:
            self.commits += 1
            self.before_commit(self.commits)
            there = self.committed.get(target, {})
            blocks = {block: self.staged.pop((target, block), b"") or there[block] for block in block_ids}
            assert len(blocks) >= len(there), "a blob shrank"
            self.committed[target] = blocks

    def close(self) -> None:
        """Note it."""
        self.closed = True

    def blobs(self) -> dict[BlobId, bytes]:
        """Return the content of all blobs."""
        return {BlobId("demo.local", t.container, t.name): b"".join(blocks.values()) for t, blocks in self.committed.items()}


def play(
    shelf: Shelf,
    heard: list[MinuteCommit] | None = None,
    pace: PlaybackPace = PlaybackPace(0),  # noqa: B008
    stop: Stop | None = None,
) -> Played:
    """Play the estate on `shelf`."""
    on_commit = lambda commit, _: heard.append(commit) if heard is not None else None  # noqa: E731
    return Player(BlockLists(shelf), pace, on_commit).play(Estate(SPEC).commits(), stop or Stop())


def test_storage_ends_up_with_the_estates_bytes() -> None:
    """Everything is committed, each blob in order, and heard of once, with the truth that belongs to it."""
    shelf = Shelf()
    heard: list[MinuteCommit] = []
    played = play(shelf, heard)
    logs = collect(Estate(SPEC).commits())
    assert shelf.blobs() == logs.blobs
    assert collect(heard).truth.num_rows == logs.truth.num_rows == played.rows
    assert played.commits == len(heard) == shelf.commits
    assert played.already_there == 0


def test_a_second_run_changes_nothing_and_goes_on() -> None:
    """What is there is skipped, its truth is told again, and growth goes on where the first run was stopped."""
    shelf, stop = Shelf(), Stop()
    shelf.before_commit = lambda number: stop.set() if number == 200 else None
    first = play(shelf, stop=stop)
    assert first.commits < 300
    begun = shelf.commits
    heard: list[MinuteCommit] = []
    second = play(shelf, heard)
    assert shelf.blobs() == collect(Estate(SPEC).commits()).blobs
    assert second.already_there == first.commits == begun
    assert second.commits == shelf.commits == len(heard)


def test_a_refusal_stops_everything_and_is_raised() -> None:
    """When storage refuses for good, the player stops soon and says what storage said."""

    def refuse(number: int) -> None:
        if number >= 50:
            raise StorageUnavailable("storage answered 403")

    shelf = Shelf(before_commit=refuse)
    with pytest.raises(StorageUnavailable, match="403"):
        play(shelf)
    assert shelf.commits < 60


def test_a_stop_does_not_wait_for_storage_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a stop the waits between retries are ended by closing the storage."""
    monkeypatch.setattr("libs.demo.player._GRACE_SECONDS", 0.0)
    stop, shelf = Stop(), Shelf()
    away = threading.Event()

    def wait(_number: int) -> None:
        stop.set()
        away.wait()
        raise StorageUnavailable("gave up: closing")

    shelf.before_commit = wait
    monkeypatch.setattr(shelf, "close", away.set)
    with pytest.raises(StorageUnavailable, match="closing"):
        play(shelf, stop=stop)


@dataclass
class Time:
    """A clock that only sleeping moves."""

    now: float

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def test_speed_decides_when_commits_are_given_out() -> None:
    """At speed 60 a minute of log time takes a second."""
    time = Time(0.0)
    heard: list[MinuteCommit] = []
    play(Shelf(), heard, PlaybackPace(60, clock=lambda: time.now, sleep=time.sleep))
    span = max(commit.due for commit in heard) - min(commit.due for commit in heard)
    assert time.now == pytest.approx(span.total_seconds() / 60, abs=2)


def test_the_clock_is_never_overtaken() -> None:
    """Following, what is past comes at speed and what is due later waits for its time."""
    start = SPEC.start.timestamp()
    time = Time(start + 30 * 60)
    given: list[float] = []
    pace = PlaybackPace(0, never_ahead_of_clock=True, clock=lambda: time.now, sleep=time.sleep)
    player = Player(BlockLists(Shelf()), pace, lambda commit, _: given.append(time.now - commit.due.timestamp()))
    player.play(Estate(SPEC).commits(), Stop())
    assert min(given) >= 0
    assert time.now - start > 60 * 60


def test_actions_are_heard_in_the_order_of_a_blobs_life() -> None:
    """A blob is opened or created first and finished last."""
    heard: list[MinuteCommit] = []
    play(Shelf(), heard)
    lives: dict[BlobId, list[Action]] = {}
    for commit in heard:
        lives.setdefault(commit.blob, []).append(commit.action)
    assert {life[0] for life in lives.values()} == {Action.OPEN, Action.CREATE}
    for blob, life in lives.items():
        assert (life[-1] is Action.FINISH) == ("/h=12/" in blob.name)
