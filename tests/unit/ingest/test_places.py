"""Blobs of days that are over leave memory, and are known all the same."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import msgspec
import pytest

from libs.common.errors import ServerUnreachable
from libs.common.kafka.records import Inbound
from libs.common.messages.events import CheckpointStatus
from services.ingest.pending import places as module
from services.ingest.pending.checkpoints import StillLoading
from services.ingest.pending.places import HOLD_SECONDS, KEEP_DAYS, day_of
from tests.checkpoint_table import FakeTable, Log, beat

LOOK_EVERY = 50
OPEN, COMPLETE = CheckpointStatus.OPEN, CheckpointStatus.COMPLETE
BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
HOUR, DAY = 3_600.0, 86_400.0
LONG = HOLD_SECONDS + (KEEP_DAYS + 1) * DAY


def name(day: int, number: int = 0) -> str:
    """Return the name of a blob of a day."""
    return f"s/e/logs/resourceId={number}/{BEGIN + timedelta(days=day):y=%Y/m=%m/d=%d}/h=07/m=00/PT1H.json"


def log_of(days: int, blobs: int = 3, *, compacts: bool = True) -> Log:
    """Return a log of so many days of closed blobs, written as time went by."""
    log = Log(now=BEGIN.timestamp(), compacts=compacts)
    for day in range(days):
        for number in range(blobs):
            log.write(name(day, number), OPEN, 1)
            log.write(name(day, number), COMPLETE, 10 + day)
        log.wait(DAY)
    return log


def offset(log: Log, blob: str) -> int | None:
    """Return how far a blob was read."""
    found = log.get(blob)
    return None if found is None else found.next_offset


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for what is over more often than a million blobs need."""
    monkeypatch.setattr(module, "LOOK_EVERY", LOOK_EVERY)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"a/y=2026/m=05/d=01/h=12/m=00/PT1H.json", date(2026, 5, 1)),
        (b"y=2026/m=05/d=01/h=12/m=00/x", None),  # before it stands at least the container
        (b"a/y=2025/m=01/d=01/h=00/y=2026/m=05/d=01/h=12/x", date(2026, 5, 1)),
        (b"a/20250101/y=2026/m=05/d=01/x", date(2026, 5, 1)),
        (b"a/y=9999/m=12/d=31/h=23/x", date(9999, 12, 31)),
        (b"a/y=2026/m=02/d=30/h=12/x", None),
        (b"a/y=0000/m=05/d=01/h=01/x", None),
        (b"a/logs-20260501.json", date(2026, 5, 1)),
        (b"a/20260501/part-0001", date(2026, 5, 1)),
        (b"a/20261301.json", None),
        (b"a/120260501.json", None),
        (b"a/\xff\xfe.json", None),
        (b"", None),
    ],
)
def test_the_day_of_a_name(key: bytes, expected: date | None) -> None:
    """The last one that it carries, and none if there is no such day."""
    assert day_of(key) == (None if expected is None else expected.toordinal())


