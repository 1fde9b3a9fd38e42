"""The poll policy."""

from __future__ import annotations

from libs.common.kafka.loops.batching import Collector, PollPolicy
from libs.common.kafka.records import Inbound, TopicPartition
from libs.common.kafka.testing import record


class _Slices:
    """Answers polls from a script and moves the clock as a real poll would."""

    def __init__(self, *slices: list[Inbound]) -> None:
        self.slices = list(slices)
        self.now = 0.0
        self.asked: list[tuple[int, float]] = []

    def poll(self, count: int, seconds: float) -> list[Inbound]:
        self.asked.append((count, seconds))
        self.now += seconds
        return self.slices.pop(0) if self.slices else []


def _records(count: int, size: int = 10, partition: int = 0, start: int = 0) -> list[Inbound]:
    return [record("t", partition, start + i, b"x" * size) for i in range(count)]


def test_a_batch_ends_when_its_time_is_over() -> None:
    """Time runs from the first record: empty slices before it do not count."""
    source = _Slices([], [], _records(1), _records(1, start=1))
    collector = Collector(source.poll, PollPolicy(seconds=0.5, messages=100, bytes=10_000), lambda: source.now)
    batches = [collector.step() for _ in range(6)]
    assert [len(batch) for batch in batches] == [0, 0, 0, 0, 0, 2]
    assert source.now == 0.2 * 3 + 0.2 + 0.2 + 0.1


def test_a_batch_ends_at_its_count_and_never_asks_for_more() -> None:
    """The count limit is exact: a slice is asked for no more than what is missing."""
    source = _Slices(_records(3), _records(2, start=3))
    collector = Collector(source.poll, PollPolicy(seconds=5, messages=5, bytes=1 << 30), lambda: source.now)
    assert collector.step() == []
    assert len(collector.step()) == 5
    assert [count for count, _ in source.asked] == [5, 2]


def test_a_batch_ends_at_its_bytes_and_a_slice_cannot_bring_much_more() -> None:
    """The byte limit closes a batch; how many records a slice asks for follows their mean size."""
    source = _Slices(_records(8, size=1_000), _records(2, size=1_000, start=8))
    collector = Collector(source.poll, PollPolicy(seconds=5, messages=10_000, bytes=10_000), lambda: source.now)
    assert collector.step() == []
    assert len(collector.step()) == 10
    assert source.asked[1][0] <= 4


def test_what_is_revoked_is_forgotten() -> None:
    """Records of partitions that left are dropped, the others stay."""
    source = _Slices(_records(2) + _records(3, partition=1))
    collector = Collector(source.poll, PollPolicy(seconds=5, messages=100, bytes=1 << 30), lambda: source.now)
    collector.step()
    collector.forget({TopicPartition("t", 0)})
    assert {r.partition for r in collector.take()} == {1}
    assert collector.take() == []
