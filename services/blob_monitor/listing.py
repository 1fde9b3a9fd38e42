"""The work of listing threads: look at a territory, discover resource directories and list prefixes, as streams of messages.

Nothing here decides or remembers; no more than a page of a listing is held in memory. Several threads work on a job, but only
one on a scope, so that its messages are in order. A container that cannot be listed is reported and skipped; the others of the
account continue.
"""

from __future__ import annotations

import queue
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from libs.common.azure.storage.api import Container, ListedBlob, Receipt, StorageError
from libs.common.messages.dead_letters import DeadLetter
from libs.common.messages.events import BlobsListed
from libs.common.packed import PackedTable
from services.blob_monitor.prefixes import day_of, time_part
from services.blob_monitor.sources import Scope, Territory

CHUNK_BLOBS = 500
_YEAR_DIRECTORY = re.compile(r"(?:^|(?<=/))y=\d{4}/$")
_PATIENCE_SECONDS = 0.2


class JobKind(StrEnum):
    """The kind of a job; jobs of different kinds run concurrently."""

    CURRENT = "current"  # discovery and where blobs grow now
    FULL = "full"  # everything, to find what was missed
    EVENTS = "events"  # the environment's event queue


@dataclass(frozen=True, slots=True)
class ListingTask:
    """Prefixes of one scope to list. `listing_round` is the number of a full listing, otherwise 0."""

    scope: Scope
    prefixes: tuple[str, ...]
    listing_round: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A unit of work for one environment."""

    account: str
    kind: JobKind
    epoch: int  # of the assignment it belongs to
    discover: tuple[Territory, ...]
    tasks: tuple[ListingTask, ...]
    looks: tuple[Territory, ...] = ()  # whose first look is to be recorded
    recall: tuple[Scope, ...] = ()  # whose known blobs are to be loaded before a full listing
    doomed: Mapping[str, frozenset[bytes]] = field(default_factory=dict)  # by scope key: digests of names to look up
    reads: int = 0  # requests for messages of the queue
    receipts: tuple[Receipt, ...] = ()  # of messages to delete
    cancelled: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Looked:
    """A territory was looked at. What is listed from now on is at least as new as `at`."""

    territory: Territory
    at: datetime  # by storage's clock, if it reports a time


@dataclass(frozen=True, slots=True)
class FoundDirectories:
    """All resource directories of a territory."""

    territory: Territory
    prefixes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some blobs of a task, in listing order."""

    task: ListingTask
    blobs: tuple[ListedBlob, ...]


@dataclass(frozen=True, slots=True)
class PrefixListed:
    """One prefix has been listed completely."""

    task: ListingTask
    event: BlobsListed


@dataclass(frozen=True, slots=True)
class TaskDone:
    """All prefixes of a task have been listed."""

    task: ListingTask
    started_at: datetime


@dataclass(frozen=True, slots=True)
class ContainerFails:
    """A container cannot be listed now: missing, refused, or not responding; the others continue."""

    container: str
    error: StorageError


@dataclass(frozen=True, slots=True)
class Recalled:
    """Contents of the state topic when the job began, by scope key."""

    rows: Mapping[str, PackedTable]
    names: Mapping[str, frozenset[str]]  # of doomed blobs


@dataclass(frozen=True, slots=True)
class Letter:
    """The outcome of one queue message, which may be deleted once the outcome is committed."""

    receipt: Receipt
    blobs: tuple[tuple[Scope, ListedBlob], ...]
    trouble: DeadLetter | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """The messages of one request. `is_full`: there may be more."""

    letters: tuple[Letter, ...]
    is_full: bool


@dataclass(frozen=True, slots=True)
class JobEnded:
    """The last message of a job, with the unexpected exception that ended it, if any."""

    error: Exception | None = None


Message = Looked | FoundDirectories | Chunk | PrefixListed | TaskDone | ContainerFails | Recalled | Heard | JobEnded
Inbox = queue.Queue[tuple[Job, Message]]


@dataclass(frozen=True, slots=True)
class Unit:
    """A sequence of requests to one container (to Kafka, if the container is empty) and the messages they produce."""

    container: str
    messages: Iterator[Message]


@dataclass(frozen=True, slots=True)
class Means:
    """The resources that jobs use."""

    containers: Mapping[str, Container]
    now: Callable[[], datetime]
    recall: Callable[[Job], Iterator[Message]]
    events: Callable[[Job], Iterator[Unit]] = lambda _: iter(())  # units of a job of kind EVENTS


def units(job: Job, means: Means) -> Iterator[Unit]:
    """Yield the units of `job`, which may run concurrently."""
    containers, now = means.containers, means.now
    if job.kind is JobKind.EVENTS:
        yield from means.events(job)
    if job.recall or job.doomed:
        yield Unit("", means.recall(job))
    for territory in job.looks:
        yield Unit(territory.container, _look(territory, containers[territory.container], now))
    for territory in job.discover:
        yield Unit(territory.container, _discover(territory, containers[territory.container]))
    for task in job.tasks:
        container = task.scope.territory.container
        yield Unit(container, _run(task, containers[container], now))


