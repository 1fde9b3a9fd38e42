"""Ingest's main loop on scripted events and in-memory containers, for unit tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import SecretStr

from libs.common.kafka.records import CommitResult, Inbound, Listener, NextOffsets, Outbound, TopicPartition
from libs.common.messages.blobs import BlobId
from libs.common.messages.events import (
    BlobObserved,
    Event,
    Stream,
    decode_event,
    encode_event,
)
from libs.common.messages.segments import Segment
from libs.common.process.health import Health
from libs.common.process.service import Stop
from libs.common.settings.ingest import IngestSettings
from libs.common.settings.kafka import TopicSettings
from libs.common.settings.storage import Environment, Source, StorageAccount, Subscription
from services.ingest.app import Ingest, IngestParts
from services.ingest.cutting.window import SizeLimits
from services.ingest.pending.checkpoints import Checkpoints, LoadingTimes, Topic
from services.ingest.reading.decoders import Decoders
from services.ingest.reading.reader import BlobReader
from services.ingest.sources import Sources
from tests.blob_container import EPOCH, FakeContainer
from tests.checkpoint_table import FakeLookup, FakeTable

TOPICS = TopicSettings()
PARTITION = TopicPartition(TOPICS.blobs, 0)
LIMITS = SizeLimits(segment=100_000, line=100_000, record=1_000_000)


class FakeSession:
    """Delivers scripted records of one partition; aborts on request; stops the service when all of them are committed."""

    def __init__(self, site: Site, listener: Listener) -> None:
        self._site = site
        self._listener = listener
        self._position: int | None = None
        self._idle = 0

    def open(self) -> None:
        """Nothing to open."""

    def poll(self, max_records: int, seconds: float) -> list[Inbound]:
        """Return what has not been delivered since the committed offset."""
        del seconds
        if self._position is None:
            self._position = self._site.committed
            self._listener.assigned([PARTITION])
        batch = self._site.records[self._position : self._position + min(max_records, 2)]
        self._position += len(batch)
        self._idle = 0 if batch else self._idle + 1
        if self._site.done() or self._idle > 20_000:
            self._site.stop.set()
        return batch

    def commit(self, outputs: list[Outbound], offsets: NextOffsets) -> CommitResult:
        """Keep or throw away what is committed."""
        if self._site.aborts or sum(len(o.value or b"") for o in outputs) > self._site.most_bytes:
            self._site.aborts = max(0, self._site.aborts - 1)
            self._site.aborted += 1
            self._position = self._site.committed
            self._listener.rewound([PARTITION])
            return CommitResult.ABORTED
        assert offsets[PARTITION] >= self._site.committed
        self._site.committed = offsets[PARTITION]
        for output in outputs:
            if output.placed is not None:
                output.placed(len(self._site.of(output.topic)))
            self._site.outputs.append(output)
        self._site.transactions.append(outputs)
        return CommitResult.COMMITTED

    def trouble(self) -> str:
        """There is none."""
        return ""

    def owned(self) -> frozenset[TopicPartition]:
        """Return the one partition."""
        return frozenset({PARTITION})

    def pause(self) -> None:
        """Nothing to pause."""

    def resume(self) -> None:
        """Nothing to resume."""

    def close(self) -> None:
        """Nothing to close."""


@dataclass
class Site:
    """Two accounts with a container each, announcements, and what was committed."""

    containers: dict[str, FakeContainer] = field(default_factory=lambda: {"s.e": FakeContainer(), "s.f": FakeContainer()})
    records: list[Inbound] = field(default_factory=list)
    outputs: list[Outbound] = field(default_factory=list)
    transactions: list[list[Outbound]] = field(default_factory=list)
    committed: int = 0
    aborts: int = 0
    aborted: int = 0
    most_bytes: int = 1_000_000_000  # larger transactions do not end in time
    read_bytes: int = 4_194_304
    commit_bytes: int = 16_777_216
    concurrency: int = 2
    careful_seconds: float = 0.0
    clock: Callable[[], float] = time.monotonic
    hours: float = 0.0  # since the announcements
    stop: Stop = field(default_factory=Stop)
    health: Health = field(default_factory=Health)
    session: type[FakeSession] = FakeSession
    done: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self.lookup = FakeLookup(lambda: self.of(TOPICS.checkpoints))

    def put(self, name: str, data: bytes, account: str = "s.e", **more: Any) -> None:
        """Write a blob and announce it."""
        container = self.containers[account]
        container.put(name, data)
        blob = container.blobs[name]
        event = BlobObserved(
            str(BlobId(account, "logs", name)), "s", account[2:], Stream.FLOW_LOGS, blob.etag, len(data), "BlockBlob",
            EPOCH, blob.created, EPOCH,
        )  # fmt: skip
        self.announce(replace(event, **more))

    def announce(self, event: Event, key: bytes | None = None) -> None:
        """Append an event to the announcements."""
        key = key or getattr(event, "blob", "x").encode()
        self.raw(encode_event(event), key)

    def raw(self, value: bytes, key: bytes) -> None:
        """Append a message."""
        self.records.append(Inbound(TOPICS.blobs, 0, len(self.records), 0, key, value, ()))

    def run(
        self, reader: BlobReader | None = None, done: Callable[[], bool] | None = None, commit_seconds: float = 0.001
    ) -> None:
        """Run ingest until everything announced is committed, or `done`."""
        self.stop = Stop()
        self.done = done or (lambda: self.committed == len(self.records))
        storage = StorageAccount(connection_string=SecretStr("x"))
        environment = Environment(storage=storage, sources=(Source(container="logs"),))
        subscriptions = {"s": Subscription(environments={"e": environment, "f": environment})}
        parts = IngestParts(
            settings=IngestSettings(
                commit_seconds=commit_seconds,
                concurrency=self.concurrency,
                read_bytes=self.read_bytes,
                commit_bytes=self.commit_bytes,
            ),
            topics=TOPICS,
            sources=Sources(subscriptions, lambda _account, alias, _container: self.containers[alias]),
            reader=reader or BlobReader(lambda _: LIMITS, Decoders(1_000_000)),
            checkpoints=Checkpoints(Topic(self._table, self.lookup), LoadingTimes(30.0, 300.0)),
            check=lambda: None,
            clock=self.clock,
            now=lambda: self.hours * 3600,
            careful_seconds=self.careful_seconds,
        )
        Ingest(parts, lambda listener: self.session(self, listener)).run(self.stop, self.health)

    def _table(self, apply: Callable[[Inbound], None]) -> FakeTable:
        return FakeTable(lambda: iter(self.of(TOPICS.checkpoints)), apply)

    def of(self, topic: str) -> list[Inbound]:
        """Return what was committed to a topic."""
        found = [o for o in self.outputs if o.topic == topic]
        return [Inbound(topic, 0, n, 0, o.key, o.value, o.headers) for n, o in enumerate(found)]

    def segments(self, name: str, account: str = "s.e") -> list[Segment]:
        """Return the segments of a blob."""
        found = [Segment.from_message(r.headers, r.value or b"") for r in self.of(TOPICS.raw_flow_logs)]
        return [s for s in found if s.blob == str(BlobId(account, "logs", name))]

    def events(self, topic: str) -> list[Event]:
        """Return the events committed to a topic."""
        return [decode_event(r.value or b"") for r in self.of(topic)]


def lines(count: int) -> bytes:
    """Return `count` lines."""
    return b"".join(b"line %d\n" % n for n in range(count))
