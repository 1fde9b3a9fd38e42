"""The recorder's loop, against a real HTTP server and a broker whose faults are under control."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from libs.common.kafka.records import Listener, Outbound
from libs.common.messages.blobs import partition_of
from libs.common.messages.events import SourceState, decode_event
from libs.common.process.health import Health
from libs.common.process.service import Stop
from libs.common.process.watch import Watch
from libs.common.rows.types.snapshots import SNAPSHOTS
from libs.common.rows.wire import decode_rows
from libs.common.settings.kafka import TopicSettings
from libs.common.settings.recorder import HttpSourceSettings
from services.recorder.app import Recorder, RecorderParts
from services.recorder.asking import HttpPoller, PollClock
from services.recorder.rows import SnapshotWriter
from tests.answer_server import AnswerServer, Reply, answering
from tests.entries import entries_in
from tests.metric_values import since_now
from tests.monitor_world import PARTITIONS, Broker, FakeSession, FakeTable

TOPICS = TopicSettings()
ROOM = 100_000
SECONDS = 30.0
NAMES = ("a", "c", "d")  # on different partitions


class RecorderWorld:
    """One broker, one server with a path for each of `NAMES`, and recorders that live between them."""

    def __init__(self, server: AnswerServer) -> None:
        self.server = server
        self.broker = Broker(state_topic=TOPICS.recorder_state)
        self.seconds = 1_000.0
        for name in NAMES:
            server.say(f"/{name}", Reply(json.dumps({"of": name}).encode()))

    def recorder(self, *names: str, give: bool = True, **settings: Any) -> RecorderRun:
        """Return a recorder of these sources, which owns everything unless told otherwise."""
        made = RecorderRun(self, names, settings)
        if give:
            made.session.give(range(PARTITIONS))
        return made

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows that were committed, in order."""
        tables = [decode_rows(SNAPSHOTS, record.value or b"") for record in self.written(TOPICS.snapshots)]
        return [row for table in tables for row in table.to_pylist()]

    def numbers(self, name: str) -> list[int]:
        """Return the sequence numbers of the rows of a source."""
        return [row["sequence"] for row in self.rows() if row["source"] == name]

    def written(self, topic: str) -> list[Outbound]:
        """Return the records of a topic."""
        return [record for record in self.broker.log if record.topic == topic]


class RecorderRun:
    """A recorder, stepped by the test."""

    def __init__(self, world: RecorderWorld, names: tuple[str, ...], settings: dict[str, Any]) -> None:
        self.world = world
        clock = PollClock(monotonic=lambda: world.seconds)
        sources = [
            HttpSourceSettings.model_validate({"name": name, "url": world.server.url, "path": f"/{name}", **settings})
            for name in names
        ]
        parts = RecorderParts(
            make_session=self._session,
            make_table=lambda apply: FakeTable(world.broker, apply),
            partitions=lambda: PARTITIONS,
            pollers={source.name: HttpPoller(source, clock) for source in sources},
            writer=SnapshotWriter(TOPICS, lambda _: ROOM),
            threads=3,
            draw=lambda: 0.0,
            clock=clock,
        )
        self.health = Health()
        self.recorder = Recorder(TOPICS, parts)
        self.recorder._watch = Watch(Stop(), self.health)
        self.recorder._workers.start()

    def _session(self, listener: Listener) -> FakeSession:
        self.session = FakeSession(self.world.broker, listener)
        return self.session

    def until(self, done: Callable[[], bool]) -> None:
        """Step until `done`; time does not pass for the schedule."""
        deadline = time.monotonic() + SECONDS
        while not done():
            assert time.monotonic() < deadline
            self.recorder.step()
            time.sleep(0.005)

    def rest(self) -> None:
        """Step until nothing is asked and nothing is held."""
        work = self.recorder._work
        self.recorder.step()
        self.until(lambda: not work.asked and not self.recorder._held() and not self.recorder._is_stale)

    def turn(self, seconds: float = 1.0) -> None:
        """Let time pass, and everything that is then due be done."""
        self.world.seconds += seconds
        self.rest()


@pytest.fixture
def world() -> Iterator[RecorderWorld]:
    """Return a world without recorders."""
    with answering() as server:
        yield RecorderWorld(server)


def test_names_of_the_test_are_on_different_partitions() -> None:
    """Otherwise, tests that divide them would show nothing."""
    assert len({partition_of(name.encode(), PARTITIONS) for name in NAMES}) == len(NAMES)


