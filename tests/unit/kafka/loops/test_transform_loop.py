"""The transform loop over a session without Kafka."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import pytest

from libs.common.errors import DeadLetterLimit, Retry, ServerUnreachable
from libs.common.kafka.client.failures import OutputRefused
from libs.common.kafka.loops.transform_loop import PollPolicy, Transform, TransformLoop
from libs.common.kafka.records import CommitResult, Inbound, Listener, NextOffsets, Outbound, TopicPartition
from libs.common.kafka.testing import FakeSession, record
from libs.common.process.health import NO_PARTITIONS, Health
from libs.common.process.service import Stop
from tests.metric_values import since_now

TOPIC = TopicPartition("in", 0)


class _Copy(Transform):
    """Copies records; raises on those whose value is in `bad`; ends the loop after `last`."""

    def __init__(self, stop: Stop, last: int, bad: tuple[bytes, ...] = (), error: type[Exception] = ValueError) -> None:
        self._stop = stop
        self._last = last
        self._bad = bad
        self._error = error
        self.sizes: list[int] = []
        self._handled: list[bytes | None] = []
        self.noted: list[bytes | None] = []

    def committed(self) -> None:
        self.noted += self._handled

    def handle(self, batch: Sequence[Inbound]) -> list[Outbound]:
        self.sizes.append(len(batch))
        if any(r.value in self._bad for r in batch):
            raise self._error("bad")
        self._handled = [r.value for r in batch]
        return [Outbound("out", r.value) for r in batch]


class _World:
    def __init__(self, count: int, bad: tuple[bytes, ...] = (), error: type[Exception] = ValueError) -> None:
        self.stop, self.health = Stop(), Health()
        self.transform = _Copy(self.stop, count, bad, error)
        self.count = count
        self.prepare: Callable[[FakeSession], None] = lambda _: None
        self.session: FakeSession

    def run(self) -> FakeSession:
        loop = TransformLoop(self._make, self.transform, PollPolicy(0.0, 16, 1 << 30), "errors", "test")
        loop.run(self.stop, self.health)
        return self.session

    def _make(self, listener: Listener) -> FakeSession:
        self.session = _StoppingSession(listener, self.stop, self.count)
        self.session.feed(record("in", 0, i, b"%d" % i, (("h", b"v"),)) for i in range(self.count))
        self.prepare(self.session)
        return self.session


class _StoppingSession(FakeSession):
    """Sets `stop` when everything is committed, or after many polls."""

    def __init__(self, listener: Listener, stop: Stop, count: int) -> None:
        super().__init__(listener, [TOPIC])
        self._stop, self._count, self._polls = stop, count, 0

    def poll(self, max_records: int, seconds: float) -> list[Inbound]:
        self._polls += 1
        if self.next_offsets.get(TOPIC) == self._count or self._polls > 500:
            self._stop.set()
        return super().poll(max_records, seconds)


def _values(outputs: Sequence[Outbound]) -> list[bytes | None]:
    return [output.value for output in outputs]


def test_topics_that_do_not_fit_together_show_in_the_health() -> None:
    """The process is not ready for as long as partitions wait for another topic, and works on."""
    world = _World(40)
    reasons: list[str | None] = []

    class _Troubled(_StoppingSession):
        def commit(self, outputs: list[Outbound], offsets: NextOffsets) -> CommitResult:
            reasons.append(world.health.why_not_ready())
            self.is_troubled_by = "" if self.is_troubled_by else "in 9, out 6"
            return super().commit(outputs, offsets)

    def make(listener: Listener) -> FakeSession:
        session = _Troubled(listener, world.stop, 40)
        session.feed(record("in", 0, i, b"%d" % i) for i in range(40))
        return session

    TransformLoop(make, world.transform, PollPolicy(0.0, 16, 1 << 30), "errors", "test").run(world.stop, world.health)
    assert reasons == [None, "in 9, out 6", None]


def test_records_leave_once_and_in_order() -> None:
    """Every record is committed once, in order, in batches of the policy; then the loop is ready and closes its session."""
    world = _World(50)
    session = world.run()
    assert _values(session.outputs("out")) == [b"%d" % i for i in range(50)]
    assert max(world.transform.sizes) == 16
    assert world.health.why_not_ready() is None
    assert not session.is_open


def test_a_record_that_crashes_the_handler_goes_to_the_errors_topic_alone() -> None:
    """A crash costs one record: it is dead-lettered with bytes, headers and position; all others go through in order."""
    session = _World(50, bad=(b"7", b"31")).run()
    assert _values(session.outputs("out")) == [b"%d" % i for i in range(50) if i not in (7, 31)]
    first, second = session.outputs("errors")
    assert (first.value, second.value) == (b"7", b"31")
    headers = dict(first.headers)
    assert headers["code"] == b"handler_crash"
    assert (headers["source-topic"], headers["source-partition"], headers["source-offset"]) == (b"in", b"0", b"7")
    assert headers["original-h"] == b"v"


def test_a_bug_that_hits_every_record_stops_the_service() -> None:
    """When record after record crashes, the loop stops instead of draining the topic into the errors topic."""
    world = _World(200, bad=tuple(b"%d" % i for i in range(200)))
    with pytest.raises(DeadLetterLimit):
        world.run()
    assert len(world.session.outputs("errors")) < 20
    assert not world.session.is_open


def test_a_service_whose_every_output_kafka_refuses_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Kafka refuses record after record is a bug of the service, too: its topic is not drained into the errors topic."""
    world = _World(200)

    def commit(session: FakeSession, outputs: list[Outbound], offsets: NextOffsets) -> CommitResult:
        if any(output.topic == "out" for output in outputs):
            session.endings.appendleft(OutputRefused("no key"))
        return FakeSession.commit(session, outputs, offsets)

    monkeypatch.setattr(_StoppingSession, "commit", commit)
    with pytest.raises(DeadLetterLimit):
        world.run()
    assert len(world.session.outputs("errors")) < 20


