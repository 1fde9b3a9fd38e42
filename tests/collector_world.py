"""The collector's main loop on requests in memory and an Azure Resource Manager on this machine, for unit tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from libs.common.azure.storage.api import WorkQueue
from libs.common.kafka.records import Inbound, Listener, TopicPartition
from libs.common.kafka.testing import FakeSession
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.process.health import Health
from libs.common.process.service import Stop
from libs.common.rows.reading import reader_of
from libs.common.rows.types.resource_changes import RESOURCE_CHANGES
from libs.common.rows.types.resources import RESOURCES
from libs.common.rows.types.results import RESULTS
from libs.common.rows.wire import decode_rows
from libs.common.settings.collector import CollectorSettings, RequestQueue
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.demo.arm.server import COMPUTE, SUBSCRIPTION, ArmWorld
from services.collector.app import CollectorParts, CollectorService
from services.collector.comparing import Comparison
from services.collector.defaults import CallDefaults, NoDefaults
from services.collector.history import ResourceHistory
from services.collector.inventory import Inventory, InventoryRules
from services.collector.progress import KnownRequests, RequestProgress, decode_progress
from services.collector.queue_feed import QueueFeed, QueuePlace
from services.collector.schedules import CollectionSchedules
from tests.arm import WorldTokens, client_for

TOPICS = TopicSettings()
PARTITION = TopicPartition(TOPICS.collection_requests, 0)
QUEUE = RequestQueue.model_validate(
    {"queue": "requests", "storage": {"account_name": "requests", "account_key": "a2V5"}, "poll_seconds": 0.01}
)
SECONDS = 60.0
LIST: dict[str, Any] = {
    "service": "compute",
    "api_version": "2024-07-01",
    "resource_path": f"/subscriptions/{{id}}/providers/{COMPUTE}/virtualMachines",
    "parameters": {"id": SUBSCRIPTION},
}


def one(name: str) -> dict[str, Any]:
    """Return the call for one machine."""
    path = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/group-0/providers/{COMPUTE}/virtualMachines/{{name}}"
    return LIST | {"resource_path": path, "parameters": {"name": name}}


def request(message_id: str, *calls: dict[str, Any], **more: Any) -> bytes:
    """Return a request as a message."""
    return msgspec.json.encode({"message_id": message_id, "api_requests": list(calls), **more})


def rows_in(values: Collection[Any]) -> list[dict[str, Any]]:
    """Return the rows in messages of results."""
    return [row for value in values for row in decode_rows(RESULTS, value).to_pylist()]


class _StoppingSession(FakeSession):
    """Looks after each poll whether the test is over."""

    def __init__(self, listener: Listener, look: Callable[[], None]) -> None:
        super().__init__(listener, [PARTITION])
        self._look = look

    def poll(self, max_records: int, seconds: float) -> list[Inbound]:
        """Return records, after a look."""
        self._look()
        return super().poll(max_records, seconds)


@dataclass
class CollectorWorld:
    """Requests, and what came of them."""

    arm: ArmWorld
    url: str
    settings: CollectorSettings = field(default_factory=lambda: CollectorSettings(commit_seconds=0.02, concurrency=4))
    passed: float = 0.0  # seconds by which clocks are ahead
    records: list[Inbound] = field(default_factory=list)
    session: FakeSession | None = None
    queue: WorkQueue | None = None
    poison: WorkQueue | None = None
    defaults: CallDefaults = field(default_factory=NoDefaults)
    health: Health = field(default_factory=Health)
    prepare: Callable[[FakeSession], None] = lambda _: None
    partitions: Callable[[], int] = lambda: 1
    service: CollectorService | None = None  # the one that runs, or ran last
    expired: set[int] = field(default_factory=set)  # offsets of requests that Kafka has deleted

    def send(self, data: bytes, key: str | None = None) -> None:
        """Add a message under its id, or another key."""
        own = msgspec.json.decode(data)["message_id"] if key is None else key
        self.records.append(Inbound(PARTITION.topic, 0, len(self.records), 0, own.encode(), data, ()))

    def run(self, *, until: Callable[[], bool] | None = None) -> None:
        """Run a collector until all requests are over, or `until`; like another process, it knows what was committed."""
        stop, deadline = Stop(), time.monotonic() + SECONDS
        done = until or (lambda: self.committed == len(self.records))

        def look() -> None:
            assert time.monotonic() < deadline, self.rows()
            if done():
                stop.set()
            time.sleep(0.001)

        client = client_for(self.url, WorldTokens(self.arm), clock=self._clock)
        known = KnownRequests(self._table, 1.0, self._now)
        inventory = Inventory(self._resources, 1.0, InventoryRules.of(self.settings))
        feed = None if self.queue is None else QueueFeed(QueuePlace(self.queue, self.poison or self.queue, QUEUE, TOPICS))
        limits, schedules = (
            TopicLimits(KafkaSettings()),
            CollectionSchedules(self.settings.schedules, TOPICS.collection_requests, self.partitions),
        )
        records = CommittedRecords(lambda: self._written(TOPICS.resources))
        history = ResourceHistory(TOPICS, records, Comparison.of(self.settings.ignore_changes_of), 1.0)
        parts = CollectorParts(
            self.settings,
            TOPICS,
            client,
            known,
            inventory,
            history,
            CommittedRecords(lambda: [record for record in self.records if record.offset not in self.expired]),
            feed,
            schedules,
            limits,
            self.defaults,
            self._clock,
            self._now,
        )
        self.service = CollectorService(parts, lambda listener: self._session(listener, look))
        self.service.run(stop, self.health)

    @property
    def committed(self) -> int:
        """The next offset."""
        return 0 if self.session is None else self.session.next_offsets.get(PARTITION, 0)

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows that were committed."""
        return rows_in([output.value for output in self._outputs(TOPICS.collection_results)])

    def ends(self) -> dict[str, tuple[str, int]]:
        """Return how each call ended, and how many elements were received."""
        return {row["source"]: (row["status"], row["received"]) for row in self.rows() if row["kind"] == "end"}

    def progress(self) -> dict[str, RequestProgress]:
        """Return how far each request has come."""
        written = self._written(TOPICS.collection_state)
        return {(record.key or b"").decode(): decode_progress(record.value or b"") for record in written}

    def resources(self) -> list[tuple[str, str]]:
        """Return name and state of all resources that were written, in order."""
        return [(row["name"], row["state"]) for row in self.resource_rows()]

    def resource_rows(self) -> list[dict[str, Any]]:
        """Return all resources that were written, as rows."""
        read = reader_of(RESOURCES, lambda _: "id")
        return [row for record in self._written(TOPICS.resources) for row in read(record).to_pylist()]

    def changes(self) -> list[tuple[str, str, str | None, str | None, str | None]]:
        """Return name, change, path, old and new value of all changes of resources, in order."""
        return [(row["name"], row["change"], row["path"], row["old"], row["new"]) for row in self.change_rows()]

    def change_rows(self) -> list[dict[str, Any]]:
        """Return all changes of resources, as rows."""
        read = reader_of(RESOURCE_CHANGES, lambda _: "id")
        return [row for record in self._written(TOPICS.resource_changes) for row in read(record).to_pylist()]

    def _written(self, topic: str) -> list[Inbound]:
        now_ms = int(self._now() * 1_000)
        return [Inbound(topic, 0, offset, now_ms, o.key, o.value, o.headers) for offset, o in enumerate(self._outputs(topic))]

    def letters(self) -> list[tuple[str, bytes]]:
        """Return code and content of all dead letters."""
        return [(dict(o.headers)["code"].decode(), bytes(o.value or b"")) for o in self._outputs(TOPICS.errors)]

    def _outputs(self, topic: str) -> list[Any]:
        return [] if self.session is None else self.session.outputs(topic)

    def _clock(self) -> float:
        return time.monotonic() + self.passed

    def _now(self) -> float:
        return time.time() + self.passed

    def _session(self, listener: Listener, look: Callable[[], None]) -> FakeSession:
        before, self.session = self.session, _StoppingSession(listener, look)
        if before is not None:
            self.session.committed = before.committed
            self.session.next_offsets = before.next_offsets
        self.session.feed(self.records)
        self.prepare(self.session)
        return self.session

    def _table(self, apply: Callable[[Inbound], None]) -> CommittedTable:
        return CommittedTable(lambda: self._written(TOPICS.collection_state), apply)

    def _resources(self, apply: Callable[[Inbound], None]) -> CommittedTable:
        return CommittedTable(lambda: self._written(TOPICS.resources), apply)


