"""How often a monitor lists what, and how many listings go on at a time."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta

import pytest

from libs.common.azure.storage.api import StorageUnavailable
from libs.common.settings.storage import NameLayout
from services.blob_monitor.prefixes import end_of_hour
from tests.monitor_world import START, World, hour_blob, metric, raiser

OBSERVED, CLOSED = "BlobObserved", "BlobClosed"


def requests(world: World, minutes: int, *, grows: bool) -> Counter[str]:
    """Let a monitor work for so long, while a blob of the current hour grows every minute or not; count listings by hour."""
    world.storage.listed.clear()
    monitor = world.monitor(reconcile_seconds=100_000)
    for _ in range(minutes):
        if grows:
            world.storage.write(hour_blob("x=/R1", world.time.now.hour), world.time.now.minute + 1)
        monitor.round(60 - 1.2)  # a round takes a little itself
    return Counter(world.storage.listed)


def test_a_growing_scope_is_listed_about_once_a_minute() -> None:
    """Blobs written every minute cost little more than one request a minute, and every growth is said within the next one."""
    world = World()
    world.interval = None
    world.storage.write(hour_blob("x=/R1", 12), 1)
    listed = requests(world, 80, grows=True)
    said = Counter(kind for kind, _ in world.broker.said())
    assert said[OBSERVED] >= 78
    assert said[CLOSED] >= 1
    hours = [f"x=/R1/y=2026/m=05/d=01/h={hour}/" for hour in (12, 13)]
    assert sum(listed[hour] for hour in hours) < 1.2 * 80


def test_a_scope_in_which_nothing_is_written_is_listed_seldom() -> None:
    """A resource that is gone costs one request in five minutes or so, and is found again when it writes."""
    world = World()
    world.interval = None
    world.storage.write(hour_blob("x=/R1", 3), 1)
    world.time.advance(86_400)
    listed = requests(world, 40, grows=False)
    assert sum(listed.values()) < 40
    assert len([kind for kind, _ in world.broker.said() if kind == OBSERVED]) == 1
    world.storage.write(hour_blob("x=/R1", world.time.now.hour, day=2), 7)
    monitor = world.monitor(reconcile_seconds=100_000)
    for _ in range(6):
        monitor.round(60)
    assert len([kind for kind, _ in world.broker.said() if kind == OBSERVED]) == 2


def test_an_interval_that_is_set_is_kept() -> None:
    """Who says how often blobs are looked for gets just that, also where nothing is written."""
    world = World()
    world.interval = 20.0
    world.storage.write(hour_blob("x=/R1", 3), 1)
    world.time.advance(86_400)
    monitor = world.monitor(reconcile_seconds=100_000)
    world.storage.listed.clear()
    for _ in range(10):
        monitor.round(20)
    assert Counter(world.storage.listed)["x=/R1/y=2026/m=05/d=02/h=12/"] == 10


def test_an_hour_is_left_to_full_listings_when_all_in_it_is_closed() -> None:
    """An earlier hour is listed until what was in it is closed, not as long as it is among the last hours."""
    world = World()
    world.storage.write(name := hour_blob("x=/R1", 11), 1)
    monitor = world.monitor(hours_back=2, reconcile_seconds=100_000)
    for _ in range(20):
        monitor.round(60)
    assert world.broker.said() == [(OBSERVED, name), (CLOSED, name)]
    world.storage.listed.clear()
    monitor.round(60)
    assert "x=/R1/y=2026/m=05/d=01/h=11/" not in world.storage.listed
    assert "x=/R1/y=2026/m=05/d=01/h=10/" in world.storage.listed  # nothing has been there yet


@pytest.mark.parametrize("concurrency", [1, 3])
def test_scopes_are_listed_side_by_side_up_to_a_bound(concurrency: int) -> None:
    """So many listings of an environment go on at the same time, and no more."""
    world = World()
    names = [hour_blob(f"x=/R{number}", 12) for number in range(9)]
    for name in names:
        world.storage.write(name, 1)
    lock, barrier = threading.Lock(), threading.Barrier(concurrency)
    running, most = 0, 0

    def together(prefix: str) -> None:
        nonlocal running, most
        if "/y=" not in prefix:
            return
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait(30)  # breaks if there are ever fewer
        with lock:
            running -= 1

    world.storage.before = together
    monitor = world.monitor(concurrency=concurrency, hours_back=1, reconcile_seconds=100_000)
    monitor.round()
    world.storage.before = lambda _: None
    assert most == concurrency
    assert sorted(world.broker.said()) == [(OBSERVED, name) for name in names]


def test_a_container_that_fails_is_reported_once_however_many_listings_of_it_go_on() -> None:
    """Listings that were under way with the one that failed say nothing more, and the rest of the container waits."""
    world = World()
    for number in range(20):
        world.storage.write(hour_blob(f"x=/R{number}", 12), 1)
    monitor = world.monitor(concurrency=4, reconcile_seconds=100_000)
    monitor.round()
    labels = {"account": "sub.dev", "error": "StorageUnavailable"}
    before = metric("storage_errors_total", labels)
    world.storage.before = raiser(StorageUnavailable("no answer", after=5.0))
    monitor.round()
    assert metric("storage_errors_total", labels) == before + 1


def test_layouts_without_hours_are_listed_every_half_minute_unless_told() -> None:
    """The interval that nobody has set depends on the layout."""
    world = World(layout=NameLayout.FLAT)
    world.interval = None
    monitor = world.monitor(reconcile_seconds=100_000)
    monitor.round()
    world.storage.listed.clear()
    for _ in range(4):
        monitor.round(30)
    assert world.storage.listed == [""] * 4


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("R/y=2026/m=05/d=01/h=12/m=00/x", START.replace(hour=13, minute=0)),
        ("R/y=2026/m=05/d=01/h=23/", START.replace(hour=0, minute=0) + timedelta(days=1)),
        ("R/y=2026/m=13/d=01/h=12/", None),
        ("R/y=9999/m=12/d=31/h=23/", None),
        ("R/y=2026/other", None),
    ],
)
def test_an_hour_ends_where_its_name_says(name: str, ends: object) -> None:
    """Names from outside may carry no time, or one that does not exist."""
    assert end_of_hour("R/", name) == ends