def test_errors_that_concern_everything_are_not_blamed_on_a_record() -> None:
    """A server that is away or a limit that is reached stops the loop; no record is dead-lettered for it."""
    world = _World(5, bad=(b"3",), error=ServerUnreachable)
    with pytest.raises(ServerUnreachable):
        world.run()
    assert world.session.committed == []


def test_aborted_work_comes_again_and_is_never_given_up() -> None:
    """However often transactions abort, no record is lost, doubled or dead-lettered; after two aborts they get smaller."""
    world = _World(20)
    world.prepare = lambda session: session.endings.extend([CommitResult.ABORTED] * 15)
    session = world.run()
    assert _values(session.outputs("out")) == [b"%d" % i for i in range(20)]
    assert session.outputs("errors") == []
    assert world.transform.sizes[:4] == [16, 16, 8, 8]


def test_the_service_is_ready_only_while_it_has_an_assignment() -> None:
    """Not before the first, nor after its partitions were taken or lost; an assignment of none is one."""
    world = _World(0)
    ready: list[str | None] = []

    class _Rebalancing(_StoppingSession):
        def poll(self, max_records: int, seconds: float) -> list[Inbound]:
            ready.append(world.health.why_not_ready())
            super().poll(max_records, seconds)
            ready.append(world.health.why_not_ready())
            self.revoke([TOPIC])
            ready.append(world.health.why_not_ready())
            self._listener.assigned(frozenset())
            ready.append(world.health.why_not_ready())
            world.stop.set()
            return []

    TransformLoop(
        lambda listener: _Rebalancing(listener, world.stop, 0), world.transform, PollPolicy(0.0, 16, 1 << 30), "errors", "test"
    ).run(world.stop, world.health)
    assert ready == [NO_PARTITIONS, None, NO_PARTITIONS, None]


def test_the_transform_is_told_what_is_committed_and_nothing_else() -> None:
    """Batches that abort or crash are handled again, but the transform hears of every record once, when it is committed."""
    world = _World(20, bad=(b"7",))
    world.prepare = lambda session: session.endings.extend([CommitResult.ABORTED] * 3)
    session = world.run()
    assert world.transform.noted == _values(session.outputs("out")) == [b"%d" % i for i in range(20) if i != 7]


def test_a_record_whose_output_kafka_refuses_is_found_and_dead_lettered() -> None:
    """An output that can never be written condemns its record after halving, not the batch around it."""
    world = _World(40)

    class _Refusing(_StoppingSession):
        def commit(self, outputs: list[Outbound], offsets: NextOffsets) -> CommitResult:
            if any(o.topic == "out" and o.value == b"13" for o in outputs):
                self.endings.appendleft(OutputRefused("too large"))
            return super().commit(outputs, offsets)

    def make(listener: Listener) -> FakeSession:
        world.session = _Refusing(listener, world.stop, world.count)
        world.session.feed(record("in", 0, i, b"%d" % i) for i in range(world.count))
        return world.session

    TransformLoop(make, world.transform, PollPolicy(0.0, 16, 1 << 30), "errors", "test").run(world.stop, world.health)
    assert _values(world.session.outputs("out")) == [b"%d" % i for i in range(40) if i != 13]
    assert _values(world.session.outputs("errors")) == [b"13"]


