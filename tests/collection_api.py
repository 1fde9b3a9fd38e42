"""The API of the collector over two topics in memory, for unit tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from libs.common.errors import ServerUnreachable
from libs.common.http.method import Method
from libs.common.http.server.connection import HttpLimits
from libs.common.http.server.server import HttpPlace, HttpServer
from libs.common.kafka.publisher import RefusedRecord
from libs.common.kafka.records import Inbound, Outbound
from libs.common.messages.blobs import partition_of
from libs.local.ports import LOOPBACK
from services.collector.api.api import CollectionApi
from services.collector.api.directory import DirectoryParts, RequestDirectory
from services.collector.api.openapi import openapi_document
from services.collector.api.places import REQUEST, STATE
from services.collector.api.site import CollectionSite, SiteParts
from services.collector.api.writer import RequestWriter
from services.collector.progress import RequestProgress, encode_progress
from services.collector.requests.schema import MOST_BYTES
from tests.clock import Clock
from tests.http_wire import WireAnswer, ask

TOKEN = "a-token-for-tests-0123456789"  # noqa: S105 - of tests only
TOPIC = "requests"
PARTITIONS = 4


@dataclass
class MemoryTopic:
    """A topic with four partitions."""

    name: str
    records: list[Inbound] = field(default_factory=list)
    gone: set[tuple[int, int]] = field(default_factory=set)  # partition and offset of what the topic no longer has
    down: bool = False
    held_up: Callable[[], None] = lambda: None
    reads: int = 0

    def put(self, key: bytes, value: bytes | None, timestamp_ms: int = 1_777_636_800_000) -> None:
        """Add a record."""
        partition = partition_of(key, PARTITIONS)
        offset = sum(record.partition == partition for record in self.records)
        self.records.append(Inbound(self.name, partition, offset, timestamp_ms, key, value, ()))

    def read(self, partition: int, offset: int, seconds: float) -> Inbound | None:
        """Read one record."""
        assert seconds > 0
        self.reads += 1
        self.check()
        for record in self.records:
            if (record.partition, record.offset) == (partition, offset) and (partition, offset) not in self.gone:
                return record
        return None

    def close(self) -> None:
        """Nothing to close."""

    def check(self) -> None:
        """Fail if it is down."""
        if self.down:
            raise ServerUnreachable(f"{self.name} is down")


class Followed:
    """What is followed of a topic."""

    def __init__(self, topic: MemoryTopic, apply: Callable[[Inbound], None]) -> None:
        self._topic = topic
        self._apply = apply
        self._next = 0
        self._starts: Mapping[int, int] = {}

    def open_at(self, starts: Mapping[int, int]) -> None:
        """Start."""
        self._starts, self._next = starts, 0

    def catch_up(self, timeout: float, between: Callable[[], None]) -> None:
        """Apply what is new."""
        assert timeout > 0
        self._topic.check()
        self._topic.held_up()
        between()
        for record in self._topic.records[self._next :]:
            self._next += 1
            if record.offset >= self._starts.get(record.partition, 1_000):
                self._apply(record)

    def beginnings(self) -> dict[int, int]:
        """Return what is left."""
        return {
            number: 1 + max((offset for partition, offset in self._topic.gone if partition == number), default=-1)
            for number in range(PARTITIONS)
        }

    def close(self) -> None:
        """Nothing to close."""


@dataclass
class MemoryPublisher:
    """Writes to the topic of requests, when it may."""

    topic: MemoryTopic
    may_write: threading.Event = field(default_factory=threading.Event)
    failures: list[Exception] = field(default_factory=list)
    refuses: bool = False

    def publish(self, records: Sequence[Outbound], between: Callable[[], None]) -> list[RefusedRecord]:
        """Write, or fail as told."""
        while not self.may_write.wait(0.02):
            between()
        if self.failures:
            raise self.failures.pop(0)
        if self.refuses:
            return [RefusedRecord(0, "too large")]
        for record in records:
            assert record.topic == TOPIC
            self.topic.put(record.key or b"", record.value)
        return []

    def close(self) -> None:
        """Nothing to close."""


@dataclass
class ApiWorld:
    """An API, and what it is connected to."""

    requests: MemoryTopic = field(default_factory=lambda: MemoryTopic(TOPIC))
    state: MemoryTopic = field(default_factory=lambda: MemoryTopic("state"))
    starts: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(PARTITIONS), 0))
    partitions: int = PARTITIONS
    clock: Clock = field(default_factory=Clock)
    port: int = 0
    api: CollectionApi | None = None

    def __post_init__(self) -> None:
        """Let it write."""
        self.publisher = MemoryPublisher(self.requests)
        self.publisher.may_write.set()

    def put_state(self, message_id: str, progress: RequestProgress) -> None:
        """Write how far a request has come."""
        self.state.put(message_id.encode(), encode_progress(progress))

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> WireAnswer:
        """Ask with the token and, if there is a body, as JSON, unless the headers say otherwise."""
        said = {"Authorization": f"Bearer {TOKEN}"} | ({} if body is None else {"Content_Type": "application/json"})
        return ask(self.port, method, path, body, **{name: value for name, value in (said | headers).items() if value})

    def progress(self, message_id: str) -> Any:
        """Return how far a request has come."""
        answer = self.ask("GET", f"/collections/{message_id}")
        assert answer.status == 200, answer
        return answer.json


@contextmanager
def serving_api(world: ApiWorld) -> Iterator[ApiWorld]:
    """Run the API of a world."""
    readers = {REQUEST: world.requests, STATE: world.state}
    directory = RequestDirectory(
        DirectoryParts(
            lambda apply: Followed(world.requests, apply),
            lambda apply: Followed(world.state, apply),
            lambda: world.partitions,
            lambda numbers: {number: world.starts.get(number, 0) for number in numbers},
            dict(readers),
            world.clock,
        )
    )
    writer = RequestWriter(world.publisher)
    site = CollectionSite(SiteParts(TOKEN, directory, writer, TOPIC, frozenset({Method.PUT}), openapi_document()))
    server = HttpServer(HttpPlace(LOOPBACK, 0, "collector.api"), site, HttpLimits(body_bytes=MOST_BYTES))
    world.api = CollectionApi(server, directory, writer, "http")
    world.api.start()
    world.port = server.port
    try:
        yield world
        world.api.check()
    finally:
        world.api.stop()
