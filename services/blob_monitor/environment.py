"""One environment's rhythm: when its current blobs and when everything is listed, what is due, and how storage fares.

Two works alternate independently, each in a thread of its own while it lasts, so that a long full listing does not hold up the
current hour. A storage error stops only its container, and delays its environment if storage asks for that; each change of
condition is one log line.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from libs.common.events import BlobsListed
from libs.common.settings.services import MonitorSettings
from libs.common.settings.storage import Layout
from libs.common.storage.api import Container, StorageError, StorageUnavailable
from libs.common.storage.failures import Refused
from services.blob_monitor import metrics
from services.blob_monitor.listing import (
    ContainerFails,
    Found,
    Inbox,
    Job,
    JobEnded,
    Kind,
    Looked,
    Message,
    PrefixListed,
    Task,
    TaskDone,
    start_job,
    work,
)
from services.blob_monitor.memory import Memory
from services.blob_monitor.prefixes import all_prefixes, current_prefixes, time_prefix
from services.blob_monitor.sources import Scope, Territory

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall clock (UTC, for what names and states say) and monotonic seconds (for waiting)."""

    now: Callable[[], datetime]
    monotonic: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Place:
    """What one environment consists of."""

    alias: str
    interval: float
    territories: tuple[Territory, ...]
    containers: Mapping[str, Container]  # by name


@dataclass(slots=True)
class _Lane:
    """One of the two works: when it is due and what is running."""

    due: float = 0.0
    pause: float = 0.0  # what storage asked for during the job
    job: Job | None = None
    thread: threading.Thread | None = None

    def is_free(self) -> bool:
        return self.job is None and (self.thread is None or not self.thread.is_alive())


@dataclass(slots=True)
class _Scopes:
    """The scopes of one territory and when it is discovered again."""

    found: dict[str, Scope] = field(default_factory=dict)
    discover_at: float = 0.0