def test_the_transform_loads_and_forgets_with_its_partitions() -> None:
    """It is told of partitions before a record of them comes, again if it could not load, and of those that left."""
    world = _World(3)
    told: list[str] = []

    class _Loading(_Copy):
        def assigned(self, partitions: Collection[TopicPartition], between: Callable[[], None]) -> None:
            between()
            told.append(f"assigned {sorted(source.partition for source in partitions)}")

        def revoked(self, partitions: Collection[TopicPartition]) -> None:
            told.append(f"revoked {sorted(source.partition for source in partitions)}")

        def handle(self, batch: Sequence[Inbound]) -> list[Outbound]:
            told.append(f"handle {len(batch)}")
            return super().handle(batch)

        def tick(self, health: Health) -> None:
            health.note("ticks", "it ticks")

    world.transform = _Loading(world.stop, 3)
    world.run().revoke([TOPIC])
    assert told == ["assigned [0]", "handle 3", "revoked [0]"]
    assert world.health.notes() == ["it ticks"]


def test_a_transform_that_is_loading_is_left_when_the_process_is_to_end() -> None:
    """What `between` raises then is no error: the session leaves, too, and would ask again."""
    world = _World(1)
    world.stop.set()
    loop = TransformLoop(world._make, world.transform, PollPolicy(0.0, 16, 1 << 30), "errors", "test")
    loop.run(world.stop, world.health)
    listener = world.session._listener

    class _Slow(_Copy):
        def assigned(self, partitions: Collection[TopicPartition], between: Callable[[], None]) -> None:
            del partitions
            between()

    listener._transform = _Slow(world.stop, 1)  # type: ignore[attr-defined]
    with pytest.raises(Retry):
        listener.assigned([TOPIC])


class _Waiting(_Copy):
    """Raises what is in `faults`, by the name of the method, and keeps a log of what it is asked."""

    def __init__(self, stop: Stop, last: int, faults: dict[str, list[Exception]]) -> None:
        super().__init__(stop, last)
        self._faults = faults
        self.log: list[str] = []
        self.now = 0.0

    def _ask(self, what: str, said: str) -> None:
        self.log.append(f"{self.now:g} {said}")
        if faults := self._faults.get(what):
            raise faults.pop(0)

    def handle(self, batch: Sequence[Inbound]) -> list[Outbound]:
        self._ask("handle", f"handle {len(batch)}")
        return super().handle(batch)

    def assigned(self, partitions: Collection[TopicPartition], between: Callable[[], None]) -> None:
        between()
        self._ask("assigned", f"assigned {len(partitions)}")

    def rewound(self, partitions: Collection[TopicPartition], between: Callable[[], None]) -> None:
        between()
        self._ask("rewound", f"rewound {len(partitions)}")

    def tick(self, health: Health) -> None:
        del health
        if self._faults.get("tick"):
            self._ask("tick", "tick")


class _Waits:
    """A loop whose polls take time on a clock of its own; notes what probes see in each of them, and whether it is paused."""

    def __init__(self, count: int, **faults: list[Exception]) -> None:
        self.count = count
        self.stop = Stop()
        self.transform = _Waiting(self.stop, count, faults)
        self.health = Health(lambda: self.transform.now)
        self.polls: list[tuple[str | None, bool]] = []
        self.on_poll: Callable[[], None] = lambda: None

    def run(self) -> FakeSession:
        loop = TransformLoop(
            self._make, self.transform, PollPolicy(0.0, 16, 1 << 30), "errors", "test", clock=lambda: self.transform.now
        )
        loop.run(self.stop, self.health)
        return self.session

    def _make(self, listener: Listener) -> FakeSession:
        waits = self

        class Timed(_StoppingSession):
            def poll(self, max_records: int, seconds: float) -> list[Inbound]:
                assert waits.health.alive()
                waits.polls.append((waits.health.why_not_ready(), self.is_paused))
                waits.transform.now += seconds
                waits.on_poll()
                return super().poll(max_records, seconds)

        self.session = Timed(listener, self.stop, self.count)
        self.session.feed(record("in", 0, i, b"%d" % i) for i in range(self.count))
        return self.session


