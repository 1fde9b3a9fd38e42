"""A world for the monitor without servers: storage, a broker, group membership and time, all in memory and under control."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from prometheus_client import REGISTRY
from pydantic import SecretStr

from libs.common.azure.storage.api import BlobGone, BlobInfo, BlockList, MessageGone, QueueMessage, Receipt
from libs.common.kafka.records import CommitResult, Inbound, Listener, NextOffsets, Outbound, TopicPartition
from libs.common.messages.blobs import partition_of
from libs.common.messages.events import BlobsListed, BlobState, Event, decode_event
from libs.common.settings.kafka import TopicSettings
from libs.common.settings.monitor import MonitorSettings
from libs.common.settings.storage import Environment, Source, StorageAccount, Subscription
from services.blob_monitor.app import Monitor, MonitorParts
from services.blob_monitor.environment import Clocks, EnvironmentParts
from services.blob_monitor.feed import EventFeed
from services.blob_monitor.sources import territories

TOPICS = TopicSettings()
PARTITIONS = 4
START = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)


class Time:
    """Wall clock and monotonic seconds that move only when told."""

    def __init__(self) -> None:
        self.now = START
        self.seconds = 1000.0

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)
        self.seconds += seconds


class Storage:
    """One container. `before` sees every request's prefix and may raise."""

    def __init__(self, time: Time) -> None:
        self.blobs: dict[str, BlobInfo] = {}
        self.listed: list[str] = []
        self.searched: list[str] = []  # for directories
        self.asked: list[str] = []  # names of blobs
        self.before: Callable[[str], None] = lambda _: None
        self._time = time
        self._writes = 0

    def write(self, name: str, size: int) -> None:
        """Make a blob, or make it grow to `size`."""
        self._writes += 1
        old = self.blobs.get(name)
        created = old.creation_time if old else self._time.now
        self.blobs[name] = BlobInfo(name, f"0x{self._writes:X}", size, "BlockBlob", self._time.now, created)

    def probe(self) -> datetime | None:
        """Tell the time."""
        self.before("")
        return self._time.now

    def list_blobs(self, prefix: str) -> Iterator[BlobInfo]:
        """Yield blobs in name order."""
        self.before(prefix)
        self.listed.append(prefix)
        as_of = self._time.now
        yield from (replace(self.blobs[name], as_of=as_of) for name in sorted(self.blobs) if name.startswith(prefix))

    def list_directories(self, prefix: str, delimiter: str = "/") -> Iterator[str]:
        """Yield what stands before the next delimiter."""
        self.before(prefix)
        self.searched.append(prefix)
        rests = {name[len(prefix) :] for name in self.blobs if name.startswith(prefix)}
        yield from sorted({f"{prefix}{rest.split(delimiter, 1)[0]}{delimiter}" for rest in rests if delimiter in rest})

    def info(self, name: str) -> BlobInfo:
        """Return one blob."""
        self.before(name)
        self.asked.append(name)
        if name not in self.blobs:
            raise BlobGone(name)
        return replace(self.blobs[name], as_of=self._time.now)

    def block_list(self, name: str) -> BlockList:
        """Return no blocks: the monitor does not read."""
        blob = self.blobs[name]
        return BlockList(blob.etag, blob.size, blob.last_modified, ())

    def read(self, name: str, start: int, end: int, etag: str) -> bytes:
        """Return zeros: the monitor does not read."""
        del name, etag
        return bytes(end - start)

    def close(self) -> None:
        """Nothing to close."""


@dataclass
class _Put:
    """A message in the queue."""

    text: str
    deliveries: int = 0
    visible_at: float = 0.0


class FakeQueue:
    """A queue of events. `before` is called at every request and may raise."""

    def __init__(self, time: Time) -> None:
        self.messages: dict[str, _Put] = {}
        self.deleted: list[str] = []  # their texts
        self.receives = 0
        self.before: Callable[[], None] = lambda: None
        self._time = time
        self._numbers = count()
        self._lock = threading.Lock()

    def put(self, *texts: str) -> None:
        """Add messages."""
        self.messages |= {str(next(self._numbers)): _Put(text) for text in texts}

    def receive(self, most: int, hidden_seconds: int) -> list[QueueMessage]:
        """Give out the oldest visible messages."""
        self.before()
        with self._lock:
            self.receives += 1
            visible = [(key, put) for key, put in self.messages.items() if put.visible_at <= self._time.seconds][:most]
            for _, put in visible:
                put.deliveries, put.visible_at = put.deliveries + 1, self._time.seconds + hidden_seconds
            return [QueueMessage(Receipt(key, str(put.deliveries)), put.text, put.deliveries) for key, put in visible]

    def delete(self, receipt: Receipt) -> None:
        """Delete a message that was not given out again."""
        self.before()
        with self._lock:
            put = self.messages.get(receipt.message)
            if put is None or str(put.deliveries) != receipt.pop:
                raise MessageGone("given to another")
            self.deleted.append(self.messages.pop(receipt.message).text)

    def close(self) -> None:
        """Nothing to close."""


