"""What a monitor holds in memory, what it lets go of, and that it knows it all the same."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import ServerUnreachable
from libs.common.messages.events import BlobObserved, BlobStatus
from libs.common.settings.storage import NameLayout
from services.blob_monitor import environment
from services.blob_monitor.evaluate import Known
from services.blob_monitor.rows import ROW, RowForm, is_same, round_of, with_round
from tests.monitor_world import PARTITIONS, Running, World, aged, hour_blob, metric, two_monitors

OBSERVED, CLOSED, REOPENED = "BlobObserved", "BlobClosed", "BlobReopened"
NAME = hour_blob("x=/R1", 12)
HOUR = timedelta(hours=1)


def held(monitor: Running) -> tuple[int, int]:
    """Return how many blobs a monitor has in memory, and how many of them are open."""
    return monitor.monitor._memory.counts()


def closed_long_ago(world: World, **settings: object) -> Running:
    """Let a blob be announced and closed, and its hour be over."""
    world.storage.write(NAME, 14)
    monitor = world.monitor(**{"reconcile_seconds": 100_000, **settings})
    monitor.round()
    monitor.round(16 * 60)
    monitor.round(4 * 3600)
    assert world.broker.said() == [(OBSERVED, NAME), (CLOSED, NAME)]
    return monitor


def test_closed_blobs_of_hours_that_are_over_leave_memory_and_stay_known() -> None:
    """A blob that left memory is not announced again by full listings, and its growth is found by the next one."""
    world = World()
    monitor = closed_long_ago(world, reconcile_seconds=6 * 3600)
    assert held(monitor) == (0, 0)
    monitor.round(6 * 3600)
    assert len(world.broker.said()) == 2
    assert held(monitor) == (0, 0)
    world.time.advance(6 * 3600)
    world.storage.write(NAME, 99)
    monitor.round()
    assert world.broker.said()[2:] == [(REOPENED, NAME), (OBSERVED, NAME)]
    monitor.round(16 * 60)
    assert world.broker.said()[4:] == [(CLOSED, NAME)]
    assert held(monitor) == (0, 0)


def test_memory_is_flat_over_a_month() -> None:
    """What is held depends on what is open and on the hours that are listed, not on how long blobs have been written."""
    world = World()
    resources = [f"x=/R{number}" for number in range(4)]
    monitor = world.monitor(reconcile_seconds=86_400)
    most = written = 0
    for _ in range(31):
        for resource in resources:
            for hour in range(24):
                name = f"{resource}/{world.time.now:y=%Y/m=%m/d=%d}/h={hour:02}/m=00/macAddress=A/PT1H.json"
                world.storage.write(name, 1)
                written += 1
        for _ in range(2):
            monitor.round(12 * 3600)
            most = max(most, held(monitor)[0])
    assert written == len(world.broker.events(BlobObserved)) == 31 * 4 * 24
    assert len(world.broker.states()) == written
    assert most <= 4 * 24 * 2


def test_a_start_holds_only_what_is_open_or_listed_all_the_time() -> None:
    """However many closed blobs the state topic knows, a new process holds few, and announces none of them again."""
    world = World()
    for hour in range(10):
        for nic in "AB":
            world.storage.write(name := hour_blob("x=/R1", hour, nic), 1)
            aged(world.storage, name, 3 * HOUR)
    world.monitor().round()
    said = world.broker.said()
    assert len([kind for kind, _ in said if kind == CLOSED]) == 20
    monitor = world.monitor()
    monitor.round()
    assert held(monitor) == (0, 0)
    assert world.broker.said() == said


def test_an_old_hour_with_an_open_blob_is_followed_without_announcing_its_neighbours_again() -> None:
    """Closed blobs beside an open one have left memory; a listing of their hour is no reason to take them for new."""
    world = World()
    neighbour, late = hour_blob("x=/R1", 3, "A"), hour_blob("x=/R1", 3, "B")
    world.storage.write(neighbour, 1)
    world.monitor(closing_timeout_minutes=1).round()
    world.time.advance(120)
    world.monitor(closing_timeout_minutes=1).round()
    world.storage.write(late, 1)
    world.monitor().round()
    said = world.broker.said()
    assert said == [(OBSERVED, neighbour), (CLOSED, neighbour), (OBSERVED, late)]
    left = metric("blobs_total", {"account": "sub.dev", "verdict": "left_to_full_listing"})
    monitor = world.monitor(reconcile_seconds=100_000)
    for _ in range(3):
        monitor.round()
    assert world.broker.said() == said
    assert metric("blobs_total", {"account": "sub.dev", "verdict": "left_to_full_listing"}) > left
    monitor.round(16 * 60)
    assert world.broker.said()[3:] == [(CLOSED, late)]


def test_where_names_carry_no_time_a_closed_blob_takes_48_bytes() -> None:
    """All blobs are known at every listing, also after a restart; one that grows keeps its baseline and is reopened."""
    assert ROW.itemsize + 16 == 48
    world = World(layout=NameLayout.FLAT)
    for number in range(3_000):
        world.storage.write(name := f"{number:05}", 1)
        aged(world.storage, name, HOUR)
    fresh = {"start_policy": "from", "start_from": datetime(2026, 5, 1, 12, tzinfo=UTC), "reconcile_seconds": 100_000}
    world.monitor(**fresh).round()
    assert len(world.broker.states()) == 3_000
    monitor = world.monitor(**fresh)
    monitor.round()
    (shelf,) = monitor.monitor._memory._shelves.values()
    assert shelf.packed is not None
    assert (len(shelf.packed), shelf.packed.nbytes, len(shelf.open), len(shelf.recent)) == (3_000, 3_000 * 48, 0, 0)
    assert world.broker.said() == []
    world.storage.write("00007", 20)
    monitor.round()
    assert world.broker.said() == [(REOPENED, "00007"), (OBSERVED, "00007")]
    assert [event.baseline_offset for event in world.broker.events(BlobObserved)] == [1]
    assert held(monitor)[1] == 1


def test_a_monitor_holds_only_its_own_scopes_and_loads_what_it_takes_over() -> None:
    """Of the state of others nothing is held; who takes over knows it all and announces nothing again."""
    world = World()
    names = [hour_blob(f"x=/R{number}", 12) for number in range(12)]
    for name in names:
        world.storage.write(name, 1)
    first, second = two_monitors(world)
    assert 0 < held(first)[0] < 12
    assert held(first)[0] + held(second)[0] == 12
    second.session.give(range(PARTITIONS))
    second.round()
    before = held(first)[0]
    first.session.give(range(1))
    first.round()
    assert held(first)[0] < before
    assert held(second)[0] == 12
    assert sorted(world.broker.said()) == [(OBSERVED, name) for name in sorted(names)]


def test_full_listings_take_turns_where_memory_has_no_room_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known is read for some scopes after the other, and every scope is listed in full."""
    monkeypatch.setattr(environment, "_MOST_ROWS", 5)
    world = World()
    names = [hour_blob(f"x=/R{number}", hour) for number in range(6) for hour in range(3)]
    for name in names:
        world.storage.write(name, 1)
        aged(world.storage, name, HOUR)
    world.monitor().round()
    said = len(world.broker.said())
    for name in names:
        world.storage.write(name, 2)
    readings = 0

    def count() -> None:
        nonlocal readings
        readings += threading.current_thread() is not threading.main_thread()

    world.broker.on_read = count
    world.monitor().round()
    assert sorted(world.broker.said()[said:]) == sorted((kind, name) for name in names for kind in (REOPENED, OBSERVED))
    assert readings == 6