def test_answers_are_numbered_across_restarts(world: RecorderWorld) -> None:
    """Each answer is one row with the next number, and its state is written with it; a restart goes on in the same run."""
    recorded = since_now("blobtide_recorder_polls_total", source="a", outcome="recorded")
    rows = since_now("blobtide_recorder_rows_total", source="a")
    first = world.recorder("a")
    first.rest()
    first.turn()
    second = world.recorder("a")
    second.rest()
    assert world.numbers("a") == [0, 1], "it keeps the pace of the first"
    second.turn()
    assert world.numbers("a") == [0, 1, 2]
    assert len({row["run"] for row in world.rows()}) == 1
    assert [row["item"] for row in world.rows()] == [0, 0, 0]
    found = world.rows()[0]
    assert json.loads(found["record"]) == {"timestamp": round(found["time"].timestamp() * 1_000), "of": "a"}
    assert (found["url"], found["http_response_status_code"]) == (f"{world.server.url}/a", 200)
    states = [decode_event(record.value or b"") for record in world.written(TOPICS.recorder_state)]
    assert [state.next_sequence for state in states if isinstance(state, SourceState)] == [1, 2, 3]
    assert {record.key for record in world.broker.log} == {b"a"}
    assert (recorded(), rows()) == (3, 3)


def test_sources_are_asked_at_their_turn_only(world: RecorderWorld) -> None:
    """Not before, however often the loop runs, and a source that is slow delays no other."""
    hold = threading.Event()
    world.server.say("/d", Reply(b"{}", hold=hold))
    run = world.recorder(*NAMES, interval_seconds=10, timeout_seconds=300)
    run.until(lambda: len(world.rows()) == 2)
    for more in (4, 6):
        world.seconds += 10
        run.until(lambda: len(world.rows()) == more)  # noqa: B023
    hold.set()
    run.until(lambda: world.numbers("d") == [0])
    assert world.numbers("a") == world.numbers("c") == [0, 1, 2]
    assert [world.server.times(f"/{name}") for name in NAMES] == [3, 3, 1]


@pytest.mark.parametrize("fault", ["aborts", "doubts"])
def test_an_answer_is_recorded_once_whatever_becomes_of_its_transaction(world: RecorderWorld, fault: str) -> None:
    """If it was aborted, the same answer is written again; if it was committed and nobody heard of it, it is not."""
    setattr(world.broker, fault, 2)
    run = world.recorder("a")
    run.rest()
    assert world.server.times("/a") == 1
    assert world.numbers("a") == [0]
    run.turn()
    assert world.numbers("a") == [0, 1]


def test_recorders_divide_the_sources_and_take_over(world: RecorderWorld) -> None:
    """Each source is asked by the owner of its partition; what was not committed before partitions moved is asked again."""
    dropped = since_now("blobtide_recorder_dropped_answers_total", source="a")
    hold = threading.Event()
    first, second = world.recorder(*NAMES, give=False), world.recorder(*NAMES, give=False)
    of_a = partition_of(b"a", PARTITIONS)
    first.session.give([of_a])
    second.session.give(set(range(PARTITIONS)) - {of_a})
    world.server.say("/a", Reply(b"{}", hold=hold), Reply(b"{}"))
    second.rest()
    first.until(lambda: world.server.times("/a") == 1)
    assert [world.numbers(name) for name in NAMES] == [[], [0], [0]]
    second.session.give(range(PARTITIONS))
    first.session.give([])
    second.rest()
    hold.set()
    first.session.give([of_a])  # so that it collects what has come; it is of no use any more
    first.until(lambda: dropped() == 1)
    assert world.numbers("a") == [0]
    assert len({row["run"] for row in world.rows() if row["source"] == "a"}) == 1


@pytest.mark.parametrize("committed", [False, True])
def test_an_answer_outlasts_a_rebalance(world: RecorderWorld, committed: bool) -> None:  # noqa: FBT001 - a parameter of the cases
    """If partitions come back and nobody has recorded anything since, the answer is written, on its way or held; once."""
    hold = threading.Event()
    world.server.say("/a", Reply(b"{}", hold=hold), Reply(b"{}"))
    run = world.recorder("a")
    run.until(lambda: world.server.times("/a") == 1)
    run.session.give([])
    run.session.give(range(PARTITIONS))
    hold.set()
    run.rest()
    assert (world.numbers("a"), world.server.times("/a")) == ([0], 1)
    world.broker.doubts, world.broker.aborts = int(committed), int(not committed)
    world.seconds += 1
    run.until(lambda: world.broker.doubts + world.broker.aborts == 0)
    run.session.give(range(PARTITIONS))
    run.rest()
    assert (world.numbers("a"), world.server.times("/a")) == ([0, 1], 2)