class Work:
    """Threads that run the units of one job and send their messages, `JobEnded` last, until the job is cancelled."""

    def __init__(self, job: Job, parts: Iterable[Unit], inbox: Inbox) -> None:
        self._job = job
        self._waiting = deque(parts)
        self._inbox = inbox
        self._lock = threading.Lock()
        self._running = 0
        self._failing: set[str] = set()
        self._error: Exception | None = None
        self._threads: list[threading.Thread] = []

    def start(self, most: int) -> None:
        """Start as many threads as there are units, at most `most`."""
        self._running = max(1, min(most, len(self._waiting)))
        name = f"{self._job.account} {self._job.kind}"
        self._threads = [threading.Thread(target=self._loop, name=name, daemon=True) for _ in range(self._running)]
        for thread in self._threads:
            thread.start()

    def is_over(self) -> bool:
        """Return whether all threads have ended."""
        return not any(thread.is_alive() for thread in self._threads)

    def _loop(self) -> None:
        try:
            while self._error is None and (unit := self._next()) is not None:
                self._do(unit)
        except Exception as error:  # noqa: BLE001 - the top of a thread; re-raised in the main thread
            self._error = error
        with self._lock:
            self._running -= 1
            is_last = not self._running
        if is_last:
            self._put(JobEnded(self._error))

    def _next(self) -> Unit | None:
        """Return the next unit of a container that has not failed in this job."""
        while not self._job.cancelled.is_set():
            try:
                unit = self._waiting.popleft()
            except IndexError:
                return None
            if unit.container not in self._failing:
                return unit
        return None

    def _do(self, unit: Unit) -> None:
        """Send the messages of `unit`; if storage fails, send the failure instead of the rest. Those already sent are valid."""
        try:
            for message in unit.messages:
                if not self._put(message):
                    return
        except StorageError as error:
            with self._lock:
                is_first = unit.container not in self._failing
                self._failing.add(unit.container)
            if is_first:
                self._put(ContainerFails(unit.container, error))

    def _put(self, message: Message) -> bool:
        """Send, waiting for room; return False if the job is cancelled instead."""
        while not self._job.cancelled.is_set():
            try:
                self._inbox.put((self._job, message), timeout=_PATIENCE_SECONDS)
            except queue.Full:
                continue
            return True
        return False


def _look(territory: Territory, container: Container, now: Callable[[], datetime]) -> Iterator[Message]:
    yield Looked(territory, container.probe() or now())


def _discover(territory: Territory, container: Container) -> Iterator[Message]:
    yield FoundDirectories(territory, frozenset(resource_directories(container, territory)))


def resource_directories(container: Container, territory: Territory) -> Iterator[str]:
    """Yield the directories directly above a year; one may lie inside another."""
    waiting = [territory.prefix]
    while waiting:
        for child in container.list_directories(waiting.pop()):
            if year := _YEAR_DIRECTORY.search(child):
                yield child[: year.start()]
            else:
                waiting.append(child)


def _run(task: ListingTask, container: Container, now: Callable[[], datetime]) -> Iterator[Message]:
    started_at = now()
    for prefix in task.prefixes:
        for listed in divided(task.scope.territory, prefix, container):
            yield from _list(task, listed, container, now)
    yield TaskDone(task, started_at)


def divided(territory: Territory, prefix: str, container: Container) -> Iterator[str]:
    """Yield the prefixes to list for `prefix`: itself, or what a selector wants of each day for which there are blobs."""
    delimiter = territory.day_delimiter(prefix)
    if not delimiter:
        yield prefix
        return
    for found in container.list_directories(prefix, delimiter):
        day = found.removesuffix(delimiter)
        if time_part(territory.layout, day, len(prefix)) == day[len(prefix) :]:
            yield territory.listed_prefix(day)


def _list(task: ListingTask, prefix: str, container: Container, now: Callable[[], datetime]) -> Iterator[Message]:
    territory = task.scope.territory
    started_at = now()  # before the first request: anything written from here on may be missing
    count = size = 0
    chunk: list[ListedBlob] = []
    for blob in container.list_blobs(prefix):
        if not task.scope.holds(blob.name) or territory.stream_of(blob.name) is None:
            continue
        chunk.append(blob)
        count, size = count + 1, size + blob.size
        if len(chunk) == CHUNK_BLOBS:
            yield Chunk(task, tuple(chunk))
            chunk.clear()
    if chunk:
        yield Chunk(task, tuple(chunk))
    yield PrefixListed(
        task,
        BlobsListed(
            account=territory.alias,
            container=territory.container,
            prefix=prefix,
            subscription=territory.subscription,
            environment=territory.environment,
            listing_started_at=started_at,
            listing_ended_at=now(),
            blob_count=count,
            total_bytes=size,
            selector=territory.selector,
            day=day_of(territory.layout, prefix, len(territory.prefix)),
        ),
    )