def test_blobs_that_are_written_often_do_not_make_full_listings_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a full listing is thought to need follows the blobs of a scope, not how often they were written since the start."""
    monkeypatch.setattr(environment, "_MOST_ROWS", 20)
    world = World()
    names = [hour_blob(f"x=/R{number}", 12) for number in range(6)]
    monitor = world.monitor(reconcile_seconds=1800)
    readings = 0

    def count() -> None:
        nonlocal readings
        readings += threading.current_thread() is not threading.main_thread()

    world.broker.on_read = count
    found = []
    for _ in range(4):
        for size in range(1, 20):
            for name in names:
                world.storage.write(name, size)
            monitor.round(60)
        readings = 0
        monitor.round(1800)
        found.append(readings)
    assert found == [1] * 4


def test_full_listings_that_ended_one_after_the_other_share_the_next_reading() -> None:
    """The state topic is read once for all scopes that are due soon, not once for each."""
    world = World()
    for number in range(6):
        world.storage.write(name := hour_blob(f"x=/R{number}", 1), 1)
        aged(world.storage, name, HOUR)
    monitor = world.monitor(reconcile_seconds=3600)
    monitor.round()
    full_at = monitor.monitor._environments["sub.dev"]._full_at
    full_at.update({key: at + 40 * index for index, (key, at) in enumerate(sorted(full_at.items()))})
    readings = 0

    def count() -> None:
        nonlocal readings
        readings += threading.current_thread() is not threading.main_thread()

    world.broker.on_read = count
    world.storage.listed.clear()
    world.time.advance(3500)
    for _ in range(12):
        monitor.round()
    assert readings == 1
    assert {prefix: world.storage.listed.count(prefix) for prefix in world.storage.listed if "y=" not in prefix} == {
        f"x=/R{number}/": 1 for number in range(6)
    }


def test_what_is_closed_while_a_full_listing_is_prepared_is_not_taken_for_new() -> None:
    """The state topic is read up to a moment; what is decided after it stays in memory until the listing has ended."""
    world = World()
    world.storage.write(old := hour_blob("x=/R1", 3), 1)
    monitor = world.monitor(closing_timeout_minutes=10, reconcile_seconds=1000)
    monitor.round()
    reading, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        if threading.current_thread() is not threading.main_thread():
            reading.set()
            assert go_on.wait(30)

    world.broker.on_read = wait
    world.time.advance(1001)
    while (CLOSED, old) not in world.broker.said() or not reading.is_set():
        monitor.monitor.step()
        world.time.advance(1)
    go_on.set()
    monitor.round()
    assert world.broker.said() == [(OBSERVED, old), (CLOSED, old)]
    assert held(monitor) == (0, 0)


def test_kafka_that_is_away_delays_a_full_listing() -> None:
    """What is known is asked for again at the next interval; nothing is taken for new meanwhile."""
    world = World()
    monitor = closed_long_ago(world, reconcile_seconds=5 * 3600)

    def away() -> None:
        if threading.current_thread() is not threading.main_thread():
            raise ServerUnreachable("no broker")

    world.broker.on_read = away
    world.time.advance(5 * 3600)
    world.storage.write(NAME, 99)
    for _ in range(2):
        monitor.round()
    assert len(world.broker.said()) == 2
    world.broker.on_read = lambda: None
    monitor.round()
    assert world.broker.said()[2:] == [(REOPENED, NAME), (OBSERVED, NAME)]


def test_a_blob_that_left_memory_and_storage_is_forgotten() -> None:
    """The state of a blob that is gone for long is removed, though its name is in the state topic only."""
    world = World()
    monitor = closed_long_ago(world, reconcile_seconds=20 * 3600, forget_days=2)
    world.storage.write(hour_blob("x=/R1", 16), 1)  # so that the scope stays
    del world.storage.blobs[NAME]
    monitor.round(20 * 3600)
    assert f"sub.dev/logs/{NAME}" in world.broker.states()
    for _ in range(2):
        monitor.round(20 * 3600)
    assert f"sub.dev/logs/{NAME}" not in world.broker.states()
    assert len(world.broker.states()) == 1
    assert (OBSERVED, NAME) not in world.broker.said()[2:]


@pytest.mark.parametrize("layout", [NameLayout.HOURLY, NameLayout.FLAT])
def test_with_closing_switched_off_memory_is_bounded_as_well(layout: NameLayout) -> None:
    """Blobs whose end nobody waits for leave memory with their hour, or are packed; growth of them is found."""
    world = World(layout=layout)
    world.storage.write(NAME, 14)
    monitor = world.monitor(closing_enabled=False, reconcile_seconds=6 * 3600)
    for _ in range(3):
        monitor.round(2 * 3600)
    assert held(monitor) == (0 if layout is NameLayout.HOURLY else 1, 0)
    world.storage.write(NAME, 20)
    monitor.round(6 * 3600)
    assert world.broker.said() == [(OBSERVED, NAME)] * 2
    assert [state.status for state in world.broker.states().values()] == [BlobStatus.OPEN]


def test_a_clock_that_is_set_back_does_not_delay_new_blobs() -> None:
    """Hours that a clock far ahead had let go of are read again; what is new in them need not wait for a full listing."""
    world = World()
    world.storage.write(NAME, 14)
    world.clock_off = 24 * HOUR
    monitor = world.monitor(reconcile_seconds=100_000)
    monitor.round()
    monitor.round()
    world.clock_off = 0 * HOUR
    monitor.round()
    world.storage.write(other := hour_blob("x=/R1", 12, "B"), 1)
    monitor.round()
    assert world.broker.said() == [(OBSERVED, NAME), (OBSERVED, other)]


@given(st.text(max_size=9), st.none() | st.integers(0, 2**62), st.integers(0, 2**32 - 1), st.text(max_size=5))
def test_a_row_says_what_was_known(etag: str, baseline: int | None, number: int, replay_id: str) -> None:
    """All but the size comes back, times to the second, the ETag as far as it is the one that is asked for."""
    second, closed = datetime.fromtimestamp(number, UTC), bool(number % 2)
    when = second + timedelta(microseconds=number % 1_000_000)
    known, form = Known(etag, 7, when, when, closed, baseline, replay_id, number), RowForm()
    row = form.pack(known)
    assert len(row) == ROW.itemsize
    assert form.unpack(row, etag) == Known(etag, 0, second, second, closed, baseline, replay_id, number)
    assert form.unpack(row, etag + "x").etag == ""
    assert (is_same(row, etag), is_same(row, etag + "x"), round_of(row)) == (True, False, number)
    assert round_of(with_round(row, 5)) == 5


def test_more_replay_ids_than_numbers_share_the_last_one() -> None:
    """So many replays are never counted as done that were not: the worst is that one is announced again."""
    form = RowForm()
    numbers = {form.replay_number(f"r{number}") for number in range(70_000)}
    assert max(numbers) == 2**16 - 1
    assert form.replay_number("") == 0
