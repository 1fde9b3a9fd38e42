"""Which offsets may be committed, and which blob comes next."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from libs.common.kafka.records import TopicPartition
from libs.common.messages.blobs import BlobId
from libs.common.work.fair_queues import LONGEST_REST_SECONDS, Answering, FairQueues
from services.ingest.pending import backlog as module
from services.ingest.pending.backlog import Arrival, Backlog, PendingBlob
from services.ingest.work import Announcement


def partition(number: int) -> TopicPartition:
    """Return a partition of the announcements."""
    return TopicPartition("blobs", number)


def announcement(number: int, account: str = "s.e") -> Announcement:
    """Return an announcement of a blob."""
    return Announcement(BlobId(account, "logs", f"blob-{number}"), "0x1", 10)


class BacklogMachine(RuleBasedStateMachine):
    """Compares the backlog with a model that keeps every event."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.backlog = Backlog(concurrency=2, clock=lambda: self.now)
        self.next: defaultdict[TopicPartition, int] = defaultdict(lambda: 100)
        self.unfinished: dict[TopicPartition, dict[int, str]] = defaultdict(dict)  # offset: blob
        self.seen: set[TopicPartition] = set()
        self.taken: list[tuple[PendingBlob, dict[TopicPartition, set[int]]]] = []

    @rule(blob=st.integers(0, 5), account=st.sampled_from(["s.e", "s.f"]))
    def event(self, blob: int, account: str) -> None:
        """An event about a blob comes."""
        source, told = partition(blob % 2), announcement(blob, account)
        offset = self.next[source]
        self.next[source] += 1
        self.seen.add(source)
        self.unfinished[source][offset] = str(told.blob)
        self.backlog.announce(source, Arrival(offset, self.now), told)

    @rule(number=st.integers(0, 1))
    def other(self, number: int) -> None:
        """An event comes that is finished at once."""
        source = partition(number)
        self.backlog.pass_over(source, self.next[source])
        self.next[source] += 1
        self.seen.add(source)

    @rule()
    def take(self) -> None:
        """A worker asks for work."""
        pending = self.backlog.take()
        if pending is not None:
            name = str(pending.announcement.blob)
            assert all(name != str(other.announcement.blob) or not self.backlog.is_current(other) for other, _ in self.taken)
            covered = {source: {o for o, b in events.items() if b == name} for source, events in self.unfinished.items()}
            self.taken.append((pending, covered))

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), how=st.sampled_from(["finish", "settle", "go_on", "put_off", "turn_away", "set_aside"]))
    def give_back(self, data: st.DataObject, how: str) -> None:
        """A worker is done with a blob, for now or for good."""
        pending, covered = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
        if not self.backlog.is_current(pending):
            self.backlog.drop(pending)
        elif how in {"put_off", "turn_away"}:
            getattr(self.backlog, how)(pending, 1.0)
        else:
            getattr(self.backlog, how)(pending)
            for source, offsets in covered.items() if how in {"finish", "settle"} else ():
                for offset in offsets:
                    self.unfinished[source].pop(offset, None)

    @rule()
    def resume(self) -> None:
        """The turn of what was set aside has come."""
        self.backlog.resume()

    @rule(number=st.integers(0, 1))
    def revoke(self, number: int) -> None:
        """A partition leaves."""
        source = partition(number)
        self.backlog.forget([source])
        self.unfinished[source].clear()
        self.seen.discard(source)

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @invariant()
    def offsets_are_the_finished_prefix(self) -> None:
        """What may be committed is exactly the first unfinished event of each partition, or its end."""
        expected = {source: min(self.unfinished[source], default=self.next[source]) for source in self.seen}
        assert self.backlog.next_offsets() == expected

    def teardown(self) -> None:
        """In the end everything can be taken and finished."""
        for taken, _ in self.taken:
            (self.backlog.finish if self.backlog.is_current(taken) else self.backlog.drop)(taken)
        self.backlog.resume()
        self.now += 10 * LONGEST_REST_SECONDS
        while (pending := self.backlog.take()) is not None:
            self.backlog.finish(pending)
        assert len(self.backlog) == 0
        assert self.backlog.next_offsets() == {source: self.next[source] for source in self.seen}


BacklogMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
TestBacklog = BacklogMachine.TestCase


def test_an_account_that_does_not_answer_rests_and_leaves_threads_to_others() -> None:
    """After three failures an account waits; before that it is tried with one blob at a time; others are not held up."""
    lanes = FairQueues(concurrency=4)
    for number in range(10):
        lanes.put("dead", b"d%d" % number)
        lanes.put("live", b"l%d" % number)
    first = [lanes.take(0.0) for _ in range(8)]
    assert sum(key is not None and key.startswith(b"d") for key in first) == 3
    for _ in range(3):
        lanes.failed("dead", 0.0, after=1.0)
    assert lanes.resting("dead")
    assert all((lanes.take(1.0) or b"l").startswith(b"l") for _ in range(20))
    for _ in range(3):
        lanes.succeeded("live")
    assert lanes.take(30.0) is not None
    keys = [lanes.take(LONGEST_REST_SECONDS) for _ in range(20)]
    assert sum(key is not None and key.startswith(b"d") for key in keys) <= 1
    assert lanes.succeeded("dead") is Answering.AGAIN


