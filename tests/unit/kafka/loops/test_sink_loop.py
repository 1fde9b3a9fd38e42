"""The sink loop over fakes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import pytest

from libs.common.errors import DeadLetterLimit, Retry
from libs.common.kafka.loops.batching import PollPolicy
from libs.common.kafka.loops.limit import RejectionLimit
from libs.common.kafka.loops.sink_loop import Handled, SinkListener, SinkLoopSpec, SinkParts, SinkWork
from libs.common.kafka.loops.waiting import Held
from libs.common.kafka.records import Inbound, NextOffsets, TopicPartition
from libs.common.kafka.testing import record
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.process.health import NO_PARTITIONS, Health
from libs.common.process.service import Stop
from tests.metric_values import since_now

SPEC = SinkLoopSpec("g", ("t",), "errors", PollPolicy(0.0, 100, 1 << 30), dead_letter_limit=0.5)


class _World:
    """Source, handler and letters in one; keeps the order of what happened."""

    def __init__(self, *slices: list[Inbound]) -> None:
        self.slices = list(slices)
        self.stop, self.health = Stop(), Health()
        self.now = 0.0
        self.log: list[str] = []
        self.written: list[list[Inbound]] = []
        self.committed: list[NextOffsets] = []
        self.faults: list[Exception] = []
        self.letter_faults: list[Exception] = []
        self.reject: frozenset[bytes] = frozenset()
        self.revoke_while_paused: frozenset[TopicPartition] = frozenset()
        self.is_paused = False
        self.alive: list[bool] = []

    def run(self) -> None:
        held = Held()
        self.listener = SinkListener(self, held, self.health)
        SinkWork(SinkParts(self, self, self, held), SPEC, lambda: self.now).run(self.stop, self.health)

    def poll(self, max_records: int, seconds: float) -> list[Inbound]:
        del max_records
        self.now += seconds
        if self.is_paused:
            self.log.append("poll paused")
            if self.revoke_while_paused:
                gone, self.revoke_while_paused = self.revoke_while_paused, frozenset()
                self.listener.revoked(gone)
            return []
        if not self.slices:
            self.stop.set()
            return []
        return self.slices.pop(0)

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def commit(self, offsets: NextOffsets) -> None:
        self.log.append("commit")
        self.committed.append(offsets)

    def open(self) -> None: ...
    def close(self) -> None: ...
    def tick(self) -> None: ...

    def while_waiting(self, beat: Callable[[], None]) -> None:
        self.beat = beat

    def handle(self, batch: Sequence[Inbound]) -> Handled:
        self.log.append("handle")
        if self.faults:
            raise self.faults.pop(0)
        self.written.append(list(batch))
        return Handled(tuple(_letter(r) for r in batch if r.value in self.reject))

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        self.log.append(f"revoked {sorted(p.partition for p in partitions)}")

    def write(self, letters: Sequence[DeadLetter]) -> None:
        if letters:
            self.log.append("letters")
        if self.letter_faults:
            raise self.letter_faults.pop(0)


def _letter(source: Inbound) -> DeadLetter:
    return DeadLetter("sink.test", ErrorCode.REFUSED, "no", source.value or b"")


def _batch(partition: int, first: int, count: int) -> list[Inbound]:
    return [record("t", partition, first + i, b"%d" % (first + i)) for i in range(count)]


def test_offsets_are_committed_after_the_write_and_the_dead_letters() -> None:
    """The order is: write, dead letters, commit of the next offset of every partition in the batch."""
    world = _World(_batch(0, 5, 3) + _batch(1, 2, 1))
    world.reject = frozenset([b"6"])
    world.run()
    assert world.log == ["handle", "letters", "commit"]
    assert world.committed == [{TopicPartition("t", 0): 8, TopicPartition("t", 1): 3}]


def test_many_dead_letters_are_made_and_written_some_at_a_time() -> None:
    """A batch that is all rejected needs the memory of a portion of letters; what Kafka took is not written again."""
    world = _World(_batch(0, 0, 100))
    alive = 0

    class _Counted(DeadLetter):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    class _Lazy(Collection[DeadLetter]):
        def __len__(self) -> int:
            return 5_500

        def __contains__(self, letter: object) -> bool:
            raise NotImplementedError

        def __iter__(self) -> Iterator[DeadLetter]:
            nonlocal alive
            for _ in range(len(self)):
                alive += 1
                yield _Counted("sink.test", ErrorCode.REFUSED, "no", b"x" * 100)

    portions: list[int] = []

    def write(letters: Sequence[DeadLetter]) -> None:
        assert alive <= 2_001
        if world.letter_faults:
            raise world.letter_faults.pop()
        portions.append(len(letters))

    world.write = write  # type: ignore[method-assign]
    world.handle = lambda _: Handled(_Lazy(), 20_000, 5_500)  # type: ignore[method-assign, assignment]
    world.letter_faults = [Retry("away")]
    world.run()
    assert portions == [1_000] * 5 + [500]
    assert world.log[-1] == "commit"


def test_retry_hands_over_the_same_batch_while_polling_paused() -> None:
    """After Retry the loop polls paused until it is due and gives the same batch again; nothing is committed before."""
    world = _World(_batch(0, 0, 3))
    world.faults = [Retry("down", after=0.5), Retry("down", after=0.5)]
    world.run()
    assert world.log == ["handle", *["poll paused"] * 3, "handle", *["poll paused"] * 3, "handle", "commit"]
    assert world.written == [_batch(0, 0, 3)]
    assert not world.is_paused


def test_a_sink_whose_destination_is_away_is_not_ready_until_it_takes_the_batch() -> None:
    """While a batch waits, readiness says for what; after the write it is ready again, and retries are counted."""
    ready: list[str | None] = []

    class Watched(_World):
        def handle(self, batch: Sequence[Inbound]) -> Handled:
            ready.append(self.health.why_not_ready())
            return super().handle(batch)

    retries = since_now("blobtide_kafka_sink_retries_total")
    world = Watched(_batch(0, 0, 3))
    world.health.ready()
    world.faults = [Retry("no route"), Retry("no route")]
    world.run()
    assert ready == [None, *["a batch is waiting for its destination: no route"] * 2]
    assert world.health.why_not_ready() is None
    assert retries() == 2


def test_a_batch_that_left_while_it_waited_leaves_no_reason_behind() -> None:
    """A process that has nothing to write does not know that the destination is away."""
    world = _World(_batch(0, 0, 2))
    world.faults = [Retry("down", after=0.2)]
    world.revoke_while_paused = frozenset([TopicPartition("t", 0)])
    world.run()
    assert world.health.why_not_ready() == NO_PARTITIONS


def test_dead_letters_that_cannot_be_written_hold_the_commit_back() -> None:
    """While the errors topic is away nothing is committed and nothing is written again; then both follow."""
    world = _World(_batch(0, 0, 10))
    world.reject = frozenset([b"1"])
    world.letter_faults = [Retry("errors topic away", after=0.2)]
    world.run()
    assert [entry for entry in world.log if entry != "poll paused"] == ["handle", "letters", "letters", "commit"]


def test_a_revoked_partition_is_dropped_from_the_batch_that_waits() -> None:
    """Partitions that leave during a retry are neither written nor committed by this process; the handler is told."""
    world = _World(_batch(0, 0, 2) + _batch(1, 0, 2))
    world.faults = [Retry("down", after=0.2)]
    world.revoke_while_paused = frozenset([TopicPartition("t", 1)])
    world.run()
    assert world.written == [_batch(0, 0, 2)]
    assert world.committed == [{TopicPartition("t", 0): 2}]
    assert "revoked [1]" in world.log
    assert world.health.why_not_ready() == NO_PARTITIONS
    world.listener.assigned(frozenset())
    assert world.health.why_not_ready() is None


def test_a_long_write_stays_alive_and_in_the_group() -> None:
    """A handler that beats while it waits is alive and polls; a partition that leaves meanwhile is not committed."""

    class Slow(_World):
        def handle(self, batch: Sequence[Inbound]) -> Handled:
            for _ in range(20):
                self.now += 20
                self.beat()
                self.alive.append(self.health.alive())
            return super().handle(batch)

    world = Slow(_batch(0, 0, 2) + _batch(1, 0, 2))
    world.health = Health(lambda: world.now)
    world.revoke_while_paused = frozenset([TopicPartition("t", 1)])
    world.run()
    assert all(world.alive)
    assert world.log.count("poll paused") == 20
    assert world.committed == [{TopicPartition("t", 0): 2}]


def test_the_dead_letter_limit_stops_before_anything_is_committed() -> None:
    """More rejections than the limit allows stop the service; the batch is not committed and writes no dead letters."""
    world = _World(_batch(0, 0, 100), _batch(0, 100, 100))
    world.reject = frozenset(b"%d" % i for i in range(90, 200))
    with pytest.raises(DeadLetterLimit, match="dead_letter_limit"):
        world.run()
    assert world.committed == [{TopicPartition("t", 0): 100}]


def test_a_stop_during_a_retry_commits_nothing() -> None:
    """A service that is stopped while its destination is down ends at once and leaves the batch to be read again."""

    class Stopped(_World):
        def handle(self, batch: Sequence[Inbound]) -> Handled:
            del batch
            self.stop.set()
            raise Retry("down", after=60)

    world = Stopped(_batch(0, 0, 3))
    world.run()
    assert world.committed == []
    assert world.now < 1


@pytest.mark.parametrize(
    ("batches", "stops"),
    [
        ([(100, 50)], False),  # at the limit
        ([(100, 51)], True),
        ([(99, 99)], False),  # too few to judge
        ([(9_000, 0), (1_000, 1_000)], True),  # a run without any success
        ([(10_000, 0), (10_000, 5_000), (10_000, 5_001)], True),  # old success has left the window
    ],
)
def test_the_limit_judges_a_window_and_a_run(batches: list[tuple[int, int]], *, stops: bool) -> None:
    """The share is judged over a window of recent records, once there are enough; a long run stops whatever the share."""
    limit = RejectionLimit(0.5)

    def judge() -> None:
        for total, rejected in batches:
            limit.check(total, rejected)

    if stops:
        with pytest.raises(DeadLetterLimit):
            judge()
    else:
        judge()
