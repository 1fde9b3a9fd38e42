"""Discovery by events: what a message of the queue leads to, when it is deleted, and what listings do meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from pydantic import SecretStr

from libs.common.azure.storage.api import BlobUnreadable, StorageRefused, StorageUnavailable
from libs.common.azure.storage.failures import Refused
from libs.common.errors import ConfigError
from libs.common.kafka.records import Outbound
from libs.common.settings import Settings
from libs.common.settings.storage import NameLayout
from services.blob_monitor.main import places
from tests.event_grid import encoded, grid_event, plain, written
from tests.monitor_world import PARTITIONS, TOPICS, FakeQueue, Running, World, hour_blob, metric, raiser

OBSERVED = "BlobObserved"
NAME = hour_blob("R1", 12)
SELDOM = 100_000.0


def _world(**source: Any) -> tuple[World, FakeQueue]:
    world = World(**source)
    world.queue = FakeQueue(world.time)
    return world, world.queue


def _started(world: World, **events: Any) -> Running:
    """Return a monitor after its first listings, which lists nothing more unless events say so or do not come."""
    chosen = {"poll_seconds": 20, "listing_seconds": SELDOM, **events}
    monitor = world.monitor(events=chosen, reconcile_seconds=SELDOM, closing_enabled=False)
    monitor.round()
    monitor.round()
    world.storage.listed.clear()
    return monitor


def _twice(monitor: Running) -> None:
    """Let messages be dealt with, and then deleted."""
    monitor.round()
    monitor.round()


def _errors(world: World) -> list[Outbound]:
    return [record for record in world.broker.log if record.topic == TOPICS.errors]


def _outcome(name: str) -> float:
    return metric("notices_total", {"account": "sub.dev", "outcome": name})


@pytest.mark.parametrize("layout", list(NameLayout))
def test_a_blob_that_an_event_names_is_announced_without_a_listing(layout: NameLayout) -> None:
    """In every layout, and again when the blob grows."""
    name = {NameLayout.HOURLY: NAME, NameLayout.DATED: "20260501-a", NameLayout.FLAT: "a"}[layout]
    world, events = _world(layout=layout)
    world.storage.write(neighbour := name.replace("A", "B").replace("a", "b"), 5)
    monitor = _started(world)
    assert world.broker.said() == [(OBSERVED, neighbour)]
    for size in (10, 20):
        world.storage.write(name, size)
        events.put(written(name))
        _twice(monitor)
        assert not events.messages
    assert [(event.size, event.creation_time) for event in world.broker.events()[1:]] == [
        (10, world.storage.blobs[name].creation_time),
        (20, world.storage.blobs[name].creation_time),
    ]
    assert world.storage.listed == []


def test_a_directory_that_an_event_names_need_not_be_discovered() -> None:
    """It is listed in full at once, as one that a listing has found: it may hold more."""
    world, events = _world()
    monitor = _started(world)
    world.storage.write(NAME, 10)
    world.storage.write(other := hour_blob("R1", 3), 10)
    events.put(written(NAME))
    _twice(monitor)
    assert sorted(world.broker.said()) == sorted([(OBSERVED, NAME), (OBSERVED, other)])
    assert world.storage.listed == ["R1/"]


def test_a_message_is_deleted_after_the_announcement_is_committed() -> None:
    """A transaction that fails leaves the message, which comes again and announces the blob once."""
    world, events = _world()
    monitor = _started(world)
    world.storage.write(NAME, 10)
    events.put(written(NAME))
    at_commit: list[int] = []
    commit = monitor.session.commit

    def watched(outputs: list[Outbound], offsets: Any) -> Any:
        at_commit.append(len(events.messages))
        return commit(outputs, offsets)

    monitor.session.commit = watched  # type: ignore[method-assign]
    world.broker.aborts = 1
    _twice(monitor)
    assert events.messages  # what failed is still hidden
    _twice(monitor)
    assert at_commit[:2] == [1, 1]
    assert not events.messages
    assert world.broker.said() == [(OBSERVED, NAME)]


def test_events_that_come_twice_late_or_in_any_order_announce_nothing_twice() -> None:
    """What is announced is the blob as it is now; a message that tells nothing new is only deleted."""
    world, events = _world()
    monitor = _started(world)
    world.storage.write(NAME, 10)
    world.storage.write(NAME, 20)
    events.put(*[written(NAME)] * 3)
    monitor.round()
    events.put(written(NAME))
    _twice(monitor)
    assert [event.size for event in world.broker.events()] == [20]
    assert len(events.deleted) == 4
    assert world.storage.asked == [NAME, NAME]  # once a request for messages


def test_what_is_not_followed_is_deleted_and_counted() -> None:
    """Other accounts, containers and types, names that no source accepts, and blobs that are gone are not looked at."""
    world, events = _world(exclude=("**/macAddress=X/**",))
    monitor = _started(world)
    world.storage.write(NAME, 10)
    before = {name: _outcome(name) for name in ("foreign", "other", "gone")}
    events.put(
        written(NAME, account="stranger"),
        written(NAME, container="others"),
        written("no/time/in/it"),
        written(hour_blob("R1", 12, nic="X")),
        encoded(grid_event(NAME, kind="Microsoft.Storage.BlobDeleted")),
        written(hour_blob("R1", 12, nic="GONE")),
    )
    _twice(monitor)
    assert not events.messages
    assert world.broker.said() == []
    assert world.storage.asked == [hour_blob("R1", 12, nic="GONE")]
    assert {name: _outcome(name) - count for name, count in before.items()} == {"foreign": 4, "other": 1, "gone": 1}


def test_what_cannot_be_understood_goes_to_errors_with_its_bytes() -> None:
    """It is deleted when that is committed; good events in the same message are announced."""
    world, events = _world()
    monitor = _started(world)
    world.storage.write(NAME, 10)
    mixed = plain(grid_event(NAME), {"no": "event"})
    events.put("rubbish \U0001f600", mixed)
    _twice(monitor)
    assert not events.messages
    assert world.broker.said() == [(OBSERVED, NAME)]
    first, second = _errors(world)
    assert (first.value, second.value) == ("rubbish \U0001f600".encode(), mixed.encode())
    headers = dict(first.headers)
    assert (headers["stage"], headers["code"], headers["source-queue"]) == (b"blob_monitor", b"bad_json", b"events")
    assert dict(second.headers)["code"] == b"bad_record"


def test_a_message_that_is_never_dealt_with_goes_to_errors_in_the_end() -> None:
    """A message that was read more often than allowed is not looked at again."""
    world, events = _world()
    monitor = _started(world, max_deliveries=3)
    events.put(written(NAME))
    next(iter(events.messages.values())).deliveries = 3
    _twice(monitor)
    (letter,) = _errors(world)
    assert (letter.value, dict(letter.headers)["code"]) == (written(NAME).encode(), b"unhandled")
    assert world.storage.asked == []
    assert not events.messages


def test_while_storage_fails_messages_wait_and_listings_are_as_often_as_without_events() -> None:
    """What the failing container's events tell is kept; when it works again the blob is announced, once."""
    world, events = _world()
    monitor = _started(world)
    world.storage.write(NAME, 10)
    world.storage.before = raiser(StorageUnavailable("no answer", after=5.0))
    events.put(written(NAME))
    monitor.round()
    monitor.round()
    assert events.messages
    world.storage.before = lambda _: None
    for _ in range(4):
        monitor.round()
    assert world.storage.listed
    assert world.broker.said() == [(OBSERVED, NAME)]
    assert not events.messages
    world.storage.listed.clear()
    monitor.round(1000)
    monitor.round(1000)
    assert world.storage.listed == []


