"""The main loop: announcements in, transactions out, reading in between by a pool of threads.

One thread owns the session and all bookkeeping; workers only read blobs. Results that belong to partitions that have left, or
to work that was rewound, are dropped when they arrive: the work comes again, from checkpoints that were loaded anew. Memory is
bounded by reservations: a step is granted as many bytes as it may read, and what it has read counts until its transaction ends.
Of several accounts each may reserve as much as it leaves free, so that one that hangs takes the memory of no other.
A record that needs more than a step's share is read alone, since parsing costs many times its size.

A blob on which our own code crashes twice is named in a dead letter; the others go on. So is one that storage refuses for very
long: its announcement, which waits for it, must be dealt with before Kafka deletes it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

import structlog

from libs.common.crash import crash_point
from libs.common.errors import Retry
from libs.common.kafka.records import CommitResult, Listener, NextOffsets, Session, TopicPartition
from libs.common.kafka.throttle import Throttle
from libs.common.service import NO_PARTITIONS, Health, Need, Stop
from libs.common.settings.kafka import TopicSettings
from libs.common.settings.services import IngestSettings
from libs.common.storage.api import Container, StorageRefused, StorageUnavailable
from services.ingest import metrics
from services.ingest.backlog import Backlog, Pending
from services.ingest.batch import Batch
from services.ingest.checkpoints import Checkpoints
from services.ingest.intake import Intake
from services.ingest.lanes import Answering
from services.ingest.outcome import crashed, given_up
from services.ingest.reader import Reader
from services.ingest.sources import Sources
from services.ingest.work import Skip, Step, Task
from services.ingest.workers import Workers

log = structlog.get_logger(__name__)

POLL_RECORDS: Final = 1_000
POLL_IDLE_SECONDS: Final = 0.2
COLLECT_SECONDS: Final = 0.05
STOP_SECONDS: Final = 3.0
SMALLEST_GRANT: Final = 65_536
MOST_CRASHES: Final = 2  # of our code on one blob
FEWEST_REFUSALS: Final = 10  # in a row, a quarter of an hour, before a blob is given up however old its announcement is
MOST_CHANGES: Final = 5  # of a blob while it was read, in a row, before it waits
MEMORY_COMMITS: Final = 2  # reservations may reach so many times what is committed at once
SMALLEST_COMMIT: Final = 1_000_000
COMMIT_STEPS: Final = 8  # successes after which transactions are as large again as they may be


@dataclass(frozen=True, slots=True)
class Parts:
    """What the loop is made of."""

    settings: IngestSettings
    topics: TopicSettings
    sources: Sources
    reader: Reader
    checkpoints: Checkpoints
    check: Callable[[], None]  # raises if the topics do not fit together
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time  # seconds since the epoch, as announcements have them


@dataclass(frozen=True, slots=True)
class _Job:
    pending: Pending
    container: Container
    task: Task
    share: int  # bytes that a step may read at most, unless it is the one that may read more

    @property
    def wide(self) -> bool:
        """Tell whether it reads more than a step's share."""
        return self.task.allowance > self.share

    @property
    def reserved(self) -> int:
        """Return what it reserves. What a wide one reads beyond the share does not count: there is one at most."""
        return min(self.task.allowance, self.share)