@dataclass
class Broker:
    """Topics as one list, and who owns which partition of the state topic."""

    log: list[Outbound] = field(default_factory=list)
    aborts: int = 0  # so many of the next transactions fail
    doubts: int = 0  # so many of the next ones succeed, but nobody hears of it
    on_read: Callable[[], None] = lambda: None  # before the state topic is read to its end, in whatever thread
    partitions: int = PARTITIONS  # of the state topic
    state_topic: str = TOPICS.blob_state

    def events(self, *kinds: type[Event]) -> list[Any]:
        """Return what was written to the blobs topic, without listings unless asked for."""
        found = [decode_event(r.value) for r in self.log if r.topic == TOPICS.blobs and r.value]
        return [e for e in found if isinstance(e, kinds)] if kinds else [e for e in found if not isinstance(e, BlobsListed)]

    def said(self) -> list[tuple[str, str]]:
        """Return type and blob of every event but listings, in order."""
        return [(type(event).__name__, event.blob.split("/", 2)[2]) for event in self.events()]

    def states(self) -> dict[str, BlobState]:
        """Return the newest state of every blob, as compaction leaves it."""
        newest: dict[str, BlobState] = {}
        for record in self.log:
            if record.topic != TOPICS.blob_state or record.key is None:
                continue
            key = record.key.decode()
            event = decode_event(record.value) if record.value else None
            newest.pop(key, None)
            if isinstance(event, BlobState):
                newest[key] = event
        return newest


class FakeSession:
    """Group membership that the test decides."""

    def __init__(self, broker: Broker, listener: Listener) -> None:
        self._broker = broker
        self._listener = listener
        self._owned: frozenset[TopicPartition] = frozenset()
        self.is_paused = False
        self.polls = 0
        self.on_poll: Callable[[], None] = lambda: None

    def open(self) -> None:
        """Nothing to connect."""

    def poll(self, max_records: int, seconds: float) -> list[Inbound]:
        """Deliver nothing."""
        del max_records, seconds
        self.polls += 1
        self.on_poll()
        return []

    def commit(self, outputs: list[Outbound], offsets: NextOffsets) -> CommitResult:
        """Write all, or nothing if the broker is to abort."""
        del offsets
        assert self._owned, "a commit without partitions cannot be fenced"
        if self._broker.aborts:
            self._broker.aborts -= 1
            self._listener.rewound(self._owned)
            return CommitResult.ABORTED
        self._broker.log += outputs
        if self._broker.doubts:
            self._broker.doubts -= 1
            self._listener.rewound(self._owned)
            return CommitResult.ABORTED
        return CommitResult.COMMITTED

    def trouble(self) -> str:
        """There is none."""
        return ""

    def owned(self) -> frozenset[TopicPartition]:
        """Return what `give` gave."""
        return self._owned

    def give(self, partitions: Iterable[int]) -> None:
        """Rebalance: everything is revoked, then `partitions` are assigned."""
        if self._owned:
            self._listener.revoked(self._owned)
        self._owned = frozenset(TopicPartition(self._broker.state_topic, number) for number in partitions)
        self._listener.assigned(self._owned)

    def pause(self) -> None:
        """Stop delivery."""
        self.is_paused = True

    def resume(self) -> None:
        """Deliver again."""
        self.is_paused = False

    def close(self) -> None:
        """Nothing to disconnect."""