@pytest.mark.parametrize("error", [Refused("no role"), StorageUnavailable("no answer"), StorageRefused("no such queue")])
def test_without_its_queue_a_monitor_lists_as_often_as_without_events(error: Exception) -> None:
    """A queue that cannot be read costs nothing but requests."""
    world, events = _world()
    monitor = _started(world)

    asked = []

    def fail() -> None:
        asked.append(world.time.seconds)
        raise error

    events.before = fail
    monitor.round()
    monitor.round(25)
    assert len(asked) == 1  # a queue that fails is left alone for half a minute
    assert metric("queue_up", {"account": "sub.dev"}) == 0
    world.storage.write(NAME, 10)
    for _ in range(12):  # a directory that is new is found every five minutes
        monitor.round()
    assert world.broker.said() == [(OBSERVED, NAME)]
    events.before = lambda: None
    for _ in range(4):
        monitor.round()
    assert metric("queue_up", {"account": "sub.dev"}) == 1
    world.storage.listed.clear()
    monitor.round(1000)
    assert world.storage.listed == []


def test_listings_find_what_no_event_has_told() -> None:
    """They come at an interval of their own."""
    world, _ = _world(layout=NameLayout.FLAT)
    monitor = _started(world, listing_seconds=600)
    monitor.round()
    world.storage.write("a", 10)
    world.storage.listed.clear()
    for _ in range(5):
        monitor.round(100)
    assert world.storage.listed == []
    monitor.round(200)
    assert world.storage.listed == [""]
    assert world.broker.said() == [(OBSERVED, "a")]


