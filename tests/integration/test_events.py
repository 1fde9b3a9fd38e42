"""Discovery by events on a real queue, real blobs and real Kafka, with listings so rare that they find nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from libs.common.azure.storage.writer import BlobWriter
from libs.common.kafka.readers.follow import Follower, Since
from libs.common.messages.events import BlobsListed
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.storage import StorageAccount
from libs.local.azurite import ACCOUNT, LocalAzurite
from tests.event_grid import cloud_event, encoded, grid_event, plain
from tests.monitor_stage import Stage, this_hour
from tests.queue_writer import QueueWriter

pytestmark = [pytest.mark.kafka, pytest.mark.azurite]
SELDOM = {"discovery_seconds": 1000, "reconcile_seconds": 1000, "closing_enabled": False}


class EventStage(Stage):
    """A stage with a queue."""

    queue: QueueWriter

    def tell(self, name: str, **other: str) -> None:
        """Send the event that says that a blob was written."""
        self.queue.put(encoded(grid_event(name, **{"container": self.container, "account": ACCOUNT, **other})))

    def log(self, ordinal: int) -> str:
        """Return what a monitor has written since it was given the partitions that it has."""
        _, mark, rest = (self.directory / f"monitor-{ordinal}.log").read_text().rpartition("partitions assigned")
        return mark + rest

    def reads(self, ordinal: int) -> bool:
        """Tell whether a monitor reads the queue."""
        return "event queue works" in self.log(ordinal)

    def listens(self, *ordinals: int) -> int:
        """Wait until the queue is read, and all that there is has been listed; return the number of the monitor."""
        self.wait(lambda: any(key.startswith(b"full:") for key in self.registered()), "a full listing")
        share = f"count={4 // len(ordinals)}"
        self.wait(lambda: all(share in self.log(ordinal) for ordinal in ordinals), "the partitions are divided")
        self.wait(lambda: sum(map(self.reads, ordinals)) == 1, "the queue is read")
        return next(filter(self.reads, ordinals))

    def has(self, names: list[str], size: int) -> Callable[[], bool]:
        """Return a condition: all these blobs were announced at that size."""
        return lambda: all(size in [event.size for event in self.observed(name)] for name in names)

    def drained(self) -> Callable[[], bool]:
        """Return a condition: no message is left, hidden ones neither."""
        return lambda: self.queue.count() == 0


@pytest.fixture
def stage(
    kafka_settings: KafkaSettings,
    topics: TopicSettings,
    azurite: LocalAzurite,
    container: str,
    tmp_path: Path,
    queue: QueueWriter,
) -> Iterator[EventStage]:
    """A stage whose monitors are told of blobs by a queue."""
    writer = BlobWriter(StorageAccount(connection_string=SecretStr(azurite.connection_string)), "sub.dev")
    made = EventStage(kafka_settings, topics, azurite, container, tmp_path, writer)
    made.queue = queue
    connection_string = queue.storage.connection_string
    assert connection_string is not None
    made.environment = {
        "events": {"queue": queue.name},
        "storage": {"connection_string": connection_string.get_secret_value()},
    }
    made.write(this_hour("R0"), 1)  # a scope that is listed at the start and then not again
    yield made
    made.close()


def _rare(**events: Any) -> dict[str, Any]:
    return {**SELDOM, "interval_seconds": 1000, "events": {"listing_seconds": 1000, **events}}


def test_blobs_are_announced_by_events_alone(stage: EventStage) -> None:
    """In both schemas and encodings, at each change once; what is foreign is deleted, what is no event goes to Errors."""
    names = [this_hour("R0", nic) for nic in "BCDE"]
    messages: list[Callable[[str], str]] = [
        lambda name: encoded(grid_event(name, stage.container, ACCOUNT)),
        lambda name: plain(grid_event(name, stage.container, ACCOUNT)),
        lambda name: encoded(cloud_event(name, stage.container, ACCOUNT)),
        lambda name: plain(cloud_event(name, stage.container, ACCOUNT), grid_event(name, stage.container, ACCOUNT)),
    ]
    with stage.monitor(**_rare()):
        stage.listens(0)
        for size in (10, 20):
            since = datetime.now(UTC)
            for name, message in zip(names, messages, strict=True):
                stage.write(name, size)
                stage.queue.put(message(name))
            stage.wait(stage.has(names, size), f"all announced at {size}")
        stage.write(foreign := this_hour("R0", "F"), 10)
        stage.tell(foreign, account="stranger")
        stage.tell(foreign, container="others")
        stage.queue.put("no event")
        for name in names:
            stage.tell(name)
        stage.wait(stage.drained(), "all messages deleted")
    assert [[event.size for event in stage.observed(name)] for name in names] == [[10, 20]] * len(names)
    assert stage.observed(foreign) == []
    assert not [event for event in stage.events if isinstance(event, BlobsListed) and event.listing_started_at > since]
    follower = Follower(stage.kafka, (stage.topics.errors,), Since(0))
    follower.open()
    letters: list[bytes | None] = []

    def read() -> bool:
        letters.extend(record.value for record in follower.poll(0.2))
        return bool(letters)

    stage.wait(read, "the dead letter")
    follower.close()
    assert letters == [b"no event"]


def test_a_kill_between_announcement_and_deletion_announces_nothing_twice(stage: EventStage) -> None:
    """The messages come again to the next process, which knows these versions and deletes them."""
    names = [this_hour("R0", f"N{number}") for number in range(40)]
    with stage.monitor(**_rare(visibility_seconds=2)) as process:
        stage.listens(0)
        for name in names:
            stage.write(name, 10)
            stage.tell(name)
        stage.wait(lambda: any(stage.observed(name) for name in names), "one announced")
        process.send_signal(signal.SIGKILL)
        process.wait()
    with stage.monitor(**_rare(visibility_seconds=2)):
        stage.wait(stage.has(names, 10), "all announced")
        stage.wait(stage.drained(), "all messages deleted")
    assert [len(stage.observed(name)) for name in names] == [1] * len(names)


def test_what_is_already_announced_is_only_deleted(stage: EventStage) -> None:
    """Events about what the first listings have found announce nothing."""
    names = [this_hour("R0", f"N{number}") for number in range(10)]
    for name in names:
        stage.write(name, 10)
        stage.tell(name)
    with stage.monitor(**_rare()):
        stage.wait(stage.has(names, 10), "all announced")
        stage.wait(stage.drained(), "all messages deleted")
    assert [len(stage.observed(name)) for name in names] == [1] * len(names)


def test_two_monitors_and_one_queue(stage: EventStage) -> None:
    """One of them reads it, for all scopes; when it is killed the other takes over, and everything is said once."""
    names = [this_hour(f"R{number}", "B") for number in range(12)]
    with stage.monitor(0, **_rare(visibility_seconds=2)) as first, stage.monitor(1, **_rare(visibility_seconds=2)) as second:
        reader = stage.listens(0, 1)
        for name in names[:6]:
            stage.write(name, 10)
            stage.tell(name)
        stage.wait(stage.has(names[:6], 10), "all announced")
        owner = (first, second)[reader]
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        for name in names:
            stage.write(name, 20)
            stage.tell(name)
        stage.wait(stage.has(names, 20), "by the other")
        stage.wait(stage.drained(), "all messages deleted")
    assert [[event.size for event in stage.observed(name)] for name in names] == [[10, 20]] * 6 + [[20]] * 6