def test_work_that_asks_for_time_comes_again_and_blames_no_record() -> None:
    """After Retry the loop polls paused, alive and not ready with the reason; then the same batch is handled and committed."""
    retries = since_now("blobtide_kafka_transform_retries_total")
    waits = _Waits(20, handle=[Retry("no answer", after=80.0), Retry("no answer", after=1.0)])
    session = waits.run()
    assert waits.transform.log[:4] == ["0 assigned 1", "0 handle 16", "80 handle 16", "81 handle 16"]
    assert _values(session.outputs("out")) == [b"%d" % i for i in range(20)]
    assert session.outputs("errors") == []
    waited = [poll for poll in waits.polls if poll[1]]
    assert set(waited) == {("work waits: no answer", True)}
    assert len(waited) >= 81 / 0.2
    assert waits.health.why_not_ready() is None
    assert not session.is_paused
    assert retries() == 2


def test_a_bad_record_is_found_although_the_world_fails_between() -> None:
    """Retry changes nothing about the search for the record on which the transform crashes."""
    waits = _Waits(20, handle=[ValueError("bad"), Retry("no answer"), ValueError("bad"), Retry("no answer")])
    waits.transform._bad = (b"5",)
    session = waits.run()
    assert _values(session.outputs("errors")) == [b"5"]
    assert _values(session.outputs("out")) == [b"%d" % i for i in range(20) if i != 5]


def test_nothing_is_committed_of_partitions_that_left_while_work_waited() -> None:
    """Their records leave the batch that waits, and no reason for not being ready stays behind."""
    waits = _Waits(20, handle=[Retry("no answer", after=5.0)])

    def revoke() -> None:
        if waits.transform.now >= 1.0 and waits.session.owned():
            waits.session.revoke([TOPIC])
        if waits.transform.now >= 6.0:
            waits.stop.set()

    waits.on_poll = revoke
    session = waits.run()
    assert session.committed == []
    assert waits.health.why_not_ready() == NO_PARTITIONS


def test_a_stop_ends_a_wait_and_commits_nothing() -> None:
    """A service that is told to end while work waits ends within a poll."""
    waits = _Waits(20, handle=[Retry("no answer", after=600.0)])

    def stop() -> None:
        if waits.transform.now >= 1.0:
            waits.stop.set()

    waits.on_poll = stop
    session = waits.run()
    assert waits.transform.now < 2.0
    assert session.committed == []
    assert not session.is_open


def test_a_tick_that_asks_for_time_is_called_again() -> None:
    """Nothing is handled before what is due by time is done; the loop waits as it does for a batch."""
    waits = _Waits(20, tick=[Retry("no answer", after=10.0)])
    session = waits.run()
    assert waits.transform.log[0] == "0 tick"
    assert next(line for line in waits.transform.log if "handle" in line) == "10 handle 16"
    assert ("work waits: no answer", True) in waits.polls
    assert _values(session.outputs("out")) == [b"%d" % i for i in range(20)]


def test_partitions_whose_state_cannot_be_had_now_are_not_read() -> None:
    """While `assigned` asks for time the process is not ready and says why; records come after it has returned."""
    waits = _Waits(3, assigned=[Retry("no answer"), Retry("no answer")])
    waits.run()
    assert [line.partition(" ")[2] for line in waits.transform.log] == ["assigned 1", "assigned 1", "assigned 1", "handle 3"]
    assert [reason for reason, _ in waits.polls[:4]] == [NO_PARTITIONS, *["partitions are waiting: no answer"] * 2, None]


def test_a_transform_is_told_that_its_work_comes_again() -> None:
    """After an aborted transaction `rewound` comes before the records do; it may ask for time as `assigned` may."""
    waits = _Waits(3, rewound=[Retry("no answer")])
    make = waits._make

    def aborting(listener: Listener) -> FakeSession:
        make(listener).endings.append(CommitResult.ABORTED)
        return waits.session

    waits._make = aborting  # type: ignore[method-assign]
    session = waits.run()
    assert [line.partition(" ")[2] for line in waits.transform.log] == [
        "assigned 1",
        "handle 3",
        "rewound 1",
        "rewound 1",
        "handle 3",
    ]
    assert "partitions are waiting: no answer" in [reason for reason, _ in waits.polls]
    assert _values(session.outputs("out")) == [b"0", b"1", b"2"]
    assert waits.health.why_not_ready() is None