def test_a_full_queue_is_read_by_many_requests_at_a_time() -> None:
    """More messages than one request gives are all read in one go."""
    world, events = _world(layout=NameLayout.FLAT)
    monitor = _started(world)
    names = [f"blob{number}" for number in range(300)]
    for name in names:
        world.storage.write(name, 1)
    events.put(*map(written, names))
    _twice(monitor)
    assert sorted(world.broker.said()) == sorted((OBSERVED, name) for name in names)
    assert not events.messages


def test_one_monitor_reads_a_queue_and_owns_all_scopes_of_its_environment() -> None:
    """Of two monitors one announces everything, and the other takes over all of it."""
    world, events = _world()
    first, second = (_started(world) for _ in range(2))
    names = [hour_blob(f"R{number}", 12) for number in range(8)]
    for partitions in (((0, 1), (2, 3)), ((2, 3), (0, 1))):
        for monitor, owned in zip((first, second), partitions, strict=True):
            monitor.session.give(owned)
        for monitor in (first, second) * 2:
            monitor.round()
        before = [len(world.broker.said())]
        for name in names:
            world.storage.write(name, 10)
        events.put(*map(written, names))
        for monitor in (first, second):
            _twice(monitor)
            before.append(len(world.broker.said()))
        assert sorted(later - earlier for earlier, later in pairwise(before)) == [0, len(names)]
        assert not events.messages
    assert PARTITIONS == 4
    assert [world.broker.said().count((OBSERVED, name)) for name in names] == [2] * len(names)


def test_a_blob_whose_head_is_refused_is_looked_at_by_its_listing() -> None:
    """Blobs under a customer's key, and names that no request can hold, are announced as they are without events."""
    world, events = _world(layout=NameLayout.FLAT)
    monitor = _started(world)
    world.storage.write("ab", 10)
    world.storage.write("a", 20)

    def unreadable(_: str) -> Any:
        raise BlobUnreadable("encrypted with a key known only to its writer")

    world.storage.info = unreadable  # type: ignore[assignment, method-assign]
    events.put(written("a"))
    monitor.round()
    assert world.broker.said() == [(OBSERVED, "a")]


def test_events_wait_for_the_first_look() -> None:
    """With start_fresh a blob that was there before counts as read, also if an event names it first."""
    world, events = _world()
    world.storage.write(NAME, 10)
    world.time.advance(3600)
    events.put(written(NAME))
    monitor = world.monitor(start_policy="start_fresh", events={"poll_seconds": 20}, closing_enabled=False)
    for _ in range(4):
        monitor.round()
    assert world.broker.said() == []
    assert not events.messages


def _settings(change: Callable[[dict[str, Any]], None] = lambda _: None) -> Settings:
    environment = {
        "storage": {"account_name": "account", "account_key": SecretStr("c2VjcmV0LWtleQ==")},
        "sources": [{"container": "logs"}],
        "events": {"queue": "blob-events"},
    }
    other = {**environment, "sources": [{"container": "others"}], "events": {"queue": "other-events"}}
    values: dict[str, Any] = {"subscriptions": {"sub": {"environments": {"dev": environment, "ops": other}}}}
    change(values)
    return Settings(**values)


def test_an_environment_with_events_has_a_feed() -> None:
    """The queue is that of the storage account, whose name events have to have."""
    first, _ = places(_settings())
    assert first.feed is not None
    assert (first.feed.name, first.feed.account) == ("blob-events", "account")


def test_two_environments_cannot_read_one_queue() -> None:
    """Each would delete what is for the other; the message names both."""

    def share(values: dict[str, Any]) -> None:
        environments = values["subscriptions"]["sub"]["environments"]
        environments["ops"]["events"] = environments["dev"]["events"]

    with pytest.raises(
        ConfigError, match=r"sub\.dev and sub\.ops read the same queue, https://account\.queue\.core\.windows\.net"
    ):
        places(_settings(share))


def test_events_and_a_minimum_age_exclude_each_other() -> None:
    """A blob that is too young when its event comes would be forgotten until the next listing."""
    with pytest.raises(ConfigError, match="minimum_age_seconds"):
        places(_settings(lambda values: values.update(monitor={"minimum_age_seconds": 5})))