class Ingest:
    """The service, and the listener of its session."""

    def __init__(self, parts: Parts, make_session: Callable[[Listener], Session]) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._clock = parts.clock
        self._backlog = Backlog(parts.settings.concurrency, parts.clock)
        self._batch = Batch(parts.topics)
        self._intake = Intake(self._backlog, parts.sources, parts.clock)
        self._workers: Workers[_Job, Step] = Workers(parts.settings.concurrency, self._work)
        self._session = make_session(self)
        self._giving_up = Throttle(parts.clock)
        self._replacing = Throttle(parts.clock)
        self._stop, self._health = Stop(), Health()  # until `run` is given them
        self._reserved: Counter[str] = Counter()  # granted to steps in flight, by account
        self._alone = len(parts.sources.accounts) == 1
        self._wide = False  # whether a step is in flight that reads more than its share: one at most
        # A transaction has seconds to end: where Kafka takes less in that time than is allowed, it must hold less.
        self._commit_bytes = parts.settings.commit_bytes
        self._committed: NextOffsets = {}
        self._last_commit = parts.clock()
        self._paused = False

    def run(self, stop: Stop, health: Health) -> None:
        """Work until `stop` is set; commit what is ready; return."""
        self._stop, self._health = stop, health
        health.not_ready(NO_PARTITIONS)
        self._parts.check()
        self._session.open()
        self._workers.start()
        try:
            while not stop.is_set():
                health.beat()
                self._round()
            self._wind_up()
        finally:
            self._workers.stop()
            self._session.close()
            self._parts.sources.close()

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Load what is known of the blobs of new partitions."""
        self._forget(partitions)
        blobs = self._parts.checkpoints.load([source.partition for source in partitions], self._keep_alive)
        self._health.ready()
        log.info("partitions assigned", partitions=sorted(source.partition for source in partitions), known_blobs=blobs)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Forget all about partitions that left; what stays is assigned anew."""
        self._health.not_ready(NO_PARTITIONS)
        self._forget(partitions)
        self._parts.checkpoints.forget([source.partition for source in partitions])

    def rewound(self, partitions: Collection[TopicPartition]) -> None:
        """Begin again from what is committed."""
        self._forget(partitions)
        self._parts.checkpoints.load([source.partition for source in partitions], self._keep_alive)

    def _keep_alive(self) -> None:
        """Stay alive while checkpoints are loaded, or leave them when the process is to end."""
        if self._stop.is_set():
            raise Retry("ingest ends")
        self._health.beat()

    def _forget(self, partitions: Collection[TopicPartition]) -> None:
        self._backlog.forget(partitions)
        self._batch.forget(partitions)
        self._committed = {source: offset for source, offset in self._committed.items() if source not in partitions}

    def _round(self) -> None:
        self._take_in(0.0 if self._workers.running else POLL_IDLE_SECONDS)
        self._dispatch()
        self._collect(COLLECT_SECONDS if self._workers.running else 0.0)
        self._tell_storage()
        self._health.tell(self._session.trouble(), Need.TOPICS)
        now = self._clock()
        if self._batch.bytes >= self._commit_bytes or now - self._last_commit >= self._settings.commit_seconds:
            self._commit()

    def _take_in(self, seconds: float) -> None:
        if self._backlog.full() != self._paused:
            self._paused = not self._paused
            (self._session.pause if self._paused else self._session.resume)()
            metrics.PAUSED.set(self._paused)
        for record in self._session.poll(POLL_RECORDS, seconds):
            letter = self._intake.take(record)
            if letter is not None:
                self._batch.refuse(record.source, letter)

    def _dispatch(self) -> None:
        while (pending := self._backlog.take(self._has_room)) is not None:
            job = self._job(pending)
            if job.task.nothing_new:
                metrics.SKIPPED.labels(Skip.NOTHING_NEW).inc()
                self._backlog.settle(pending)
                continue
            if job.wide and self._wide:
                self._backlog.set_aside(pending)
                continue
            self._wide = self._wide or job.wide
            self._reserved[pending.announcement.blob.account] += job.reserved
            self._workers.submit(job)

    def _has_room(self, account: str) -> bool:
        """Tell whether the account may begin another step: while it has reserved less than it leaves to others."""
        free = MEMORY_COMMITS * self._commit_bytes - self._batch.bytes - self._reserved.total()
        return free > (0 if self._alone else self._reserved[account])

    def _job(self, pending: Pending) -> _Job:
        announcement = pending.announcement
        blob = announcement.blob
        container = self._parts.sources.container(blob)
        if container is None:
            raise AssertionError("the intake lets only configured containers in")
        checkpoint = self._parts.checkpoints.get(pending.source.partition, blob.key)
        stream = announcement.stream or (checkpoint.stream if checkpoint else self._parts.sources.stream(blob))
        unread = announcement.size - (checkpoint.next_offset if checkpoint else 0)
        share = min(self._settings.read_bytes, self._commit_bytes)
        most = SMALLEST_GRANT if self._backlog.doubtful(blob.account) else share
        allowance = pending.wanted or max(SMALLEST_GRANT, min(most, unread))
        return _Job(pending, container, Task(announcement, checkpoint, stream, allowance), share)

    def _work(self, job: _Job) -> Step:
        return self._parts.reader.step(job.container, job.task)

    def _collect(self, seconds: float) -> None:
        for job, result in self._workers.collect(seconds):
            self._reserved[job.pending.announcement.blob.account] -= job.reserved
            if job.wide:
                self._wide = False
                self._backlog.resume()
            match result:
                case StorageRefused():
                    self._refused(job, result)
                case StorageUnavailable():
                    self._put_off(job.pending, result)
                case Exception():
                    self._crashed(job, result)
                case BaseException():
                    raise result
                case Step(skipped=Skip.CHANGED) if self._backlog.is_current(job.pending):
                    self._changed(job.pending)
                case _ if self._backlog.is_current(job.pending):
                    self._publish(job, result)
                case _:
                    self._backlog.drop(job.pending)

    def _put_off(self, pending: Pending, error: StorageUnavailable) -> None:
        metrics.STORAGE_FAILURES.inc()
        if self._backlog.put_off(pending, error.after) is Answering.NO:
            log.warning("storage account does not answer", account=pending.announcement.blob.account, error=str(error))

    def _refused(self, job: _Job, error: StorageRefused) -> None:
        pending = job.pending
        hours = (self._parts.now() - pending.oldest.at) / 3600
        again = pending.failures + 1 < FEWEST_REFUSALS or hours < self._settings.give_up_hours
        if again or not self._backlog.is_current(pending):
            self._turn_away(pending, error)
            return
        metrics.STORAGE_FAILURES.inc()
        if self._giving_up.admits():
            log.error(
                "gave up blobs that storage keeps refusing; Errors names them",
                blob=str(pending.announcement.blob),
                error=str(error),
                more_since_last_line=self._giving_up.take_swallowed(),
            )
        self._publish(job, given_up(job.task, str(error)))

    def _turn_away(self, pending: Pending, error: StorageRefused) -> None:
        metrics.STORAGE_FAILURES.inc()
        if self._backlog.turn_away(pending, error.after) is Answering.REFUSES:
            log.warning("storage refuses a blob; others go on", blob=str(pending.announcement.blob), error=str(error))

    def _tell_storage(self) -> None:
        """Say so where nothing can be read: every account with announced blobs is away or refuses them."""
        if accounts := self._backlog.starved_by():
            self._health.not_ready(f"waiting for storage: {', '.join(accounts)}; the log says why", Need.STORAGE)
        else:
            self._health.ready(Need.STORAGE)

    def _changed(self, pending: Pending) -> None:
        metrics.SKIPPED.labels(Skip.CHANGED).inc()
        if pending.failures >= MOST_CHANGES:
            self._turn_away(pending, StorageRefused("it changes whenever it is read", after=0.0))
        else:
            pending.failures += 1
            self._backlog.go_on(pending)

    def _publish(self, job: _Job, step: Step) -> None:
        pending, stream = job.pending, job.task.stream
        key = pending.announcement.blob.key
        pending.failures, pending.wanted = 0, step.wanted
        checkpoint = self._batch.add(pending.source, key, stream, step)
        if checkpoint is not None:
            self._parts.checkpoints.put(pending.source.partition, key, checkpoint)
        self._tell_replaced(job.task, step)
        answering = self._backlog.go_on(pending) if step.more else self._backlog.finish(pending)
        if answering is Answering.AGAIN:
            log.info("storage account answers again", account=pending.announcement.blob.account)

    def _tell_replaced(self, task: Task, step: Step) -> None:
        """Say that a blob has other content than what was read of it: destinations get the rows of both."""
        old, new = task.checkpoint, step.checkpoint
        if old is not None and new is not None and old.generation != new.generation and self._replacing.admits():
            log.warning(
                "other content was written over a blob; it is read from its beginning as a new generation",
                blob=new.blob,
                old=old.generation,
                new=new.generation,
                more_since_last_line=self._replacing.take_swallowed(),
            )

    def _crashed(self, job: _Job, error: Exception) -> None:
        pending = job.pending
        log.error("reading a blob crashed", blob=str(pending.announcement.blob), exc_info=error)
        if not self._backlog.is_current(pending):
            self._backlog.drop(pending)
            return
        pending.crashes += 1
        if pending.crashes < MOST_CRASHES:
            self._backlog.go_on(pending)
        else:
            self._publish(job, crashed(job.task, f"{type(error).__name__} while reading this blob"))

    def _commit(self) -> None:
        self._last_commit = self._clock()
        metrics.BACKLOG.set(len(self._backlog))
        metrics.RESERVED.set(self._reserved.total() + self._batch.bytes)
        offsets = self._backlog.next_offsets()
        batch, self._batch = self._batch, Batch(self._parts.topics)
        outputs = batch.outputs()
        if not outputs and offsets == self._committed:
            batch.count()
            return
        crash_point("ingest.read")
        result = self._session.commit(outputs, offsets)
        metrics.TRANSACTIONS.labels(result).inc()
        most = self._settings.commit_bytes
        if result is CommitResult.COMMITTED:
            self._commit_bytes = min(most, self._commit_bytes + most // COMMIT_STEPS)
            self._committed = offsets
            batch.count()
            crash_point("ingest.committed")
        else:
            self._commit_bytes = max(SMALLEST_COMMIT, self._commit_bytes // 2)
            # The session tells of each partition when it can begin with it again, of some later than of others: until then
            # nothing of those may be committed, and their offsets must not stand in the way of the others'.
            self._forget(tuple(offsets))

    def _wind_up(self) -> None:
        """Collect what is being read, for a short time, and commit it."""
        deadline = self._clock() + STOP_SECONDS
        while self._workers.running and self._clock() < deadline:
            self._collect(COLLECT_SECONDS)
            if self._batch.bytes >= self._commit_bytes:
                break
        self._commit()
