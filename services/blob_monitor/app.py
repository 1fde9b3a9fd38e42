"""The monitor's main loop: keeps up the group's heartbeat, starts jobs, decides about listed blobs and commits the decisions.

Everything except listing happens in one thread. Decisions are made against memory plus uncommitted decisions, and reach memory
when their transaction commits. Whenever partitions are revoked or a transaction fails, all running work is dropped, the state
topic is read to its end again, and the listings are repeated: nothing is announced twice, because nothing was remembered.
"""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from libs.common.azure.storage.api import ListedBlob
from libs.common.errors import Retry, ServerUnreachable
from libs.common.kafka.records import CommitResult, Listener, MakeTable, Session, TopicPartition
from libs.common.messages.blobs import partition_of
from libs.common.process.health import NO_PARTITIONS, Health, Need
from libs.common.process.service import Stop
from libs.common.process.watch import Watch
from libs.common.settings.kafka import TopicSettings
from libs.common.settings.monitor import MonitorSettings
from services.blob_monitor import metrics
from services.blob_monitor.announce import Announcer, Seen, seen_in
from services.blob_monitor.environment import Clocks, Doom, EnvironmentJobs, EnvironmentParts
from services.blob_monitor.evaluate import AnnouncementKind, Decision, Known, Verdict, evaluate
from services.blob_monitor.listing import (
    Chunk,
    Heard,
    Inbox,
    Job,
    JobEnded,
    JobKind,
    Letter,
    ListingTask,
    Looked,
    Message,
    PrefixListed,
    Recalled,
    TaskDone,
)
from services.blob_monitor.memory import Memory, Same, Sight
from services.blob_monitor.pending import PendingTransaction
from services.blob_monitor.prefixes import horizons
from services.blob_monitor.recall import Recaller
from services.blob_monitor.reports import Reports
from services.blob_monitor.rows import RowForm
from services.blob_monitor.rules import RuleBook
from services.blob_monitor.sources import Atlas, Scope, Territory

log = structlog.get_logger(__name__)

_WAIT_SECONDS = 0.1
_CATCH_UP_SECONDS = 10.0
_CATCH_UP_EVERY_SECONDS = 5.0
_INBOX_MESSAGES = 16
_POLL_RECORDS = 100
_VANISHED_AFTER = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class MonitorParts:
    """The monitor's components, not yet connected."""

    make_session: Callable[[Listener], Session]
    make_table: MakeTable
    partitions: Callable[[], int]  # of the state topic
    places: tuple[EnvironmentParts, ...]


