"""Environments and containers side by side, and what happens when their storage fails."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.common.azure.storage.api import BlobChanged, BlobGone, BlobUnreadable, StorageError, StorageUnavailable
from libs.common.azure.storage.failures import Refused
from libs.common.messages.events import BlobObserved
from libs.common.settings.storage import NameLayout
from services.blob_monitor import metrics
from services.blob_monitor.environment import EnvironmentParts
from tests.monitor_world import Storage, World, metric, raiser

OBSERVED = "BlobObserved"


def test_a_missing_container_and_failing_storage_are_survived() -> None:
    """A storage error costs a pause, never the process, and what comes back is announced."""
    world = World(layout=NameLayout.FLAT)
    world.storage.write("a", 1)
    monitor = world.monitor()
    for error in (BlobGone("no such container"), StorageUnavailable("no answer", after=5.0)):
        world.storage.before = raiser(error)
        monitor.round()
    assert world.broker.said() == []
    world.storage.before = lambda _: None
    monitor.round()
    assert world.broker.said() == [(OBSERVED, "a")]


class TwoEnvironments(World):
    """A second environment, with storage and an interval of its own."""

    def __init__(self, interval: float) -> None:
        super().__init__(layout=NameLayout.FLAT)
        self.other = Storage(self.time)
        self._interval = interval

    def places(self) -> tuple[EnvironmentParts, ...]:
        """Return both."""
        (first,) = super().places()
        territory = replace(first.territories[0], environment="ops")
        return first, EnvironmentParts("sub.ops", self._interval, (territory,), {"logs": self.other})


def test_environments_are_listed_each_at_its_own_interval_and_fail_alone() -> None:
    """The same container name in two accounts is two containers; an account that fails holds up no other."""
    world = TwoEnvironments(interval=300)
    world.storage.write("a", 1)
    world.other.write("a", 2)
    monitor = world.monitor(reconcile_seconds=10_000)
    monitor.round()
    found = {event.blob: (event.size, event.environment) for event in world.broker.events(BlobObserved)}
    assert found == {"sub.dev/logs/a": (1, "dev"), "sub.ops/logs/a": (2, "ops")}
    world.storage.listed.clear()
    world.other.listed.clear()
    for _ in range(4):
        monitor.round()
    assert (len(world.storage.listed), len(world.other.listed)) == (4, 0)
    world.other.before = raiser(StorageUnavailable("no answer", after=5.0))
    world.storage.write("a", 3)
    monitor.round(301)
    assert world.broker.said()[2:] == [(OBSERVED, "a")]


def test_a_monitor_that_can_list_nothing_is_not_ready() -> None:
    """Readiness names the accounts while all of them fail, not while one works, and says nothing of what left."""
    world = TwoEnvironments(interval=30)
    monitor = world.monitor()
    ready = monitor.monitor._watch.health.why_not_ready
    world.other.before = raiser(StorageUnavailable("no answer", after=5.0))
    monitor.round()
    assert ready() is None
    refused = metric("storage_errors_total", {"account": "sub.dev", "error": "Refused"})
    world.storage.before = raiser(Refused("wrong key"))
    monitor.round()
    assert ready() == "no container can be listed: sub.dev (Refused), sub.ops (StorageUnavailable); see the log for reasons"
    assert metric("storage_errors_total", {"account": "sub.dev", "error": "Refused"}) > refused
    world.storage.before = lambda _: None
    monitor.round()
    assert ready() is None
    world.storage.before = raiser(Refused("wrong key"))
    monitor.round()
    assert ready() is not None
    monitor.session.give(())
    assert ready() is None


class Neighbours(World):
    """One environment with two containers, of which the second can fail; it comes before or after the first."""

    def __init__(self, other: str) -> None:
        super().__init__(layout=NameLayout.FLAT)
        self.other = Storage(self.time)
        self._name = other

    def places(self) -> tuple[EnvironmentParts, ...]:
        """Return the environment."""
        (place,) = super().places()
        (logs,) = place.territories
        territories = sorted((logs, replace(logs, container=self._name)), key=lambda territory: territory.container)
        return (replace(place, territories=tuple(territories), containers={**place.containers, self._name: self.other}),)


@pytest.mark.parametrize("other", ["before", "yonder"])
@pytest.mark.parametrize(
    "error", [BlobGone("?"), Refused("?"), StorageUnavailable("?", after=5.0), BlobUnreadable("?"), BlobChanged("?")]
)
def test_one_container_that_fails_does_not_stop_the_others(error: StorageError, other: str) -> None:
    """Whatever storage says about a container, its neighbours are listed as ever, and it is again when it works."""
    world = Neighbours(other)
    world.other.write("b", 1)
    world.other.before = raiser(error)
    monitor = world.monitor()
    sizes = (1, 2, 3)
    trouble = {"account": "sub.dev", "container": other, "error": type(error).__name__}
    for size in sizes:
        world.storage.write("a", size)
        monitor.round()
        assert metric("storage_up", {"account": "sub.dev"}) == 0
        assert metric("storage_trouble", trouble) == 1
    assert [event.size for event in world.broker.events(BlobObserved)] == list(sizes)
    world.other.before = lambda _: None
    monitor.round()
    assert world.broker.said()[len(sizes) :] == [(OBSERVED, "b")]
    assert metric("storage_up", {"account": "sub.dev"}) == 1
    assert metric("storage_trouble", trouble) == 0


def test_a_container_is_in_one_kind_of_trouble_at_a_time() -> None:
    """When storage fails in another way than before, the metric says the new one only."""
    metrics.STORAGE_TROUBLE.clear()  # of other tests
    world = World(layout=NameLayout.FLAT)
    monitor = world.monitor()
    place = {"account": "sub.dev", "container": "logs"}
    for error, other in ((BlobGone("?"), Refused), (Refused("?"), BlobGone)):
        world.storage.before = raiser(error)
        monitor.round()
        assert metric("storage_trouble", {**place, "error": type(error).__name__}) == 1
        assert metric("storage_trouble", {**place, "error": other.__name__}) == 0


def test_storage_that_asks_for_a_pause_gets_it() -> None:
    """An environment whose storage says when to come back is left alone until then."""
    world = World(layout=NameLayout.FLAT)
    asked: list[str] = []

    def throttled(prefix: str) -> None:
        asked.append(prefix)
        raise StorageUnavailable("too many requests", after=300.0)

    world.storage.before = throttled
    monitor = world.monitor()
    monitor.round()
    tries = len(asked)
    for _ in range(5):
        monitor.round()
    assert len(asked) == tries
    monitor.round(300)
    assert len(asked) > tries


def test_a_bug_while_listing_ends_the_process() -> None:
    """What is not a storage error is not swallowed by the thread it happens in."""
    world = World(layout=NameLayout.FLAT)
    world.storage.before = raiser(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        world.monitor().round()