def test_a_full_backlog_says_so_but_a_resting_account_may_hold_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answering account has a bound; one that rests only has the bound of all together."""
    monkeypatch.setattr(module, "MOST_BLOBS_OF_ACCOUNT", 5)
    monkeypatch.setattr(module, "MOST_BLOBS", 12)
    backlog = Backlog(concurrency=8, clock=lambda: 0.0)
    for number in range(5):
        backlog.announce(partition(0), Arrival(number, 0.0), announcement(number))
    assert backlog.full()
    for _ in range(3):
        pending = backlog.take()
        assert pending is not None
        backlog.put_off(pending, 1.0)
    assert not backlog.full()
    for number in range(5, 12):
        backlog.announce(partition(0), Arrival(number, 0.0), announcement(number))
    assert backlog.full()


def fill(backlog: Backlog, *names: str) -> None:
    """Announce blobs in this order."""
    for offset, name in enumerate(names):
        backlog.announce(partition(0), Arrival(offset, 0.0), Announcement(BlobId("s.e", "logs", name), "0x1", 10))


def test_blobs_that_storage_refuses_hold_up_no_others_of_their_account() -> None:
    """However many are refused, the rest of the account is read without waiting; the refused ones come again, ever later."""
    now = [0.0]
    backlog = Backlog(concurrency=4, clock=lambda: now[0])
    fill(backlog, *(f"denied{n}" for n in range(30)), *(f"good{n}" for n in range(100)))
    told = 0
    while (pending := backlog.take()) is not None:
        if pending.announcement.blob.name.startswith("good"):
            backlog.finish(pending)
        else:
            told += backlog.turn_away(pending, 30.0) is Answering.REFUSES
    assert (len(backlog), told) == (30, 1)
    now[0] = 30.0
    assert sum(backlog.take() is not None for _ in range(8)) == 8


def test_it_is_starved_only_while_no_account_gives_anything() -> None:
    """An account that rests, or refuses all it is asked for, starves the backlog if no other has blobs to try."""
    backlog = Backlog(concurrency=4, clock=lambda: 0.0)
    assert backlog.starved_by() == []
    fill(backlog, "a", "b")
    for _ in range(2):
        assert backlog.starved_by() == []
        pending = backlog.take()
        assert pending is not None
        backlog.turn_away(pending, 30.0)
    assert backlog.starved_by() == ["s.e"]
    other = Announcement(BlobId("s.f", "logs", "c"), "0x1", 10)
    backlog.announce(partition(0), Arrival(2, 0.0), other)
    assert backlog.starved_by() == []
    for offset in (3, 4):
        backlog.announce(partition(0), Arrival(offset, 0.0), replace(other, blob=BlobId("s.f", "logs", f"c{offset}")))
    for pending in [backlog.take() for _ in range(3)]:
        assert pending is not None
        backlog.put_off(pending, 30.0)
    assert backlog.starved_by() == ["s.e", "s.f"]
    backlog.forget([partition(0)])
    assert backlog.starved_by() == []


def test_refused_blobs_leave_the_room_of_their_account_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits counts only against the room of all accounts together."""
    monkeypatch.setattr(module, "MOST_BLOBS_OF_ACCOUNT", 5)
    backlog = Backlog(concurrency=8, clock=lambda: 0.0)
    fill(backlog, *(f"denied{n}" for n in range(5)))
    assert backlog.full()
    pending = backlog.take()
    assert pending is not None
    backlog.turn_away(pending, 30.0)
    assert not backlog.full()


def test_an_account_rests_as_long_as_storage_asks_for() -> None:
    """Only our own steps have a limit."""
    lanes = FairQueues(concurrency=4)
    lanes.put("a", b"a")
    for _ in range(20):
        lanes.failed("a", 0.0, after=1.0)
    assert lanes.failed("a", 0.0, after=1.0) == LONGEST_REST_SECONDS
    assert lanes.failed("a", 0.0, after=3600.0) == 3600.0
    assert lanes.take(3599.0) is None


def test_forgotten_blobs_leave_nothing_behind() -> None:
    """Partitions that are rewound again and again while an account rests do not make its queue longer."""
    backlog = Backlog(concurrency=4, clock=lambda: 0.0)
    for _ in range(5):
        fill(backlog, "a", "b", "c")
        if (pending := backlog.take()) is not None:
            backlog.put_off(pending, 1.0)
        backlog.forget([partition(0)])
    assert backlog._queues.waiting("s.e") == 0
    assert not backlog._queues._queue_of("s.e").ready