class Monitor:
    """The service. Implements `libs.common.process.service.Service` and `libs.common.kafka.records.Listener`."""

    def __init__(self, settings: MonitorSettings, topics: TopicSettings, parts: MonitorParts, clock: Clocks) -> None:
        self._settings = settings
        self._clock = clock
        form, territories = RowForm(), [territory for place in parts.places for territory in place.territories]
        self._memory = Memory(Atlas(territories), form, closing=settings.closing_enabled)
        recaller = Recaller(parts.make_table, territories, form)
        self._rules = RuleBook(settings, self._memory)
        self._reports = Reports(settings.listed_seconds, clock.monotonic)
        self._announcer = Announcer(topics, round(settings.closing_timeout_minutes * 60))
        self._environments = {
            place.alias: EnvironmentJobs(place, settings, self._memory, clock, recaller) for place in parts.places
        }
        # One monitor reads a queue, and therefore owns all scopes of its environment.
        self._undivided = frozenset(place.alias for place in parts.places if place.feed)
        self._session = parts.make_session(self)
        self._table = parts.make_table(self._memory.apply)
        self._count_partitions = parts.partitions
        self._partitions = 1
        self._owners: dict[str, TopicPartition] = {}  # cache of partitions by key, which are expensive to compute
        self._covered: frozenset[TopicPartition] = frozenset()  # partitions whose scopes are in memory
        self._state_topic = topics.blob_state
        self._inbox: Inbox = queue.Queue(_INBOX_MESSAGES)
        self._pending = PendingTransaction(clock.monotonic())
        self._epoch = 0
        self._is_stale = True  # memory may lag behind the state topic
        self._caught_up_at = clock.monotonic()
        self._is_waiting = False  # for Kafka; already logged
        self._watch = Watch(Stop(), Health())  # replaced by `run`

    def run(self, stop: Stop, health: Health) -> None:
        """Work until `stop` is set."""
        if not self._environments:
            log.warning("nothing to monitor: 'subscriptions' has no enabled environment")
        self._watch = Watch(stop, health)
        health.not_ready(NO_PARTITIONS)
        try:
            self._open()
            while not stop.is_set():
                self.step()
                health.beat()
        finally:
            self._close()

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Take over partitions: before listing anything, read what others have written."""
        log.info("partitions assigned", count=len(partitions))
        self._watch.health.ready()
        self._start_again()

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Drop running work; ownership is determined anew."""
        log.info("partitions revoked", count=len(partitions))
        self._watch.health.not_ready(NO_PARTITIONS)
        self._start_again()

    def rewound(self, partitions: Collection[TopicPartition]) -> None:
        """Drop uncommitted work and repeat it."""
        del partitions
        self._start_again()

    def step(self) -> None:
        """Run one iteration: heartbeat, start due jobs, handle results, commit if ready."""
        self._session.poll(_POLL_RECORDS, _WAIT_SECONDS if self._inbox.empty() else 0.0)
        due = [(environment, kind) for environment in self._environments.values() for kind in environment.due()]
        if self._session.owned() and (due or self._is_stale) and (self._is_recent() or self._catch_up()):
            self._start_jobs(due)
        self._receive()
        if self._pending.is_due(self._clock.monotonic()):
            self._commit()

    def _start_jobs(self, due: Sequence[tuple[EnvironmentJobs, JobKind]]) -> None:
        listed = horizons(self._clock.now(), self._settings)
        if self._memory.is_ahead_of(listed):
            log.warning("the clock was set back; reloading the state of blobs")
            self._covered = frozenset()
            self._start_again()
            return
        self._memory.move(listed)
        for environment, kind in due:
            if kind is not JobKind.EVENTS:
                looks = tuple(filter(self._is_to_look, environment.place.territories))
                job = environment.plan(kind, self._is_mine, self._epoch, looks)
            elif self._owns(environment.place.alias):
                job = environment.plan_events(self._epoch)
            else:
                job = Job(environment.place.alias, kind, self._epoch, (), ())
            environment.start(job, self._inbox)

    def _open(self) -> None:
        self._partitions = self._count_partitions()
        self._table.open()
        self._session.open()
        self._session.pause()  # partitions only mean ownership; records are read through the table

    def _close(self) -> None:
        for environment in self._environments.values():
            environment.close()
        self._session.close()
        self._table.close()

    def _start_again(self) -> None:
        self._epoch += 1
        self._pending = PendingTransaction(self._clock.monotonic())
        self._rules.forget()
        self._reports.forget()
        self._is_stale = True
        self._watch.health.ready(Need.STORAGE)  # as far as is known
        for environment in self._environments.values():
            environment.cancel()
        self._memory.release_all()

    def _is_recent(self) -> bool:
        """Return whether memory is recent enough: owned scopes are exact, but others' latest work may be missing."""
        return not self._is_stale and self._clock.monotonic() - self._caught_up_at < _CATCH_UP_EVERY_SECONDS

    def _catch_up(self) -> bool:
        """Read the state topic to its end; False if Kafka does not respond, or partitions changed meanwhile."""
        epoch = self._epoch
        try:
            if self._is_stale:
                self._follow_partitions()
            self._cover(self._session.owned())
            self._table.catch_up(_CATCH_UP_SECONDS, self._keep_alive)
        except (ServerUnreachable, Retry) as error:
            if not self._is_waiting and not self._watch.stop.is_set():
                log.warning("cannot read the state topic to its end; waiting", error=str(error))
            self._is_stale = self._is_waiting = True
            return False
        self._memory.loaded()
        self._is_waiting = False
        self._is_stale = epoch != self._epoch
        self._caught_up_at = self._clock.monotonic()
        return not self._is_stale

    def _follow_partitions(self) -> None:
        """Check whether the partition count of the state topic has changed: scopes are divided by it, and all are read."""
        count = self._count_partitions()
        if count != self._partitions:
            log.info("the partition count of the state topic has changed; redistributing scopes", partitions=count)
            self._partitions = count
            self._owners.clear()
            self._covered = frozenset()

    def _keep_alive(self) -> None:
        """Stay alive and in the group while millions of records are read; raise Retry if the process should stop."""
        self._watch.keep_alive()
        self._session.poll(_POLL_RECORDS, 0.0)

    def _cover(self, owned: frozenset[TopicPartition]) -> None:
        """Make memory cover the scopes of the `owned` partitions; if any are new, reload from the beginning."""
        if owned == self._covered:
            return
        if not owned <= self._covered:
            self._covered = frozenset()
            self._table.close()
            self._table.open()
            self._memory.begin(self._covers)
            self._memory.move(horizons(self._clock.now(), self._settings))
        self._covered = owned
        self._memory.keep(self._covers)

    def _covers(self, key: str) -> bool:
        return self._partition_of(key) in self._covered

    def _owns(self, key: str) -> bool:
        return self._partition_of(key) in self._session.owned()

    def _partition_of(self, key: str) -> TopicPartition:
        alias = key.partition("/")[0]
        if alias in self._undivided:
            key = alias
        partition = self._owners.get(key)
        if partition is None:
            number = partition_of(key.encode(), self._partitions)
            partition = self._owners[key] = TopicPartition(self._state_topic, number)
        return partition

    def _is_mine(self, scope: Scope) -> bool:
        return self._owns(scope.key) and not self._rules.awaits_first_look(scope.territory)

    def _is_to_look(self, territory: Territory) -> bool:
        """Return whether to record the first look at `territory`: the owner of its key does, the others wait to read it."""
        return self._rules.awaits_first_look(territory) and self._owns(territory.key)

    def _look_first(self, looked: Looked) -> bool:
        """Record the first look; False if the transaction was aborted."""
        if self._session.commit([self._announcer.first_look(looked.territory, looked.at)], {}) is CommitResult.ABORTED:
            return False
        self._memory.look_first(looked.territory.key, looked.at)
        return True

    def _receive(self) -> None:
        """Handle a limited number of the threads' findings; wait briefly if there are none."""
        try:
            self._handle(*self._inbox.get(timeout=_WAIT_SECONDS))
            for _ in range(_INBOX_MESSAGES):
                if self._pending.is_due(self._clock.monotonic()):
                    return
                self._handle(*self._inbox.get_nowait())
        except queue.Empty:
            return

    def _handle(self, job: Job, message: Message) -> None:
        if job.epoch != self._epoch:
            return
        match message:
            case Looked() if not self._look_first(message):
                return
            case Chunk(task, blobs):
                self._decide(task, blobs)
            case Heard(letters):
                self._take(job.account, letters)
            case Recalled() if not self._recalled(job, message):
                return
            case PrefixListed(task, event) if self._reports.is_wanted(task, event.prefix):
                self._pending.add(job.account, type(event).__name__, self._announcer.listed(event))
            case TaskDone() if job.kind is JobKind.FULL and not self._complete(message):
                return
            case JobEnded():
                known, still_open = self._memory.counts()
                metrics.KNOWN.set(known)
                metrics.OPEN.set(still_open)
            case _:
                pass
        self._environments[job.account].follow(job, message)
        self._tell_storage()

    def _tell_storage(self) -> None:
        """Report not ready if nothing can be listed in any environment."""
        troubles = [environment.trouble() for environment in self._environments.values()]
        if None in troubles:
            self._watch.health.ready(Need.STORAGE)
        else:
            accounts = ", ".join(filter(None, troubles))
            self._watch.health.not_ready(f"no container can be listed: {accounts}; see the log for reasons", Need.STORAGE)

    def _take(self, account: str, letters: Iterable[Letter]) -> None:
        """Decide about the blobs named by events; a message that is not ours to handle now reappears later."""
        for letter in letters:
            if not all(self._is_mine(scope) for scope, _ in letter.blobs):
                continue
            for scope, blob in letter.blobs:
                self._environments[account].meet(scope)
                self._decide(ListingTask(scope, ()), (blob,))
            if letter.trouble is not None:
                self._pending.add(account, "DeadLetter", self._announcer.dead(letter.trouble))
            self._pending.settle(account, letter.receipt)

    def _decide(self, task: ListingTask, blobs: Sequence[ListedBlob]) -> None:
        now, rules, planned = self._clock.now(), self._rules.rules(task.scope), self._pending.of(task.scope)
        verdicts: Counter[Verdict] = Counter()
        remembered = self._memory.review(task.scope, blobs, Sight(rules.replay_id, task.listing_round))
        for blob, found in zip(blobs, remembered, strict=True):
            known = planned.get(blob.name, found)
            if isinstance(known, Same):
                verdicts[Verdict.UNCHANGED] += 1
            elif known is None and not task.listing_round and not self._memory.is_resident(task.scope, blob.name):
                verdicts[Verdict.LEFT] += 1
            else:
                verdicts[self._judge(task, blob, known, evaluate(blob, known, now, rules))] += 1
        for verdict, count in verdicts.items():
            metrics.BLOBS.labels(task.scope.territory.alias, verdict).inc(count)

    def _judge(self, task: ListingTask, blob: ListedBlob, known: Known | None, decision: Decision) -> Verdict:
        """Carry out a decision."""
        if decision.known is not None:
            known = decision.known
            self._announce(seen_in(task.scope, blob), known, decision.steps, self._clock.now())
        if decision.steps and task.prefixes:  # an event is no listing
            self._reports.announced(task)
        if known is not None and task.listing_round:
            known.round = task.listing_round
        return decision.verdict

    def _announce(self, seen: Seen, known: Known, steps: Iterable[AnnouncementKind], now: datetime) -> None:
        account = seen.scope.territory.alias
        for step in steps:
            self._pending.add(account, f"Blob{step.capitalize()}", self._announcer.step(step, seen, known, now))
        self._pending.add(account, "BlobState", self._announcer.state(seen, known, now))
        self._pending.update(seen.scope, seen.blob.name, known)

    def _recalled(self, job: Job, message: Recalled) -> bool:
        """Load the known blobs of scopes about to be listed in full, and forget the doomed blobs whose names were found.

        Return False if a transaction failed.
        """
        for scope in job.recall:
            self._memory.attach(scope, message.rows[scope.key])
        for task, name in self._environments[job.account].named(message.names):
            if name not in self._pending.of(task.scope) and self._memory.is_gone(task.scope, name, task.listing_round):
                self._forget(task.scope, name)
            if self._pending.is_due(self._clock.monotonic()) and not self._commit():
                return False
        return True

    def _complete(self, done: TaskDone) -> bool:
        """Commit the rest of a full listing and handle blobs it did not see; False if a transaction failed."""
        if not self._commit():
            return False
        scope, listing_round = done.task.scope, done.task.listing_round
        self._pending.add(scope.territory.alias, "FullListing", self._announcer.full_listing(scope, done.started_at))
        for name, known in self._memory.unseen(scope, listing_round):
            if known.first_seen < done.started_at and name.startswith(done.task.prefixes):
                self._let_go(scope, name, known)
            if self._pending.is_due(self._clock.monotonic()) and not self._commit():
                return False
        if not self._commit():
            return False
        unwritten_since = self._clock.now() - timedelta(days=self._settings.forget_days)
        if doomed := self._memory.doomed(scope, listing_round, done.started_at, unwritten_since):
            self._environments[scope.territory.alias].doom(Doom(done.task, doomed))
        self._memory.release(scope)
        return True

    def _let_go(self, scope: Scope, name: str, known: Known) -> None:
        """Close a blob that was deleted from storage, or forget it once it has been gone long enough."""
        now, account = self._clock.now(), scope.territory.alias
        unwritten = now - known.modified
        closes = not known.closed and self._settings.closing_enabled and unwritten >= _VANISHED_AFTER
        if not closes and unwritten < timedelta(days=self._settings.forget_days):
            return
        if closes:
            self._pending.add(account, "BlobClosed", self._announcer.closed(scope, name, known, now))
            self._drop(scope, name)  # ingest keeps its checkpoint: the blob existed until recently
        else:
            self._forget(scope, name)

    def _forget(self, scope: Scope, name: str) -> None:
        event = self._announcer.forgotten(scope.blob(name), self._clock.now())
        self._pending.add(scope.territory.alias, "BlobForgotten", event)
        self._drop(scope, name)

    def _drop(self, scope: Scope, name: str) -> None:
        self._pending.outputs.append(self._announcer.removal(scope.blob(name)))
        self._pending.update(scope, name, None)

    def _commit(self) -> bool:
        """Write pending records in one transaction; False if it was aborted and everything starts again."""
        pending, self._pending = self._pending, PendingTransaction(self._clock.monotonic())
        if pending.outputs:
            result = self._session.commit(pending.outputs, {})
            metrics.COMMITS.labels(result).inc()
            if result is CommitResult.ABORTED:
                self._start_again()
                return False
            pending.committed(self._memory)
        for account, receipts in pending.receipts.items():
            self._environments[account].settle(receipts)
        return True


def utc_clock() -> Clocks:
    """Return the real clock."""
    return Clocks(lambda: datetime.now(UTC), time.monotonic)
