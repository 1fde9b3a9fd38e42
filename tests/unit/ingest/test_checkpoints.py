"""How checkpoints are loaded: in goes, and never from a half-read topic."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from libs.common.errors import Retry
from libs.common.kafka.records import Inbound
from services.ingest.pending.checkpoints import Checkpoints, LoadingTimes, StillLoading, Topic
from services.ingest.pending.places import Times
from tests.checkpoint_table import FakeLookup, FakeTable

POLL_INTERVAL = 300.0
RECORDS = 10


class _Topic:
    """A topic of which one record takes a while, and who reads it."""

    def __init__(self, seconds: float) -> None:
        self.now = 0.0
        self.seconds = seconds
        self.tables: list[FakeTable] = []
        topic = Topic(self._make, FakeLookup(self._records))
        self.checkpoints = Checkpoints(topic, LoadingTimes(30.0, POLL_INTERVAL), Times(lambda: self.now, lambda: self.now))

    def _make(self, apply: Callable[[Inbound], None]) -> FakeTable:
        self.tables.append(FakeTable(self._records, apply))
        return self.tables[-1]

    def _records(self) -> Iterator[Inbound]:
        for number in range(RECORDS):
            self.now += self.seconds
            yield Inbound("t", 0, number, 0, b"%d" % number, b"", ())

    def load(self, *partitions: int) -> int | None:
        """Load; None if it goes on with the next call."""
        began = self.now
        try:
            return self.checkpoints.load(partitions, lambda: None)
        except StillLoading:
            return None
        finally:
            assert self.now - began < POLL_INTERVAL * 2 / 3


def test_a_load_that_takes_longer_than_may_pass_between_polls_ends() -> None:
    """It is left in time to poll, goes on where it was when it is asked for again, and then is whole."""
    topic = _Topic(seconds=POLL_INTERVAL / 6)
    goes = [topic.load(0, 1)]
    while goes[-1] is None:
        goes.append(topic.load(1, 0))
    assert goes[-1] == RECORDS
    assert len(goes) > 2
    assert len(topic.tables) == 1
    assert not topic.tables[0].is_open


@pytest.mark.parametrize("how", ["others", "revoked", "late"])
def test_a_load_that_was_left_is_not_gone_on_with_when_things_have_changed(how: str) -> None:
    """Other partitions, such that went away, or a long time since: everything is read from the beginning."""
    topic = _Topic(seconds=POLL_INTERVAL / 4)
    assert topic.load(0) is None
    if how == "revoked":
        topic.checkpoints.forget([0])
    if how == "late":
        topic.now += POLL_INTERVAL + 1
    topic.seconds = 0.0
    assert topic.load(*([0, 1] if how == "others" else [0])) == RECORDS
    assert [table.is_open for table in topic.tables] == [False, False]


def test_partitions_that_are_loaded_in_turn_do_not_disturb_each_other() -> None:
    """New partitions and rewound ones may both take several goes."""
    topic = _Topic(seconds=POLL_INTERVAL / 6)
    sets = [(0,), (1,)]
    for _ in range(RECORDS):
        sets = [partitions for partitions in sets if topic.load(*partitions) is None]
    assert sets == []
    assert [table.partitions for table in topic.tables] == [{0}, {1}]


def test_what_was_put_after_a_load_is_gone_after_the_next() -> None:
    """A rewind reads what is committed, and nothing else."""
    topic = _Topic(seconds=0.0)
    topic.load(0)
    topic.checkpoints.put(0, b"uncommitted", b"value")
    assert topic.load(0) == RECORDS


def test_a_process_that_is_to_end_leaves_its_load() -> None:
    """What the caller raises is raised, and nothing stays open."""
    topic = _Topic(seconds=0.0)

    def leave() -> None:
        raise Retry("ingest ends")

    with pytest.raises(Retry, match="ingest ends"):
        topic.checkpoints.load([0], leave)
    assert not topic.tables[0].is_open
