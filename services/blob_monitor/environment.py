"""One environment: when its current blobs are listed, when everything is listed, what is due, and whether storage responds.

Each kind of job runs independently, in its own threads, so that a long full listing does not delay the current hour. A storage
error stops only its container, and delays its environment if storage asks for that; each change of condition is logged once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import accumulate, islice

import structlog

from libs.common.azure.storage.api import Container, Receipt, StorageError, StorageUnavailable
from libs.common.azure.storage.failures import Refused
from libs.common.messages.events import BlobsListed
from libs.common.settings.monitor import MonitorSettings
from libs.common.settings.storage import NameLayout
from services.blob_monitor import metrics
from services.blob_monitor.feed import QUEUE, EventFeed, EventReader
from services.blob_monitor.listing import (
    ContainerFails,
    FoundDirectories,
    Heard,
    Inbox,
    Job,
    JobEnded,
    JobKind,
    ListingTask,
    Looked,
    Means,
    Message,
    PrefixListed,
    Recalled,
    TaskDone,
    Work,
    units,
)
from services.blob_monitor.memory import Memory
from services.blob_monitor.prefixes import all_prefixes, current_prefixes, time_prefix
from services.blob_monitor.recall import Recaller
from services.blob_monitor.rhythm import ALWAYS, SELDOM, Rhythm
from services.blob_monitor.sources import Scope, Territory

log = structlog.get_logger(__name__)

# Default interval between listings of the prefixes where blobs grow. Flow logs are written once a minute.
_HOURLY_SECONDS = 60.0
_OTHER_SECONDS = 30.0
# Rows in memory for scopes being listed in full, at 48 bytes each.
_MOST_ROWS = 1_000_000
# Full listings due within this fraction of their interval share one pass over the state topic.
_AHEAD = 0.1
_NOT_ASKED = "not asked yet"
_QUEUE_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Clocks:
    """Wall clock (UTC, for times in names and states) and monotonic seconds (for waiting)."""

    now: Callable[[], datetime]
    monotonic: Callable[[], float]


@dataclass(frozen=True, slots=True)
class EnvironmentParts:
    """The parts of one environment."""

    alias: str
    interval: float | None  # None: by layout
    territories: tuple[Territory, ...]
    containers: Mapping[str, Container]  # by name
    feed: EventFeed | None = None  # of events


@dataclass(slots=True)
class _JobSchedule:
    """One kind of job: when it is due and what is running."""

    due: float = 0.0
    pause: float = 0.0  # requested by storage during the job
    job: Job | None = None
    work: Work | None = None
    failed: set[str] = field(default_factory=set)  # containers that failed during the job
    has_more: bool = False  # continue at once

    def is_free(self) -> bool:
        return self.job is None and (self.work is None or self.work.is_over())


@dataclass(slots=True)
class _Scopes:
    """The scopes of one territory, with the times of its next discovery and next current listing."""

    found: dict[str, Scope] = field(default_factory=dict)
    discover_at: float = 0.0
    list_at: float = 0.0
    turn: int = 0  # number of current listings so far


@dataclass(frozen=True, slots=True)
class Doom:
    """Blobs that a full listing did not see, by the digests of their names, which only the state topic has."""

    task: ListingTask
    digests: frozenset[bytes]


class EnvironmentJobs:
    """Plans, starts and follows the jobs of one environment. Used from the main thread only."""

    def __init__(
        self, place: EnvironmentParts, settings: MonitorSettings, memory: Memory, clock: Clocks, recaller: Recaller
    ) -> None:
        self.place = place
        self._means = _means(place, settings, clock, recaller)
        self._settings = settings
        self._memory = memory
        self._clock = clock
        self._schedules = {kind: _JobSchedule() for kind in JobKind if kind is not JobKind.EVENTS or place.feed}
        self._scopes = {territory.key: _fixed_scopes(territory) for territory in place.territories}
        settled = timedelta(minutes=settings.closing_timeout_minutes)
        self._rhythm = Rhythm(SELDOM if place.interval is None and place.feed is None else ALWAYS, settled)
        self._full_at: dict[str, float] = {}  # by scope key
        self._rounds = 0
        self._waits = False  # whether a scope waits for its known blobs to be loaded
        self._doomed: dict[str, Doom] = {}
        self._sought: dict[str, Doom] = {}  # by the running job
        self._trouble: dict[str, str] = {}  # kind of error, by container
        self._queue_trouble: str | None = _NOT_ASKED
        self._receipts: list[Receipt] = []  # of messages to delete
        self._reads = 1

    def due(self) -> list[JobKind]:
        """Return the kinds of jobs that could start now."""
        now = self._clock.monotonic()
        return [kind for kind, schedule in self._schedules.items() if schedule.is_free() and now >= schedule.due]

    def plan(self, kind: JobKind, mine: Callable[[Scope], bool], epoch: int, looks: tuple[Territory, ...]) -> Job:
        """Return the due job of `kind` for the scopes that are `mine`; a current job also takes first looks."""
        scopes = [scope for group in self._scopes.values() for scope in group.found.values()]
        own = [scope for scope in scopes if mine(scope)]
        metrics.SCOPES.labels(self.place.alias, "found").set(len(scopes))
        metrics.SCOPES.labels(self.place.alias, "owned").set(len(own))
        if kind is JobKind.FULL:
            # Forget lost scopes, so that they are listed in full when they come back.
            kept = {scope.key for scope in own}
            self._full_at = {key: at for key, at in self._full_at.items() if key in kept}
            return self._plan_full(own, epoch)
        return Job(self.place.alias, kind, epoch, tuple(self._to_discover()), tuple(self._current_tasks(own)), looks)

    def plan_events(self, epoch: int) -> Job:
        """Return the job that reads the queue and deletes handled messages."""
        receipts, self._receipts = tuple(self._receipts), []
        return Job(self.place.alias, JobKind.EVENTS, epoch, (), (), reads=self._reads, receipts=receipts)

    def settle(self, receipts: Iterable[Receipt]) -> None:
        """Schedule the deletion of messages whose outcome is committed."""
        before = len(self._receipts)
        self._receipts += receipts
        metrics.SETTLED.labels(self.place.alias).inc(len(self._receipts) - before)

    def meet(self, scope: Scope) -> None:
        """Add a scope named by an event, without waiting for its discovery."""
        self._scopes[scope.territory.key].found.setdefault(scope.prefix, scope)

    def start(self, job: Job, inbox: Inbox) -> None:
        """Run `job` in threads; its messages arrive in `inbox`, from which the caller passes them to `follow`."""
        schedule = self._schedules[job.kind]
        schedule.due, schedule.pause = self._next_due(job.kind), 0.0
        schedule.failed.clear()
        schedule.has_more = False
        if not (job.looks or job.discover or job.tasks or job.recall or job.doomed or job.reads):
            return
        schedule.job = job
        schedule.work = Work(job, units(job, self._means), inbox)
        schedule.work.start(max(1, self._settings.concurrency // 4) if job.kind is JobKind.FULL else self._settings.concurrency)

    def follow(self, job: Job, message: Message) -> None:
        """Record the progress of `job`."""
        match message:
            case Looked(territory):
                self._works(territory.container)
                self._hurry()
            case FoundDirectories():
                self._found(message)
            case Recalled():
                self._schedules[job.kind].has_more = True
            case TaskDone() if job.kind is JobKind.FULL:
                self._full_at[message.task.scope.key] = self._clock.monotonic() + self._settings.reconcile_seconds
                self._schedules[job.kind].has_more |= bool(self._doomed) or self._waits
            case PrefixListed(task, event):
                self._listed(job, task, event)
            case Heard(_, is_full):
                self._queue_works()
                self._schedules[job.kind].has_more |= is_full
            case ContainerFails(container, error):
                self._schedules[job.kind].failed.add(container)
                (self._queue_fails if container == QUEUE else partial(self._fails, container))(error)
                self._schedules[job.kind].pause = max(self._schedules[job.kind].pause, _pause(container, error))
            case JobEnded(error):
                self._ended(job, error)
            case _:
                pass

    def trouble(self) -> str | None:
        """Return the kinds of errors if no container of the environment can be listed; otherwise None."""
        if not self.place.containers or self.place.containers.keys() - self._trouble.keys():
            return None
        return f"{self.place.alias} ({', '.join(sorted(set(self._trouble.values())))})"

    def cancel(self) -> None:
        """Drop running jobs and repeat them soon: ownership or committed state has changed."""
        for schedule in self._schedules.values():
            if schedule.job is not None:
                schedule.job.cancelled.set()
                schedule.job = None
        self._rhythm.forget()
        self._doomed.clear()
        self._receipts.clear()  # these messages reappear, with nothing new in them
        self._queue_trouble = _NOT_ASKED  # another monitor may read the queue from now on
        if self.place.feed is not None:
            metrics.QUEUE_UP.remove(self.place.alias)
        self._hurry()

    def close(self) -> None:
        """Stop the threads and close connections."""
        self.cancel()
        for container in self.place.containers.values():
            container.close()
        if self.place.feed is not None:
            self.place.feed.queue.close()

    def _to_discover(self) -> Iterator[Territory]:
        for territory in self.place.territories:
            if territory.layout is NameLayout.HOURLY and self._clock.monotonic() >= self._scopes[territory.key].discover_at:
                yield territory

    def _current_tasks(self, own: Iterable[Scope]) -> Iterator[ListingTask]:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        due = {key for key, scopes in self._scopes.items() if monotonic >= scopes.list_at}
        for territory in self.place.territories:
            if territory.key in due:
                scopes = self._scopes[territory.key]
                scopes.list_at, scopes.turn = monotonic + self._listing_interval(territory), scopes.turn + 1
        for scope in own:
            if scope.territory.key in due and (prefixes := self._current_prefixes(scope, now)):
                yield ListingTask(scope, tuple(prefixes))

    def _current_prefixes(self, scope: Scope, now: datetime) -> list[str]:
        layout = scope.territory.layout
        prefixes = _listed(scope, current_prefixes(layout, scope.prefix, now, self._settings))
        if layout is not NameLayout.HOURLY:
            return prefixes + self._left_open(scope, tuple(prefixes))
        turn = self._scopes[scope.territory.key].turn
        return self._rhythm.due(scope, tuple(prefixes), self._left_open(scope, ()), (turn, now))

    def _interval(self, territory: Territory) -> float:
        if self.place.interval is not None:
            return self.place.interval
        return _HOURLY_SECONDS if territory.layout is NameLayout.HOURLY else _OTHER_SECONDS

    def _listing_interval(self, territory: Territory) -> float:
        """Return a long interval while events arrive and the blobs they name can be read, otherwise the usual one."""
        if self.place.feed is None or self._queue_trouble or self._trouble:
            return self._interval(territory)
        return self._settings.events.listing_seconds

    def _next_due(self, kind: JobKind) -> float:
        """Return when to check for due territories; full listings have their own times, checked at this interval."""
        now = self._clock.monotonic()
        if kind is JobKind.EVENTS:
            return now + self._settings.events.poll_seconds
        interval = self._listing_interval if kind is JobKind.CURRENT else self._interval
        return now + min(map(interval, self.place.territories), default=_OTHER_SECONDS)

    def _list_sooner(self) -> None:
        """Return to the usual interval."""
        now, schedule = self._clock.monotonic(), self._schedules[JobKind.CURRENT]
        for territory in self.place.territories:
            scopes, soon = self._scopes[territory.key], now + self._interval(territory)
            scopes.list_at, schedule.due = min(scopes.list_at, soon), min(schedule.due, soon)

    def _left_open(self, scope: Scope, covered: tuple[str, ...]) -> list[str]:
        """Return the hours or days not `covered` that contain open blobs."""
        if not self._settings.closing_enabled:
            return []
        names = (name for name in self._memory.open_names(scope) if not covered or not name.startswith(covered))
        return sorted(_listed(scope, {time_prefix(scope.territory.layout, scope.prefix, name) for name in names}))

    def doom(self, doom: Doom) -> None:
        """Schedule a lookup of the names of deleted blobs that should be forgotten."""
        self._doomed[doom.task.scope.key] = doom

    def named(self, names: Mapping[str, frozenset[str]]) -> Iterator[tuple[ListingTask, str]]:
        """Yield the names that were looked up, each with the full listing that missed it."""
        for key, found in names.items():
            task = self._sought[key].task
            yield from ((task, name) for name in found if name.startswith(task.prefixes))

    def _plan_full(self, own: Sequence[Scope], epoch: int) -> Job:
        """Plan full listings of scopes whose known blobs are loaded, and load others as far as memory allows."""
        now = self._clock.monotonic()
        soon = now + _AHEAD * self._settings.reconcile_seconds
        due = [scope for scope in own if self._full_at.get(scope.key, 0.0) <= now]
        ready = [scope for scope in own if self._memory.rows_held(scope)]
        ready += [scope for scope in due if self._memory.is_complete(scope) and not self._memory.rows_held(scope)]
        others = [scope for scope in own if self._full_at.get(scope.key, 0.0) <= soon and not self._memory.is_complete(scope)]
        if all(map(self._memory.is_complete, due)):
            others = []
        working = [scope for scope in ready if scope.territory.container not in self._trouble]
        held = sum(map(self._memory.rows_held, working))
        sizes = accumulate(map(self._memory.records, others), initial=held)
        chosen = [scope for scope, size in zip(others, islice(sizes, 1, None), strict=True) if size <= _MOST_ROWS]
        if not chosen and not held:
            chosen = others[:1]
        self._memory.expect(chosen)
        self._waits = bool(others)
        self._sought, self._doomed = self._doomed, {}
        doomed = {key: doom.digests for key, doom in self._sought.items()}
        tasks = tuple(map(self._full_task, ready))
        return Job(self.place.alias, JobKind.FULL, epoch, (), tasks, recall=tuple(chosen), doomed=doomed)

    def _full_task(self, scope: Scope) -> ListingTask:
        self._rounds += 1
        prefixes = _listed(scope, all_prefixes(scope.territory.layout, scope.prefix, self._clock.now(), self._settings))
        prefixes += self._left_open(scope, tuple(prefixes))
        return ListingTask(scope, tuple(prefixes), self._rounds)

    def _found(self, message: FoundDirectories) -> None:
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
        """Make everything due as soon as the running jobs end: there is more to list than before."""
        for schedule in self._schedules.values():
            schedule.due = 0.0
        for scopes in self._scopes.values():
            scopes.list_at = 0.0

    def _listed(self, job: Job, task: ListingTask, event: BlobsListed) -> None:
        seconds = (event.listing_ended_at - event.listing_started_at).total_seconds()
        metrics.LISTINGS.labels(job.account, job.kind).inc()
        metrics.LISTING_SECONDS.labels(job.account, job.kind).inc(max(seconds, 0.0))
        if job.kind is JobKind.CURRENT:
            self._rhythm.listed(task.scope, event.prefix, event.blob_count, event.listing_started_at)
        if (
            event.container not in self._schedules[job.kind].failed
        ):  # other threads may still finish successfully after a failure
            self._works(event.container)

    def _ended(self, job: Job, error: Exception | None) -> None:
        schedule = self._schedules[job.kind]
        schedule.job = None
        if error is not None:
            raise error
        if job.kind is JobKind.EVENTS:  # one request at first, many after a full one
            self._reads = self._settings.concurrency if schedule.has_more else 1
        elif not self._trouble:
            metrics.LAST_ROUND.labels(job.account, job.kind).set(self._clock.now().timestamp())
        if schedule.has_more and not schedule.failed:
            schedule.due = 0.0
        schedule.due = max(schedule.due, self._clock.monotonic() + schedule.pause)

    def _fails(self, container: str, error: StorageError) -> None:
        metrics.STORAGE_ERRORS.labels(self.place.alias, type(error).__name__).inc()
        metrics.STORAGE_UP.labels(self.place.alias).set(0)
        if self._trouble.get(container) != type(error).__name__:
            self._forget_trouble(container)
            self._trouble[container] = type(error).__name__
            metrics.STORAGE_TROUBLE.labels(self.place.alias, container, type(error).__name__).set(1)
            log.warning("storage failed; the container waits", account=self.place.alias, container=container, error=str(error))
            self._list_sooner()

    def _queue_fails(self, error: StorageError) -> None:
        metrics.STORAGE_ERRORS.labels(self.place.alias, type(error).__name__).inc()
        metrics.QUEUE_UP.labels(self.place.alias).set(0)
        if self._queue_trouble != type(error).__name__:
            self._queue_trouble = type(error).__name__
            log.warning("the event queue failed; listing at the usual interval", account=self.place.alias, error=str(error))
            self._list_sooner()

    def _queue_works(self) -> None:
        metrics.QUEUE_UP.labels(self.place.alias).set(1)
        if self._queue_trouble is not None:
            log.info("the event queue works", account=self.place.alias)
            self._queue_trouble = None

    def _works(self, container: str) -> None:
        if self._forget_trouble(container):
            log.info("storage works again", account=self.place.alias, container=container)
        if not self._trouble:
            metrics.STORAGE_UP.labels(self.place.alias).set(1)

    def _forget_trouble(self, container: str) -> bool:
        """Clear a container's trouble; return whether there was any."""
        kind = self._trouble.pop(container, None)
        if kind is not None:
            metrics.STORAGE_TROUBLE.remove(self.place.alias, container, kind)
        return kind is not None


def _pause(container: str, error: StorageError) -> float:
    """Return for how long to leave the account alone: a container that denies access says nothing about the others."""
    if container == QUEUE:
        return error.after if isinstance(error, StorageUnavailable) else _QUEUE_PAUSE_SECONDS
    return error.after if isinstance(error, StorageUnavailable) and not isinstance(error, Refused) else 0.0


def _means(place: EnvironmentParts, settings: MonitorSettings, clock: Clocks, recaller: Recaller) -> Means:
    if place.feed is None:
        return Means(place.containers, clock.now, recaller.recall)
    reader = EventReader(place.alias, place.feed, place.territories, place.containers, settings.events, clock.now)
    return Means(place.containers, clock.now, recaller.recall, reader.units)


def _listed(scope: Scope, prefixes: Iterable[str]) -> list[str]:
    return [scope.territory.listed_prefix(prefix) for prefix in prefixes]


def _fixed_scopes(territory: Territory) -> _Scopes:
    if territory.layout is NameLayout.HOURLY:
        return _Scopes()
    return _Scopes({territory.prefix: Scope(territory, territory.prefix)})
