"""What the monitor makes of what is there when it starts, or starts again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from libs.common.azure.storage.api import BlobInfo, StorageUnavailable
from libs.common.messages.events import BlobClosed, BlobObserved, Stream
from libs.common.settings.storage import NameLayout
from tests.monitor_world import PARTITIONS, World, aged, hour_blob, raiser

NAME = hour_blob("x=/R1", 12)
OBSERVED = "BlobObserved"
HOUR = timedelta(hours=1)


def test_start_over_announces_everything_once_per_replay_id() -> None:
    """A replay is announced with its id, also over restarts; growth afterwards keeps the id."""
    world = World()
    world.storage.write(NAME, 14)
    world.monitor().round()
    for _ in range(2):
        monitor = world.monitor(start_policy="start_over", replay_id="again")
        monitor.round()
        monitor.round()
    assert [event.replay_id for event in world.broker.events(BlobObserved)] == ["", "again"]
    world.storage.write(NAME, 20)
    world.monitor().round()
    assert world.broker.events(BlobObserved)[-1].replay_id == "again"


def test_start_fresh_counts_what_exists_as_read_and_reads_later_blobs_from_the_beginning() -> None:
    """Existing blobs are announced when they grow, above their baseline; new blobs, also after a restart, from nothing."""
    world = World()
    world.storage.write(NAME, 14)
    world.monitor(start_policy="start_fresh").round()
    assert world.broker.said() == []
    world.time.advance(3600)
    world.storage.write(new := hour_blob("x=/R1", 13), 30)
    world.storage.write(elsewhere := hour_blob("x=/R9", 13), 30)
    world.storage.write(NAME, 20)
    world.monitor(start_policy="start_fresh").round()
    found = {event.blob.split("/", 2)[2]: event.baseline_offset for event in world.broker.events(BlobObserved)}
    assert found == {NAME: 14, new: None, elsewhere: None}


def test_start_from_counts_older_blobs_as_read() -> None:
    """Blobs last written before the given time are only announced when they grow, above their baseline also when they close."""
    world = World()
    world.storage.write(old := hour_blob("x=/R1", 3), 14)
    aged(world.storage, old, 9 * HOUR)
    world.storage.write(NAME, 14)
    monitor = world.monitor(start_policy="from", start_from=datetime(2026, 5, 1, 12, 0, tzinfo=UTC), reconcile_seconds=60)
    monitor.round()
    assert world.broker.said() == [(OBSERVED, NAME)]
    world.storage.write(old, 20)
    monitor.round(61)
    assert [e.baseline_offset for e in world.broker.events(BlobObserved) if e.blob.endswith(old)] == [14]
    monitor.round(16 * 60)
    closed = {e.blob: (e.baseline_offset, e.stream) for e in world.broker.events(BlobClosed)}
    assert closed[f"sub.dev/logs/{old}"] == (14, Stream.FLOW_LOGS)


def test_resume_policy_timestamp_leaves_older_unknown_blobs_alone() -> None:
    """Resuming by time looks only at blobs written after the newest known one, less an overlap."""
    world = World(layout=NameLayout.FLAT)
    world.storage.write("known", 1)
    world.monitor(resume_policy="timestamp").round()
    world.storage.write("old", 1)
    aged(world.storage, "old", 2 * HOUR)
    world.storage.write("new", 1)
    world.monitor(resume_policy="timestamp").round()
    assert sorted(world.broker.said()) == [(OBSERVED, "known"), (OBSERVED, "new")]


@pytest.mark.parametrize("how", ["abort", "rebalance", "restart"])
def test_resume_policy_timestamp_loses_nothing_when_the_first_full_listing_is_disturbed(how: str) -> None:
    """Older blobs are left alone only once everything has been listed: before that, newer ones say nothing about them."""
    world = World()
    world.storage.write(old := hour_blob("x=/R1", 3), 1)
    aged(world.storage, old, 9 * HOUR)
    world.storage.write(NAME, 1)
    throttled, list_blobs = {"x=/R1/"}, world.storage.list_blobs

    def limited(prefix: str) -> Iterator[BlobInfo]:
        if prefix in throttled:
            raise StorageUnavailable("too many requests", after=1.0)
        return list_blobs(prefix)

    setattr(world.storage, "list_blobs", limited)  # noqa: B010
    monitor = world.monitor(resume_policy="timestamp", hours_back=1)
    monitor.round()
    assert world.broker.said() == [(OBSERVED, NAME)]
    if how == "abort":
        world.storage.write(NAME, 2)
        world.broker.aborts = 1
        monitor.round()
    elif how == "rebalance":
        monitor.session.give(range(PARTITIONS))
    else:
        monitor = world.monitor(resume_policy="timestamp", hours_back=1)
    throttled.clear()
    for _ in range(3):
        monitor.round()
    assert (OBSERVED, old) in world.broker.said()


def test_resume_policy_timestamp_reaches_back_to_the_last_full_listing() -> None:
    """What was written to an older hour since then is found after a restart, however new the newest known blob is."""
    world = World()
    world.storage.write(NAME, 1)
    monitor = world.monitor(resume_policy="timestamp", hours_back=1, reconcile_seconds=100_000)
    monitor.round()
    world.storage.write(late := hour_blob("x=/R1", 3), 1)
    world.time.advance(2 * 3600)
    world.storage.write(new := hour_blob("x=/R1", 14), 1)
    monitor.round()
    assert (OBSERVED, new) in world.broker.said()
    world.monitor(resume_policy="timestamp", hours_back=1).round()
    assert (OBSERVED, late) in world.broker.said()


@pytest.mark.parametrize("off", [HOUR, -HOUR])
def test_start_fresh_goes_by_the_clock_of_storage(off: timedelta) -> None:
    """However wrong the monitor's clock is: what was there at its first look counts as read, what comes after is read whole."""
    world = World()
    world.clock_off = off
    world.storage.write(NAME, 14)
    monitor = world.monitor(start_policy="start_fresh", reconcile_seconds=60)
    monitor.round()
    assert world.broker.said() == []
    world.storage.write(new := hour_blob("x=/R1", 12, nic="B"), 30)
    world.storage.write(NAME, 20)
    for _ in range(3):
        monitor.round(61)
    found = {event.blob.split("/", 2)[2]: event.baseline_offset for event in world.broker.events(BlobObserved)}
    assert found == {NAME: 14, new: None}


def test_start_fresh_begins_before_the_first_blob() -> None:
    """Where nothing is at the first look, everything that comes is read whole."""
    world = World(layout=NameLayout.FLAT)
    monitor = world.monitor(start_policy="start_fresh")
    monitor.round()
    world.storage.write("first", 5)
    monitor.round()
    assert [(event.size, event.baseline_offset) for event in world.broker.events(BlobObserved)] == [(5, None)]


def test_a_first_look_that_fails_is_taken_again() -> None:
    """Storage may be away, or the transaction abort, when a start_fresh begins: nothing is listed before it is written down."""
    world = World(layout=NameLayout.FLAT)
    world.storage.write("there", 5)
    world.storage.before = raiser(StorageUnavailable("away", after=1.0))
    monitor = world.monitor(start_policy="start_fresh")
    monitor.round()
    world.storage.before, world.broker.aborts = lambda _: None, 1
    world.storage.write("there", 6)
    for _ in range(2):
        monitor.round()
    world.storage.write("there", 9)
    monitor.round()
    assert [(event.size, event.baseline_offset) for event in world.broker.events(BlobObserved)] == [(9, 6)]