class Environment:
    """Plans, starts and follows the jobs of one environment. Used from the main thread only."""

    def __init__(self, place: Place, settings: MonitorSettings, memory: Memory, clock: Clock) -> None:
        self.place = place
        self._settings = settings
        self._memory = memory
        self._clock = clock
        self._lanes = {kind: _Lane() for kind in Kind}
        self._scopes = {territory.key: _fixed_scopes(territory) for territory in place.territories}
        self._full_at: dict[str, float] = {}  # by scope key
        self._rounds = 0
        self._trouble: dict[str, str] = {}  # by container: what kind of error

    def due(self) -> list[Kind]:
        """Return the works that could start now."""
        now = self._clock.monotonic()
        return [kind for kind, lane in self._lanes.items() if lane.is_free() and now >= lane.due]

    def plan(self, kind: Kind, mine: Callable[[Scope], bool], epoch: int, looks: tuple[Territory, ...]) -> Job:
        """Return the job of `kind` that is due, on the scopes that are `mine`; the current one also takes first looks."""
        scopes = [scope for group in self._scopes.values() for scope in group.found.values()]
        own = [scope for scope in scopes if mine(scope)]
        metrics.SCOPES.labels(self.place.alias, "found").set(len(scopes))
        metrics.SCOPES.labels(self.place.alias, "owned").set(len(own))
        if kind is Kind.FULL:
            # What was lost is forgotten, so that it is listed in full when it comes back.
            kept = {scope.key for scope in own}
            self._full_at = {key: at for key, at in self._full_at.items() if key in kept}
            return Job(self.place.alias, kind, epoch, (), tuple(self._full_tasks(own)))
        return Job(self.place.alias, kind, epoch, tuple(self._to_discover()), tuple(self._current_tasks(own)), looks)

    def start(self, job: Job, inbox: Inbox) -> None:
        """Run `job` in a thread; its messages arrive in `inbox` and come back through `follow`."""
        lane = self._lanes[job.kind]
        lane.due, lane.pause = self._clock.monotonic() + self.place.interval, 0.0
        if not job.looks and not job.discover and not job.tasks:
            return
        lane.job = job
        lane.thread = start_job(job, work(job, self.place.containers, self._clock.now), inbox)

    def follow(self, job: Job, message: Message) -> None:
        """Take note of how `job` goes on."""
        match message:
            case Looked(territory):
                self._works(territory.container)
                self._hurry()
            case Found():
                self._found(message)
            case TaskDone() if job.kind is Kind.FULL:
                self._full_at[message.task.scope.key] = self._clock.monotonic() + self._settings.reconcile_seconds
            case PrefixListed(_, event):
                self._listed(job, event)
            case ContainerFails(container, error):
                self._fails(container, error)
                self._lanes[job.kind].pause = max(self._lanes[job.kind].pause, _pause(error))
            case JobEnded(error):
                self._ended(job, error)
            case _:
                pass

    def trouble(self) -> str | None:
        """Say what kinds of errors the last listings met if no container of the environment can be listed; else None."""
        if not self.place.containers or self.place.containers.keys() - self._trouble.keys():
            return None
        return f"{self.place.alias} ({', '.join(sorted(set(self._trouble.values())))})"

    def cancel(self) -> None:
        """Drop what is running and do it again soon: ownership or what was committed has changed."""
        for lane in self._lanes.values():
            if lane.job is not None:
                lane.job.cancelled.set()
                lane.job = None
            lane.due = 0.0

    def close(self) -> None:
        """End the threads and close connections."""
        self.cancel()
        for container in self.place.containers.values():
            container.close()

    def _to_discover(self) -> Iterator[Territory]:
        for territory in self.place.territories:
            if territory.layout is Layout.HOURLY and self._clock.monotonic() >= self._scopes[territory.key].discover_at:
                yield territory

    def _current_tasks(self, own: Iterable[Scope]) -> Iterator[Task]:
        now = self._clock.now()
        for scope in own:
            layout = scope.territory.layout
            prefixes = current_prefixes(layout, scope.prefix, now, self._settings)
            prefixes += self._left_open(scope, tuple(prefixes))
            if prefixes:
                yield Task(scope, tuple(prefixes))

    def _left_open(self, scope: Scope, covered: tuple[str, ...]) -> list[str]:
        """Return the hours or days not `covered` in which blobs wait to be closed."""
        if not self._settings.closing_enabled:
            return []
        names = (name for name in self._memory.open_names(scope) if not name.startswith(covered))
        return sorted({time_prefix(scope.territory.layout, scope.prefix, name) for name in names})

    def _full_tasks(self, own: Iterable[Scope]) -> Iterator[Task]:
        now = self._clock.now()
        for scope in own:
            if self._clock.monotonic() >= self._full_at.get(scope.key, 0.0):
                self._rounds += 1
                prefixes = all_prefixes(scope.territory.layout, scope.prefix, now, self._settings)
                prefixes += self._left_open(scope, tuple(prefixes))
                yield Task(scope, tuple(prefixes), self._rounds)

    def _found(self, message: Found) -> None:
        self._works(message.territory.container)
        scopes = self._scopes[message.territory.key]
        scopes.discover_at = self._clock.monotonic() + self._settings.discovery_seconds
        new = message.prefixes - scopes.found.keys()
        for prefix in new:
            scopes.found[prefix] = Scope(message.territory, prefix)
        if new:
            log.info(
                "resource directories found", account=self.place.alias, container=message.territory.container, new=len(new)
            )
            self._hurry()

    def _hurry(self) -> None:
        """Begin again as soon as what runs has ended: there is more to list than before."""
        for lane in self._lanes.values():
            lane.due = 0.0

    def _listed(self, job: Job, event: BlobsListed) -> None:
        seconds = (event.listing_ended_at - event.listing_started_at).total_seconds()
        metrics.LISTINGS.labels(job.account, job.kind).inc()
        metrics.LISTING_SECONDS.labels(job.account, job.kind).inc(max(seconds, 0.0))
        self._works(event.container)

    def _ended(self, job: Job, error: Exception | None) -> None:
        lane = self._lanes[job.kind]
        lane.job = None
        if error is not None:
            raise error
        if not self._trouble:
            metrics.LAST_ROUND.labels(job.account, job.kind).set(self._clock.now().timestamp())
        lane.due = max(lane.due, self._clock.monotonic() + lane.pause)

    def _fails(self, container: str, error: StorageError) -> None:
        metrics.STORAGE_ERRORS.labels(self.place.alias, type(error).__name__).inc()
        metrics.STORAGE_UP.labels(self.place.alias).set(0)
        if self._trouble.get(container) != type(error).__name__:
            self._forget_trouble(container)
            self._trouble[container] = type(error).__name__
            metrics.STORAGE_TROUBLE.labels(self.place.alias, container, type(error).__name__).set(1)
            log.warning("storage fails; this container waits", account=self.place.alias, container=container, error=str(error))

    def _works(self, container: str) -> None:
        if self._forget_trouble(container):
            log.info("storage works again", account=self.place.alias, container=container)
        if not self._trouble:
            metrics.STORAGE_UP.labels(self.place.alias).set(1)

    def _forget_trouble(self, container: str) -> bool:
        """Tell whether there was any."""
        kind = self._trouble.pop(container, None)
        if kind is not None:
            metrics.STORAGE_TROUBLE.remove(self.place.alias, container, kind)
        return kind is not None


def _pause(error: StorageError) -> float:
    """Return for how long the account is to be left alone: a container that may not be listed says nothing about the others."""
    return error.after if isinstance(error, StorageUnavailable) and not isinstance(error, Refused) else 0.0


def _fixed_scopes(territory: Territory) -> _Scopes:
    if territory.layout is Layout.HOURLY:
        return _Scopes()
    return _Scopes({territory.prefix: Scope(territory, territory.prefix)})
