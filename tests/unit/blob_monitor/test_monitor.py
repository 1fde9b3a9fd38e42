"""The monitor in a world without servers: what it announces, remembers, forgets, shares and survives."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator
from datetime import timedelta

import pytest

from libs.common.azure.storage.api import BlobInfo
from libs.common.messages.events import BlobClosed, BlobForgotten, BlobObserved, BlobsListed, BlobStatus
from libs.common.process.health import NO_PARTITIONS, Health
from libs.common.process.service import Stop
from libs.common.settings.monitor import DateRange, MonitorSettings
from libs.common.settings.storage import NameLayout
from services.blob_monitor import metrics
from services.blob_monitor.listing import Chunk, Job, JobKind, ListingTask, Means, units
from services.blob_monitor.sources import Scope
from tests.monitor_world import PARTITIONS, START, Running, World, aged, hour_blob, metric, two_monitors

NAME = hour_blob("x=/R1", 12)
OBSERVED, CLOSED, REOPENED = "BlobObserved", "BlobClosed", "BlobReopened"
DAY = timedelta(days=1)


def hour_prefix(hour: int) -> str:
    """Return what is listed for an hour of the first resource."""
    return f"x=/R1/y=2026/m=05/d=01/h={hour:02}/"


def test_a_blob_is_announced_on_change_only_closed_once_and_reopened() -> None:
    """New, grown, quiet, grown again: each is said once, in order, however often the blob is listed."""
    world = World()
    world.storage.write(NAME, 14)
    monitor = world.monitor(reconcile_seconds=100)
    monitor.round()
    monitor.round()
    assert world.broker.said() == [(OBSERVED, NAME)]
    world.storage.write(NAME, 100)
    monitor.round()
    monitor.round()
    monitor.round(16 * 60)
    monitor.round()
    assert world.broker.said()[1:] == [(OBSERVED, NAME), (CLOSED, NAME)]
    world.storage.write(NAME, 200)
    monitor.round()
    assert world.broker.said()[3:] == [(REOPENED, NAME), (OBSERVED, NAME)]
    last = world.broker.events()[-1]
    assert (last.size, last.stream, last.subscription, last.environment) == (200, "flow_logs", "sub", "dev")
    assert world.broker.states()[last.blob].status is BlobStatus.OPEN


@pytest.mark.parametrize("off", [timedelta(seconds=-90), timedelta(minutes=20)])
def test_a_growing_blob_is_announced_and_stays_open_however_wrong_the_clock_is(off: timedelta) -> None:
    """The monitor's own clock may be behind or ahead of storage's; every growth is said, and no end before there is one."""
    world = World()
    world.clock_off = off
    monitor = world.monitor()
    for size in range(1, 6):
        world.storage.write(NAME, size)
        monitor.round(60)
    assert world.broker.said() == [(OBSERVED, NAME)] * 5
    monitor.round(16 * 60)
    assert world.broker.said()[5:] == [(CLOSED, NAME)]


def test_every_listing_ends_with_its_counts_and_a_time_before_its_first_request() -> None:
    """BlobsListed follows the announcements of its prefix."""
    world = World(layout=NameLayout.FLAT, prefix="p/", exclude=("**/no",))
    for name in ("p/a", "p/b", "p/no"):
        world.storage.write(name, 10)
    monitor = world.monitor(reconcile_seconds=10_000)
    world.storage.before = lambda _: world.time.advance(5)
    monitor.round()
    listed = world.broker.events(BlobsListed)[0]
    assert (listed.prefix, listed.blob_count, listed.total_bytes) == ("p/", 2, 20)
    assert listed.listing_ended_at - listed.listing_started_at >= timedelta(seconds=5)
    kinds = [type(event).__name__ for event in world.broker.events(BlobObserved, BlobsListed)]
    assert kinds[:2] == [OBSERVED, OBSERVED]


def test_listings_that_find_nothing_are_written_down_once_in_a_while() -> None:
    """BlobsListed is written when something was announced, and once a configured time and scope otherwise."""
    world = World()
    world.storage.write(NAME, 14)
    monitor = world.monitor(listed_seconds=1000, reconcile_seconds=100_000)
    monitor.round()
    said = len(world.broker.events(BlobsListed))
    for _ in range(10):
        monitor.round()
    assert len(world.broker.events(BlobsListed)) == said
    world.storage.write(NAME, 20)
    monitor.round(60)
    listed = world.broker.events(BlobsListed)[said:]
    assert [(event.prefix, event.blob_count, event.total_bytes) for event in listed] == [(hour_prefix(12), 1, 20)]
    monitor.round(1001)
    assert len(world.broker.events(BlobsListed)) == said + 2


def test_a_listing_is_written_down_again_when_its_transaction_was_aborted() -> None:
    """What an aborted transaction would have said is said by the next one, also that nothing new was found."""
    world = World(layout=NameLayout.FLAT)
    monitor = world.monitor()
    world.broker.aborts = 1
    monitor.round()
    monitor.round()
    assert world.broker.events(BlobsListed)


def test_a_restart_goes_on_where_the_state_topic_ends() -> None:
    """A new process announces only what changed in between."""
    world = World()
    world.storage.write(NAME, 14)
    world.storage.write(other := hour_blob("x=/R2", 12), 14)
    world.monitor().round()
    world.storage.write(other, 50)
    world.monitor().round()
    assert sorted(world.broker.said()) == sorted([(OBSERVED, NAME), (OBSERVED, other), (OBSERVED, other)])


def test_in_the_steady_state_only_current_hours_are_listed() -> None:
    """Between two full listings a monitor lists hours, not whole prefixes, and finds new resources by discovery."""
    world = World()
    world.storage.write(NAME, 14)
    monitor = world.monitor(hours_back=1, reconcile_seconds=10_000, discovery_seconds=60)
    monitor.round()
    world.storage.listed.clear()
    monitor.round()
    assert world.storage.listed == ["x=/R1/y=2026/m=05/d=01/h=12/", "x=/R1/y=2026/m=05/d=01/h=11/"]
    world.storage.write(fresh := hour_blob("x=/R2", 12), 14)
    monitor.round(61)
    assert (OBSERVED, fresh) in world.broker.said()


def test_a_resource_directory_inside_another_is_one_of_its_own() -> None:
    """A resource that appears under a known one is discovered, and its blobs are said once, also after a restart."""
    world = World()
    parent, child = hour_blob("x=/R1", 12), hour_blob("x=/R1/DATABASES/D", 12)
    world.storage.write(parent, 1)
    monitor = world.monitor(discovery_seconds=60, reconcile_seconds=600)
    monitor.round()
    world.storage.write(child, 1)
    monitor.round(61)
    assert world.broker.said() == [(OBSERVED, parent), (OBSERVED, child)]
    monitor.round(601)
    world.monitor().round()
    assert world.broker.said() == [(OBSERVED, parent), (OBSERVED, child)]
    assert metric("known_blobs") == 2


def test_a_name_without_a_year_is_left_alone_in_the_hourly_layout() -> None:
    """It falls into no scope, so that nobody could remember it."""
    world = World()
    world.storage.write(NAME, 1)
    world.storage.write("x=/R1/readme.txt", 1)
    world.monitor().round()
    assert world.broker.said() == [(OBSERVED, NAME)]


def test_open_blobs_of_older_hours_are_followed_until_they_are_closed() -> None:
    """A blob last written long after its hour is listed by its hour until it is quiet, then no more."""
    world = World()
    world.storage.write(late := hour_blob("x=/R1", 3), 14)
    monitor = world.monitor(hours_back=1, reconcile_seconds=100_000)
    monitor.round()
    monitor.round(60)
    assert "x=/R1/y=2026/m=05/d=01/h=03/" in world.storage.listed
    monitor.round(20 * 60)
    assert world.broker.said() == [(OBSERVED, late), (CLOSED, late)]
    world.storage.listed.clear()
    monitor.round()
    assert "x=/R1/y=2026/m=05/d=01/h=03/" not in world.storage.listed


def test_a_full_listing_finds_growth_of_an_older_hour() -> None:
    """What slips through the current hours is found at the next reconciliation."""
    world = World()
    world.storage.write(old := hour_blob("x=/R1", 3), 14)
    monitor = world.monitor(hours_back=1, reconcile_seconds=7200)
    monitor.round()
    monitor.round(20 * 60)
    world.storage.write(old, 99)
    monitor.round(60)
    assert world.broker.said()[-1] == (CLOSED, old)
    monitor.round(7200)
    assert (REOPENED, old) in world.broker.said()


def test_a_vanished_blob_is_closed_and_forgotten_in_the_end() -> None:
    """An open blob that is gone is closed at a full listing; state of one gone for long is removed."""
    world = World(layout=NameLayout.FLAT)
    world.storage.write("a", 1)
    world.storage.write("b", 1)
    aged(world.storage, "b", 2 * DAY)
    monitor = world.monitor(reconcile_seconds=60, forget_days=1)
    monitor.round()
    del world.storage.blobs["a"], world.storage.blobs["b"]
    monitor.round(61)
    assert list(world.broker.states()) == ["sub.dev/logs/a"]
    monitor.round(16 * 60)
    assert [event.blob for event in world.broker.events(BlobClosed)][-1:] == ["sub.dev/logs/a"]
    assert world.broker.states() == {}
    # Of what was open not long ago ingest keeps what it knows.
    assert [event.blob for event in world.broker.events(BlobForgotten)] == ["sub.dev/logs/b"]


@pytest.mark.parametrize("days_later", [0, 30])
def test_a_blob_that_vanishes_while_a_date_range_is_set_is_closed(days_later: int) -> None:
    """An open blob that is gone is closed and forgotten at a full listing, also when its day has left the range meanwhile."""
    world = World()
    world.storage.write(NAME, 1)
    world.storage.write(hour_blob("x=/R1", 12, nic="B"), 1)
    world.monitor(date_range=DateRange(days_back=2)).round()
    del world.storage.blobs[NAME]
    world.time.advance(days_later * 86_400)
    world.monitor(date_range=DateRange(days_back=2)).round(16 * 60)
    assert [said for said in world.broker.said() if said[1] == NAME] == [(OBSERVED, NAME), (CLOSED, NAME)]
    assert f"sub.dev/logs/{NAME}" not in world.broker.states()


def test_a_full_listing_of_a_date_range_says_nothing_about_other_days() -> None:
    """What lies outside the range is not listed, and so not taken for gone, however old it is."""
    world = World()
    world.storage.write(NAME, 1)
    monitor = world.monitor()
    monitor.round()
    monitor.round(16 * 60)
    world.time.advance(30 * 86_400)
    world.monitor(date_range=DateRange(days_back=2), forget_days=1).round()
    assert world.broker.said() == [(OBSERVED, NAME), (CLOSED, NAME)]
    assert list(world.broker.states()) == [f"sub.dev/logs/{NAME}"]


def test_a_full_listing_lets_go_of_nothing_that_was_found_while_it_ran() -> None:
    """A blob that appears behind the place which a long full listing has reached is not taken for gone."""
    world = World()
    world.storage.write(NAME, 1)
    passed, found, list_blobs = threading.Event(), threading.Event(), world.storage.list_blobs

    def slow(prefix: str) -> Iterator[BlobInfo]:
        if prefix != "x=/R1/":
            yield from list_blobs(prefix)
            return
        seen = list(list_blobs(prefix))
        passed.set()
        assert found.wait(10), "nothing is found meanwhile"
        yield from seen

    setattr(world.storage, "list_blobs", slow)  # noqa: B010
    monitor = world.monitor(forget_days=1, closing_enabled=False)
    new = hour_blob("x=/R1", 12, nic="0")
    while not passed.is_set():
        monitor.monitor.step()
        world.time.advance(1)
    world.storage.write(new, 1)
    while (OBSERVED, new) not in world.broker.said():
        monitor.monitor.step()
        world.time.advance(1)
    world.time.advance(2 * 86_400)
    found.set()
    monitor.round()
    assert f"sub.dev/logs/{new}" in world.broker.states()


def test_an_aborted_transaction_is_done_again_and_nothing_is_said_twice() -> None:
    """Decisions that did not reach Kafka are made again from what did."""
    world = World(layout=NameLayout.FLAT)
    for number in range(700):
        world.storage.write(f"{number:04}", 1)
    world.broker.aborts = 2
    monitor = world.monitor()
    for _ in range(4):
        monitor.round()
    assert sorted(world.broker.said()) == [(OBSERVED, f"{number:04}") for number in range(700)]


def test_monitors_divide_the_scopes_and_take_over_from_each_other() -> None:
    """Two monitors together announce everything once; when one leaves the other goes on with all."""
    world = World()
    names = [hour_blob(f"x=/R{number}", 12) for number in range(12)]
    for name in names:
        world.storage.write(name, 1)
    _, second = two_monitors(world)
    assert sorted(world.broker.said()) == sorted((OBSERVED, name) for name in names)
    for name in names:
        world.storage.write(name, 2)
    second.session.give(range(PARTITIONS))
    second.round()
    assert sorted(world.broker.said()[len(names) :]) == sorted((OBSERVED, name) for name in names)


def test_monitors_divide_the_scopes_anew_when_the_state_topic_is_given_partitions() -> None:
    """One that runs since before and one that starts then announce everything once, and know what the other has seen."""
    world = World()
    names = [hour_blob(f"x=/R{number}", 12) for number in range(12)]
    first = world.monitor(closing_enabled=False)
    first.round()
    world.broker.partitions = PARTITIONS + 2
    second = world.monitor(closing_enabled=False)
    first.session.give(range(3))
    second.session.give(range(3, PARTITIONS + 2))
    for name in names:
        world.storage.write(name, 1)
    for _ in range(2):
        first.round(301.0)  # directories are looked for
        second.round(301.0)
    assert sorted(world.broker.said()) == sorted((OBSERVED, name) for name in names)
    first.session.give(range(PARTITIONS + 2))
    first.round(301.0)
    assert len(world.broker.said()) == len(names)


def test_a_minimum_age_holds_back_what_was_just_written() -> None:
    """A blob is announced once it has been left alone for so long."""
    world = World()
    world.storage.write(NAME, 14)
    monitor = world.monitor(minimum_age_seconds=120)
    monitor.round()
    assert world.broker.said() == []
    monitor.round(120)
    assert world.broker.said() == [(OBSERVED, NAME)]


def test_with_closing_switched_off_nothing_is_closed_or_followed_until_it_is() -> None:
    """Quiet blobs and vanished ones stay open, and hours other than the current ones are listed in full listings only."""
    world = World()
    world.storage.write(NAME, 14)
    world.storage.write(gone := hour_blob("x=/R1", 3), 14)
    monitor = world.monitor(closing_enabled=False, hours_back=1, reconcile_seconds=3600)
    monitor.round()
    del world.storage.blobs[gone]
    world.storage.listed.clear()
    monitor.round(60)
    assert sorted(world.storage.listed) == ["x=/R1/y=2026/m=05/d=01/h=11/", "x=/R1/y=2026/m=05/d=01/h=12/"]
    monitor.round(DAY.total_seconds())
    assert sorted(world.broker.said()) == sorted([(OBSERVED, NAME), (OBSERVED, gone)])


def test_what_moves_is_counted() -> None:
    """Listed blobs, events, listings and how long they take, scopes and what is known are visible as metrics."""
    metrics.SCOPES.clear()
    metrics.LAST_ROUND.clear()
    names = {
        "blobs_total": {"account": "sub.dev", "verdict": "new"},
        "events_total": {"account": "sub.dev", "type": "BlobObserved"},
        "listings_total": {"account": "sub.dev", "kind": "full"},
        "listing_seconds_total": {"account": "sub.dev", "kind": "full"},
        "transactions_total": {"result": "committed"},
    }
    before = {name: metric(name, labels) for name, labels in names.items()}
    world = World(layout=NameLayout.FLAT)
    world.storage.write("a", 1)
    world.storage.before = lambda _: world.time.advance(2)
    began = world.time.now.timestamp()
    world.monitor().round()
    assert all(metric(name, labels) > before[name] for name, labels in names.items())
    assert (metric("known_blobs"), metric("open_blobs")) == (1, 1)
    assert [metric("scopes", {"account": "sub.dev", "share": share}) for share in ("found", "owned")] == [1, 1]
    last = metric("last_round_timestamp_seconds", {"account": "sub.dev", "kind": "full"})
    assert began < last <= world.time.now.timestamp()
    assert metric("storage_up", {"account": "sub.dev"}) == 1


def test_a_long_full_listing_does_not_hold_up_the_current_hour() -> None:
    """Current hours are listed while a full listing is still going on."""
    world = World()
    world.storage.write(NAME, 1)
    announced, list_blobs = threading.Event(), world.storage.list_blobs

    def slow(prefix: str) -> Iterator[BlobInfo]:
        if prefix == "x=/R1/":
            assert announced.wait(10), "the current hour waits for the full listing"
        return list_blobs(prefix)

    setattr(world.storage, "list_blobs", slow)  # noqa: B010
    monitor = world.monitor()
    for _ in range(100):
        monitor.monitor.step()
        world.time.advance(1)
        if world.broker.said():
            announced.set()
            break
    monitor.round()
    assert world.broker.said() == [(OBSERVED, NAME)]


def test_a_monitor_is_ready_only_while_it_has_an_assignment() -> None:
    """Not before the first, nor after its partitions were taken or lost; an assignment of none is one."""
    stop, health = Stop(), Health()
    running = Running(World(), MonitorSettings())
    ready: list[str | None] = []

    def rebalance() -> None:
        ready.append(health.why_not_ready())
        running.session.give(range(PARTITIONS))
        ready.append(health.why_not_ready())
        running.monitor.revoked(running.session.owned())
        ready.append(health.why_not_ready())
        running.session.give(())
        ready.append(health.why_not_ready())
        stop.set()

    running.session.on_poll = rebalance
    running.monitor.run(stop, health)
    assert ready == [NO_PARTITIONS, None, NO_PARTITIONS, None]


def test_listing_a_hundred_thousand_blobs_takes_flat_memory() -> None:
    """A listing is a stream: its memory does not depend on how much there is to list."""

    class Endless(World):
        def blobs(self, prefix: str) -> Iterator[BlobInfo]:
            del prefix
            for number in range(100_000):
                yield BlobInfo(f"{number:0100}", str(number), 1, "BlockBlob", START, START)

    world = Endless(layout=NameLayout.FLAT)
    setattr(world.storage, "list_blobs", world.blobs)  # noqa: B010
    (place,) = world.places()
    task = ListingTask(Scope(place.territories[0], ""), ("",))
    job = Job("sub.dev", JobKind.FULL, 0, (), (task,))
    tracemalloc.start()
    try:
        (unit,) = units(job, Means({"logs": world.storage}, lambda: START, lambda _: iter(())))
        listed = sum(len(message.blobs) for message in unit.messages if isinstance(message, Chunk))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert listed == 100_000
    assert peak < 2_000_000