def test_a_source_that_does_wrong_lives_on(world: RecorderWorld) -> None:
    """A refused answer is one dead letter, a failed request nothing but a reason to wait; the next good answer is recorded."""
    refused = since_now("blobtide_recorder_polls_total", source="a", outcome="refused")
    failed = since_now("blobtide_recorder_polls_total", source="a", outcome="failed")
    world.server.say("/a", Reply(b"<html>"), Reply(b"", 500), Reply(b"{}"))
    run = world.recorder("a")
    run.rest()
    (letter,) = world.written(TOPICS.errors)
    headers = {name: value.decode() for name, value in letter.headers}
    assert (letter.key, letter.value) == (b"a", b"<html>")
    assert [headers[name] for name in ("stage", "code", "blob", "source-status")] == ["recorder", "bad_json", "a", "200"]
    assert run.health.why_not_ready() == "no source can be recorded: see the notes"
    assert run.health.notes()[0].startswith("source a: the answer is no JSON")
    run.turn(1.0)  # after the first failure
    assert "answers 500" in run.health.notes()[0]
    run.turn(1.0)
    assert world.server.times("/a") == 2  # the second failure in a row takes two seconds
    run.turn(1.0)
    assert (world.numbers("a"), run.health.why_not_ready(), run.health.notes()) == ([0], None, [])
    assert (refused(), failed()) == (1, 1)


def test_one_source_in_trouble_does_not_make_the_process_unready(world: RecorderWorld) -> None:
    """It is named in the notes of the probes."""
    world.server.say("/d", Reply(b"", 500))
    run = world.recorder("a", "d")
    run.rest()
    assert run.health.why_not_ready() is None
    assert [note.split(":")[0] for note in run.health.notes()] == ["source d"]


def test_items_fill_as_many_messages_as_they_need(world: RecorderWorld) -> None:
    """Items of an answer share its number; one that fits into no message is a dead letter, the others are recorded."""
    items = [{"n": number, "text": "x" * (ROOM if number == 2 else ROOM // 4)} for number in range(5)]
    world.server.say("/a", Reply(json.dumps({"items": items}).encode()))
    world.recorder("a", items="items").rest()
    found = [(row["sequence"], row["item"], json.loads(row["record"])["n"]) for row in world.rows()]
    assert found == [(0, number, number) for number in (0, 1, 3, 4)]
    messages = world.written(TOPICS.snapshots)
    assert len(messages) == 2
    assert all(len(message.value or b"") <= ROOM for message in messages)
    assert [dict(message.headers)["rows"] for message in messages] == [b"2", b"2"]
    (letter,) = world.written(TOPICS.errors)
    assert dict(letter.headers)["code"] == b"too_large"
    assert json.loads(letter.value or b"")["n"] == 2


def test_unchanged_answers_leave_no_gap(world: RecorderWorld) -> None:
    """They are counted, not recorded, and the next one that differs has the next number."""
    unchanged = since_now("blobtide_recorder_polls_total", source="a", outcome="unchanged")
    world.server.say("/a", Reply(b"{}", headers={"ETag": "1"}), Reply(b"{}"), Reply(b"", 304), Reply(b'{"a":1}'))
    run = world.recorder("a", unchanged="skip")
    run.rest()
    for _ in range(3):
        run.turn()
    assert (world.numbers("a"), unchanged()) == ([0, 1], 2)


def test_what_has_been_answered_is_written_when_the_process_stops(world: RecorderWorld) -> None:
    """Also what comes within moments after it was told to."""
    hold = threading.Event()
    world.server.say("/a", Reply(b"{}", hold=hold))
    run = world.recorder("a")
    run.until(lambda: world.server.times("/a") == 1)
    threading.Timer(0.1, hold.set).start()
    run.recorder._drain()
    assert world.numbers("a") == [0]


def test_what_a_recorder_holds_does_not_grow_in_a_day(world: RecorderWorld) -> None:
    """Although answers change, fail, are refused and have new ETags all the time, and are written again after failures."""
    interval, hours = 600.0, 24
    numbers = count()
    for name in NAMES:
        world.server.replies[f"/{name}"] = lambda _: reply_of(next(numbers))
    run = world.recorder(*NAMES, interval_seconds=interval, unchanged="skip")
    held: list[int] = []
    for turn in range(int(hours * 3_600 / interval)):
        world.broker.aborts = turn % 7 == 0
        run.turn(interval)
        world.broker.log = [record for record in world.broker.log if record.topic == TOPICS.recorder_state][-50:]
        world.server.asked.clear()
        held.append(entries_in(run.recorder))
    assert next(numbers) > len(held)
    assert max(held[len(held) // 2 :]) <= max(held[: len(held) // 2])


def reply_of(number: int) -> Reply:
    """Return one of the replies that a source may give."""
    marks = {"ETag": f'"{number}"', "Last-Modified": f"day {number}"}
    return (Reply(b'{"n": %d}' % number, headers=marks), Reply(b"{}"), Reply(b"<html>"), Reply(b"%d" % number, 500))[number % 4]


def test_a_state_that_cannot_be_read_begins_a_new_run(world: RecorderWorld) -> None:
    """The source is recorded on, under numbers that cannot be taken for others."""
    run = world.recorder("a")
    run.rest()
    unreadable = since_now("blobtide_recorder_unreadable_state_total")
    world.broker.log.append(Outbound(TOPICS.recorder_state, b"nonsense", b"a"))
    world.recorder("a").rest()
    assert world.numbers("a") == [0, 0]
    assert len({row["run"] for row in world.rows()}) == 2
    assert unreadable() == 1