class CommittedRecords:
    """Records that can be read again."""

    def __init__(self, written: Callable[[], list[Inbound]]) -> None:
        self._written = written

    def read_many(
        self, places: Iterable[tuple[int, int]], patience: float, between: Callable[[], None]
    ) -> dict[tuple[int, int], Inbound]:
        """Return those that exist."""
        del patience
        between()
        written = {(record.partition, record.offset): record for record in self._written()}
        return {place: written[place] for place in places if place in written}

    def close(self) -> None:
        """Nothing to close."""


class CommittedTable:
    """What was committed to a compacted topic with one partition."""

    def __init__(self, written: Callable[[], list[Inbound]], apply: Callable[[Inbound], None]) -> None:
        self._written = written
        self._apply = apply
        self._next = 0

    def open(self, partitions: Collection[int] = (0,)) -> None:
        """There is one partition."""
        assert list(partitions) == [0]

    def catch_up(self, timeout: float, between: Callable[[], None]) -> None:
        """Apply what is new."""
        del timeout
        between()
        for record in self._written()[self._next :]:
            self._apply(record)
            self._next += 1

    def take_new(self, between: Callable[[], None]) -> None:
        """Apply what is new, too."""
        self.catch_up(0.0, between)

    def close(self) -> None:
        """Nothing to close."""