def test_over_a_year_no_more_than_a_few_days_of_blobs_are_held() -> None:
    """Memory is flat, before and after a restart, and all blobs are known for what they are."""
    log, most, a_day = Log(now=BEGIN.timestamp()), 0, 24
    blobs = 365 * a_day
    for number in range(blobs):
        log.write(name(number // a_day, number), OPEN, 1)
        log.write(name(number // a_day, number), COMPLETE, 10 + number)
        log.wait(HOUR)
        most = max(most, log.checkpoints.held)
    assert most < 4 * a_day + LOOK_EVERY
    assert log.readings == 0
    assert blobs <= log.checkpoints.known < blobs + LOOK_EVERY  # what was put lately may count twice
    log.checkpoints = log.start()
    assert log.loaded == blobs
    assert log.checkpoints.held <= 2 * a_day
    before, asked = log.readings, range(0, blobs, 97)
    assert [offset(log, name(number // a_day, number)) for number in asked] == [10 + number for number in asked]
    assert log.readings - before == 1  # so few blobs come back all at once


def test_a_late_blob_goes_on_where_it_was_and_a_new_one_costs_one_reading_for_its_day() -> None:
    """The others of the day are then answered from memory, until nothing was heard of the day for a day."""
    log = log_of(24)
    log.wait(LONG)
    log.write("x", COMPLETE)
    assert log.checkpoints.held <= 2
    assert offset(log, name(3, 1)) == 13
    assert log.readings == 1
    assert [offset(log, name(3, number)) for number in range(6)] == [13, 13, 13, None, None, None]
    assert log.readings == 1
    log.write(name(3, 1), COMPLETE, 99)
    log.write(name(3, 5), OPEN, 5)
    log.wait(LONG)
    log.write("x", COMPLETE)
    assert log.checkpoints.held <= 4  # x, and what is open
    assert [offset(log, name(3, number)) for number in (5, 1, 4, 0)] == [5, 99, None, 13]
    assert log.readings == 2


def test_names_of_days_of_which_nothing_was_let_go_cost_nothing() -> None:
    """What is new is new, without a question."""
    log = log_of(10)
    log.wait(LONG)
    log.write("x", COMPLETE)
    assert [offset(log, other) for other in (name(11), name(-1), "flat", "y=2025/x")] == [None] * 4
    assert log.readings == 0
    assert log.lookup.asked == []


@pytest.mark.parametrize("wild", ["y=9999/m=12/d=31/h=23", "y=0001/m=01/d=01/h=00"])
def test_a_wild_name_lets_nothing_else_go(wild: str) -> None:
    """The clock says what is over, not a name."""
    log = log_of(30, 1)
    log.write(f"s/e/logs/{wild}/x", COMPLETE, 5)
    log.checkpoints = log.start()
    log.write("x", COMPLETE)
    assert offset(log, name(29)) == 39
    assert log.readings == 1  # the start
    assert [offset(log, name(day)) for day in range(30)] == [10 + day for day in range(30)]
    assert offset(log, f"s/e/logs/{wild}/x") == 5


def test_a_day_may_be_let_go_piece_by_piece() -> None:
    """A blob that was open for longer than the others of its day does not make them forgotten when it is closed at last."""
    log = log_of(1, 2)
    log.write(name(0, 2), OPEN, 1)
    for status in (OPEN, COMPLETE):
        log.write(name(0, 2), status, 30)
        log.wait(LONG)
        log.write("x", COMPLETE)
    assert log.readings == 0
    assert [offset(log, name(0, number)) for number in range(4)] == [10, 10, 30, None]


def test_a_blob_of_which_nobody_said_where_it_was_forgotten_stays_so() -> None:
    """The answer of Kafka may be lost."""
    log = log_of(2, 2, compacts=False)
    log.silent = 1
    log.remove(name(0, 0))
    log.wait(LONG)
    log.write("x", COMPLETE)
    assert [offset(log, name(0, number)) for number in range(3)] == [None, 10, None]


@pytest.mark.parametrize("compacts", [True, False])
def test_a_blob_that_was_forgotten_stays_so(*, compacts: bool) -> None:
    """Also where the topic still has what it was, and the day was let go, before or after; until it comes back."""
    log = log_of(5, 2, compacts=compacts)
    log.remove(name(1, 0))
    for restart in (False, True):
        log.wait(LONG)
        log.write("x", COMPLETE)
        if restart:
            log.checkpoints = log.start()
        assert log.get(name(2, 0)) is not None
        log.remove(name(2, 0))
        log.wait(LONG)
        log.write("x", COMPLETE)
        assert log.checkpoints.held <= 2
        assert [offset(log, name(day, 0)) for day in range(5)] == [10, None, None, 13, 14]
        assert [offset(log, name(day, 1)) for day in range(5)] == [10, 11, 12, 13, 14]
        log.write(name(2, 0), COMPLETE, 7)
        assert offset(log, name(2, 0)) == 7


def test_a_replay_reads_days_at_once_and_holds_so_many_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many blobs that are announced again, those asked for longest ago leave."""
    monkeypatch.setattr(module, "RECALLED_AT_ONCE", 30)
    monkeypatch.setattr("services.ingest.pending.checkpoints.MOST_HELD", 60)
    log = log_of(100, 3)
    log.checkpoints, before = log.start(), log.readings
    log.wait(LONG)
    log.write("x", COMPLETE)
    for day in range(100):
        assert [offset(log, name(day, number)) for number in range(3)] == [10 + day] * 3
        assert log.checkpoints.held < 60 + 50 + 30
    assert log.readings - before <= 25


def test_a_reading_that_takes_long_goes_on_and_what_it_has_not_reached_is_not_known_from_it() -> None:
    """Polls go on meanwhile; no older checkpoint is taken for the last one, no blob for new."""
    log = log_of(5, 2, compacts=False)
    log.wait(LONG)
    log.write("x", COMPLETE)
    took = [0]

    def slow() -> None:
        took[0] += 1
        log.clock += 30.0

    for number in (1, 0, 2):
        key = name(2, number).encode()
        for _ in range(20):
            try:
                found = log.checkpoints.get(0, key, slow)
                break
            except StillLoading:
                log.clock += 1.0
        assert (found.next_offset if found else None) == (None if number == 2 else 12)
    assert log.readings == 1
    assert took[0] > 5


@pytest.mark.parametrize("beats", [2, 3, 4, 6])
@pytest.mark.parametrize("error", [ServerUnreachable("away"), StillLoading("late")])
def test_a_reading_that_was_broken_off_begins_anew(error: Exception, beats: int) -> None:
    """What was half read decides nothing."""
    log = log_of(5, 2, compacts=False)
    log.wait(LONG)
    log.write("x", COMPLETE)
    calls = [0]

    def leave() -> None:
        calls[0] += 1
        if calls[0] == beats:
            raise error

    with pytest.raises((ServerUnreachable, StillLoading)):
        log.checkpoints.get(0, name(0, 1).encode(), leave)
    log.clock += 1_000.0
    log.checkpoints._partitions[0].places.let_go(0)
    assert [offset(log, name(0, number)) for number in range(3)] == [10, 10, None]
    assert log.readings == 2


def test_what_is_not_where_it_should_be_is_searched_for() -> None:
    """Whoever wrote another one, nothing that the topic knows is taken for new; what its retention took is gone."""
    log = log_of(3, 1)
    log.wait(LONG)
    log.write("x", COMPLETE)
    moved = [msgspec.structs.replace(record, offset=at + 1_000) for at, record in log.records.items()]
    log.records = {record.offset: record for record in moved if record.key != name(1).encode()}
    assert [offset(log, name(day)) for day in range(3)] == [10, None, 12]


def test_dated_names_leave_memory_too() -> None:
    """A day of them at a time."""
    log = Log(now=BEGIN.timestamp())
    for day in range(50):
        log.write(f"s/e/logs/{BEGIN + timedelta(days=day):%Y%m%d}.log", COMPLETE, day)
        log.wait(DAY)
    assert log.checkpoints.held < 10
    assert offset(log, "s/e/logs/20250103.log") == 2


def test_partitions_that_leave_take_their_readings_along() -> None:
    """Nothing stays open, and who comes back begins anew."""
    log = log_of(5, 2)
    log.wait(LONG)
    log.write("x", COMPLETE)
    tables: list[FakeTable] = []
    make = log.checkpoints._topic.make_table

    def noted(apply: Callable[[Inbound], None]) -> FakeTable:
        made = make(apply)
        assert isinstance(made, FakeTable)
        tables.append(made)
        return made

    object.__setattr__(log.checkpoints._topic, "make_table", noted)

    def leave() -> None:
        raise StillLoading("now")

    with pytest.raises(StillLoading):
        log.checkpoints.get(0, name(2).encode(), leave)
    log.checkpoints.forget([0])
    assert [table.is_open for table in tables] == [False]
    log.checkpoints.load([0], beat)
    assert offset(log, name(2)) == 12
