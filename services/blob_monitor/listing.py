"""What a worker thread does: asks for the time, discovers resource directories and lists prefixes, as a stream of messages.

Nothing here decides or remembers; a listing is never held in memory beyond a page. A container that cannot be listed is
reported and passed over; the others of the account go on.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from libs.common.events import BlobsListed
from libs.common.storage.api import Container, StorageError
from services.blob_monitor.announce import Seen
from services.blob_monitor.sources import Scope, Territory

CHUNK_BLOBS = 500
_YEAR_DIRECTORY = re.compile(r"(?:^|(?<=/))y=\d{4}/$")
_PATIENCE_SECONDS = 0.2


class Kind(StrEnum):
    """Which of an environment's two alternating works a job is."""

    CURRENT = "current"  # discovery and where blobs grow now
    FULL = "full"  # everything, to find what slipped through


@dataclass(frozen=True, slots=True)
class Task:
    """Prefixes of one scope to list. `listing_round` numbers a full listing."""

    scope: Scope
    prefixes: tuple[str, ...]
    listing_round: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """What one thread does before it ends."""

    account: str
    kind: Kind
    epoch: int  # of the assignment it belongs to
    discover: tuple[Territory, ...]
    tasks: tuple[Task, ...]
    looks: tuple[Territory, ...] = ()  # to note since when they are looked at
    cancelled: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Looked:
    """A territory was looked at. What is listed from now on is at least as new as `at`."""

    territory: Territory
    at: datetime  # by storage's clock, unless it tells no time


@dataclass(frozen=True, slots=True)
class Found:
    """All resource directories of a territory."""

    territory: Territory
    prefixes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some blobs of a task, in listing order."""

    task: Task
    blobs: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class PrefixListed:
    """One prefix has been listed to its end."""

    task: Task
    event: BlobsListed


@dataclass(frozen=True, slots=True)
class TaskDone:
    """All prefixes of a task have been listed."""

    task: Task
    started_at: datetime


@dataclass(frozen=True, slots=True)
class ContainerFails:
    """A container cannot be listed now: not there, refused, or no answer; the others go on."""

    container: str
    error: StorageError


@dataclass(frozen=True, slots=True)
class JobEnded:
    """The last message of a job, with the bug that broke it off."""

    error: Exception | None = None


Message = Looked | Found | Chunk | PrefixListed | TaskDone | ContainerFails | JobEnded
Inbox = queue.Queue[tuple[Job, Message]]


def start_job(job: Job, messages: Iterator[Message], inbox: Inbox) -> threading.Thread:
    """Send `messages` to `inbox` from a thread of its own, `JobEnded` last, until they end or the job is cancelled."""
    thread = threading.Thread(target=_pump, args=(job, messages, inbox), name=f"{job.account} {job.kind}", daemon=True)
    thread.start()
    return thread


def _pump(job: Job, messages: Iterator[Message], inbox: Inbox) -> None:
    ended = JobEnded()
    try:
        for message in messages:
            if not _put(job, message, inbox):
                return
    except Exception as error:  # noqa: BLE001 - the top of a thread; the main thread raises it
        ended = JobEnded(error)
    _put(job, ended, inbox)


def _put(job: Job, message: Message, inbox: Inbox) -> bool:
    """Wait for room; return False if the job is cancelled instead."""
    while not job.cancelled.is_set():
        try:
            inbox.put((job, message), timeout=_PATIENCE_SECONDS)
        except queue.Full:
            continue
        return True
    return False


def work(job: Job, containers: Mapping[str, Container], now: Callable[[], datetime]) -> Iterator[Message]:
    """Yield what `job` finds; what has been yielded of a container that then fails is valid."""
    failing: set[str] = set()
    for territory in job.looks:
        name = territory.container
        yield from _attempt(name, _look(territory, containers[name], now), failing)
    for territory in job.discover:
        name = territory.container
        yield from _attempt(name, _discover(territory, containers[name]), failing)
    for task in job.tasks:
        name = task.scope.territory.container
        if name not in failing:
            yield from _attempt(name, _run(task, containers[name], now), failing)


def _attempt(container: str, messages: Iterator[Message], failing: set[str]) -> Iterator[Message]:
    """Yield `messages`; when storage fails, say so in place of the rest and add `container` to `failing`."""
    try:
        yield from messages
    except StorageError as error:
        failing.add(container)
        yield ContainerFails(container, error)


def _look(territory: Territory, container: Container, now: Callable[[], datetime]) -> Iterator[Message]:
    yield Looked(territory, container.probe() or now())


def _discover(territory: Territory, container: Container) -> Iterator[Message]:
    yield Found(territory, frozenset(_resource_directories(container, territory)))


def _resource_directories(container: Container, territory: Territory) -> Iterator[str]:
    """Yield the directories that stand directly above a year; one may lie inside another."""
    waiting = [territory.prefix]
    while waiting:
        for child in container.list_directories(waiting.pop()):
            if year := _YEAR_DIRECTORY.search(child):
                yield child[: year.start()]
            else:
                waiting.append(child)


def _run(task: Task, container: Container, now: Callable[[], datetime]) -> Iterator[Message]:
    started_at = now()
    for prefix in task.prefixes:
        yield from _list(task, prefix, container, now)
    yield TaskDone(task, started_at)


def _list(task: Task, prefix: str, container: Container, now: Callable[[], datetime]) -> Iterator[Message]:
    territory = task.scope.territory
    started_at = now()  # before the first request: what is written from here on may be missing
    count = size = 0
    chunk: list[Seen] = []
    for blob in container.list_blobs(prefix):
        stream = territory.stream_of(blob.name)
        if stream is None or territory.scope_of(blob.name) != task.scope:
            continue
        chunk.append(Seen(task.scope, stream, blob))
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
        ),
    )