class FakeTable:
    """Follows the state records of the broker."""

    def __init__(self, broker: Broker, apply: Callable[[Inbound], None]) -> None:
        self._broker = broker
        self._apply = apply
        self._next = 0
        self._partitions = 0

    def open(self) -> None:
        """Begin at the beginning of all partitions that there are."""
        self._next = 0
        self._partitions = self._broker.partitions

    def catch_up(self, timeout: float, between: Callable[[], None]) -> None:
        """Apply everything up to the present end."""
        del timeout
        end = len(self._broker.log)
        self._broker.on_read()
        while self._next < end:
            between()
            record = self._broker.log[self._next]
            self._next += 1
            partition = partition_of(record.key or b"", self._broker.partitions)
            if record.topic == self._broker.state_topic and partition < self._partitions:
                self._apply(Inbound(record.topic, partition, self._next, 0, record.key, record.value, record.headers))

    def close(self) -> None:
        """Nothing to disconnect."""


class World:
    """Storage, broker and time, and monitors that live in them."""

    def __init__(self, **source: Any) -> None:
        self.time = Time()
        self.storage = Storage(self.time)
        self.broker = Broker()
        self.clock_off = timedelta(0)  # the monitor's clock against that of storage
        self.interval: float | None = 30.0
        self.queue: FakeQueue | None = None  # of events
        self._source = Source(container="logs", **source)

    def monitor(self, **settings: Any) -> Running:
        """Return a monitor that owns everything."""
        running = Running(self, MonitorSettings(**settings))
        running.session.give(range(self.broker.partitions))
        return running

    def places(self) -> tuple[EnvironmentParts, ...]:
        """Return the one environment."""
        account = StorageAccount(account_name="account", account_key=SecretStr("a2V5"))
        environment = Environment(storage=account, sources=(self._source,))
        found = territories({"sub": Subscription(environments={"dev": environment})})
        feed = EventFeed("events", self.queue, "account") if self.queue else None
        return (EnvironmentParts("sub.dev", self.interval, found, {"logs": self.storage}, feed),)


class Running:
    """A monitor, stepped by the test."""

    def __init__(self, world: World, settings: MonitorSettings) -> None:
        self._world = world
        time = world.time
        parts = MonitorParts(
            make_session=self._make_session,
            make_table=lambda apply: FakeTable(world.broker, apply),
            partitions=lambda: world.broker.partitions,
            places=world.places(),
        )
        self.monitor = Monitor(settings, TOPICS, parts, Clocks(lambda: time.now + world.clock_off, lambda: time.seconds))
        self.monitor._open()

    def _make_session(self, listener: Listener) -> FakeSession:
        self.session = FakeSession(self._world.broker, listener)
        return self.session

    def round(self, seconds: float = 31.0) -> None:
        """Let `seconds` pass and everything that is due come to its end and be committed."""
        self._world.time.advance(seconds)
        for _ in range(200):
            self.monitor.step()
            self._world.time.advance(0.6)
            if self._is_idle():
                return
        raise AssertionError("the monitor does not come to rest")

    def _is_idle(self) -> bool:
        lanes = [lane for environment in self.monitor._environments.values() for lane in environment._schedules.values()]
        rests = all(lane.is_free() and lane.due > self._world.time.seconds for lane in lanes)
        return rests and self.monitor._inbox.empty() and not self.monitor._pending.outputs


def two_monitors(world: World) -> tuple[Running, Running]:
    """Start two monitors, give each half of the partitions, and let each do two rounds."""
    first, second = world.monitor(), world.monitor()
    first.session.give(range(2))
    second.session.give(range(2, PARTITIONS))
    for _ in range(2):
        first.round()
        second.round()
    return first, second


def hour_blob(resource: str, hour: int, nic: str = "A", day: int = 1) -> str:
    """Return the name of a flow-log blob."""
    return f"{resource}/y=2026/m=05/d={day:02}/h={hour:02}/m=00/macAddress={nic}/PT1H.json"


def aged(storage: Storage, name: str, age: timedelta) -> None:
    """Pretend that a blob was created and last written long ago."""
    blob = storage.blobs[name]
    storage.blobs[name] = replace(blob, last_modified=blob.last_modified - age, creation_time=blob.last_modified - age)


def raiser(error: Exception) -> Callable[[str], None]:
    """Return what `Storage.before` may be to fail every request."""

    def fail(_: str) -> None:
        raise error

    return fail


def metric(name: str, labels: dict[str, str] | None = None) -> float:
    """Return the value of one of the monitor's metrics."""
    return REGISTRY.get_sample_value(f"blobtide_blob_monitor_{name}", labels or {}) or 0.0
