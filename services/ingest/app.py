"""The main loop: announcements in, transactions out, and in between a pool of threads that read blobs.

One thread owns the session and all bookkeeping; workers only read blobs. Results for revoked partitions or rewound work are
dropped when they arrive: the work is repeated from freshly loaded checkpoints. Memory is bounded by reservations: a step is
granted the bytes that it may read, and they count until its transaction ends. If there are several accounts, each may reserve
as much as it leaves free, so that a hanging account does not take the memory of the others. A record that needs more than a
step's share is read alone, because parsing takes many times its size.

A blob that crashes our code or kills the process too often (`tries`) is quarantined; the others continue. A blob that storage
refuses for very long goes to a dead letter: its waiting announcement must be settled before Kafka deletes it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

import structlog

from libs.common.azure.storage.api import Container, StorageRefused, StorageUnavailable
from libs.common.errors import Retry, ServerUnreachable
from libs.common.kafka.client.throttle import Throttle
from libs.common.kafka.records import CommitResult, Listener, NextOffsets, Session, TopicPartition
from libs.common.messages.events import BlobCheckpoint, BlobForgotten
from libs.common.process.crash import crash_point
from libs.common.process.health import NO_PARTITIONS, Health, Need
from libs.common.process.service import Stop
from libs.common.process.watch import Watch
from libs.common.settings.ingest import IngestSettings
from libs.common.settings.kafka import TopicSettings
from libs.common.work.fair_queues import Answering
from libs.common.work.workers import Workers
from services.ingest import metrics
from services.ingest.batch import Batch
from services.ingest.limits import SMALLEST_GRANT, allowance
from services.ingest.pending import intake
from services.ingest.pending.backlog import Backlog, PendingBlob
from services.ingest.pending.checkpoints import Checkpoints
from services.ingest.pending.intake import Intake
from services.ingest.pending.tries import CAREFUL_SECONDS, MOST_CRASHES, Standing, StoredBlob, Tries, is_quarantined
from services.ingest.reading.outcome import given_up, quarantined
from services.ingest.reading.reader import BlobReader
from services.ingest.sources import Sources
from services.ingest.work import ReadingTask, Skip, Step

log = structlog.get_logger(__name__)

POLL_RECORDS: Final = 1_000
POLL_IDLE_SECONDS: Final = 0.2
COLLECT_SECONDS: Final = 0.05
STOP_SECONDS: Final = 3.0
LOOKUP_AGAIN_SECONDS: Final = 5.0
DISPATCH_SECONDS: Final = 1.0  # per round: very many checkpoints may have to be looked up
FEWEST_REFUSALS: Final = 10  # in a row (a quarter of an hour) before a blob is given up, however old its announcement
MOST_CHANGES: Final = 5  # of a blob during reading, in a row, before it waits
MEMORY_COMMITS: Final = 2  # limit on reservations, as a multiple of one commit's bytes
SMALLEST_COMMIT: Final = 1_000_000
COMMIT_STEPS: Final = 8  # successes after which transactions are back to full size


@dataclass(frozen=True, slots=True)
class IngestParts:
    """The components of the loop."""

    settings: IngestSettings
    topics: TopicSettings
    sources: Sources
    reader: BlobReader
    checkpoints: Checkpoints
    check: Callable[[], None]  # raises if the partition counts of the topics do not match
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time  # seconds since the epoch, as in announcements
    careful_seconds: float = CAREFUL_SECONDS  # after an assignment


@dataclass(frozen=True, slots=True)
class _Job:
    pending: PendingBlob
    container: Container
    task: ReadingTask
    record: StoredBlob
    share: int  # maximum bytes of a step, except for the one wide step

    @property
    def wide(self) -> bool:
        """Whether it reads more than a step's share."""
        return self.task.allowance > self.share

    @property
    def reserved(self) -> int:
        """Bytes that it reserves. A wide job's bytes beyond the share do not count: there is at most one."""
        return min(self.task.allowance, self.share)

    @property
    def is_suspect(self) -> bool:
        """Whether it must be the only suspect being tried."""
        return self.record.standing is Standing.SUSPECT


class Ingest:
    """The service, and the listener of its session."""

    def __init__(self, parts: IngestParts, make_session: Callable[[Listener], Session]) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._clock = parts.clock
        self._backlog = Backlog(parts.settings.concurrency, parts.clock)
        self._batch = Batch(parts.topics)
        self._intake = Intake(intake.IntakeParts(self._backlog, parts.sources, self._blob_forgotten), parts.clock)
        self._workers: Workers[_Job, Step] = Workers(parts.settings.concurrency, self._work)
        self._session = make_session(self)
        self._giving_up = Throttle(parts.clock)
        self._replacing = Throttle(parts.clock)
        self._watch = Watch(Stop(), Health())  # replaced by `run`
        self._reserved: Counter[str] = Counter()  # granted to running steps, by account
        self._alone = len(parts.sources.accounts) == 1
        self._tries = Tries(parts.clock, parts.now, parts.careful_seconds)
        self._marked: dict[int, _Job] = {}  # running jobs whose attempts were recorded
        self._suspect = False  # whether a step of a suspect is running: at most one
        self._wide = False  # whether a wide step is running: at most one
        # A transaction must end within seconds: if Kafka accepts less in that time than allowed, transactions shrink.
        self._commit_bytes = parts.settings.commit_bytes
        self._committed: NextOffsets = {}
        self._last_commit = parts.clock()
        self._paused = False

    def run(self, stop: Stop, health: Health) -> None:
        """Work until `stop` is set; commit what is ready; return."""
        self._watch = Watch(stop, health)
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
            self._parts.checkpoints.close()
            self._parts.sources.close()

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Load the checkpoints of new partitions."""
        self._forget(partitions)
        blobs = self._parts.checkpoints.load([source.partition for source in partitions], self._watch.keep_alive)
        self._tries.be_careful()
        self._watch.health.ready()
        log.info("partitions assigned", partitions=sorted(source.partition for source in partitions), known_blobs=blobs)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Forget everything about revoked partitions; those that remain are assigned anew."""
        self._watch.health.not_ready(NO_PARTITIONS)
        self._forget(partitions)
        self._parts.checkpoints.forget([source.partition for source in partitions])

    def rewound(self, partitions: Collection[TopicPartition]) -> None:
        """Start again from the committed state."""
        self._forget(partitions)
        self._parts.checkpoints.load([source.partition for source in partitions], self._watch.keep_alive)

    def _forget(self, partitions: Collection[TopicPartition]) -> None:
        self._backlog.forget(partitions)
        self._batch.forget(partitions)
        self._committed = {source: offset for source, offset in self._committed.items() if source not in partitions}

    def _round(self) -> None:
        self._take_in(0.0 if self._workers.running else POLL_IDLE_SECONDS)
        self._dispatch()
        self._collect(COLLECT_SECONDS if self._workers.running else 0.0)
        self._tell_storage()
        self._watch.health.tell(self._session.trouble(), Need.TOPICS)
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

    def _blob_forgotten(self, source: TopicPartition, event: BlobForgotten) -> None:
        """Remove the checkpoint of a long-deleted blob, unless it has pending work or has come back since."""
        key = event.blob.encode()
        if self._backlog.is_announced(key):
            return
        try:
            known = self._parts.checkpoints.get(source.partition, key, self._watch.keep_alive)
        except (ServerUnreachable, Retry):  # Kafka is down; keeping a checkpoint too many costs a few bytes
            return
        if known is not None and known.updated_at < event.forgotten_at:
            self._batch.keep(source, key, None)
            self._parts.checkpoints.remove(source.partition, key)

    def _dispatch(self) -> None:
        jobs: list[_Job] = []
        until = self._clock() + DISPATCH_SECONDS
        while self._clock() < until and (pending := self._backlog.take(self._has_room)) is not None:
            try:
                job = self._job(pending)
            except (ServerUnreachable, Retry) as error:  # its checkpoint must be looked up, but Kafka is down
                log.warning("cannot look up a checkpoint", blob=str(pending.announcement.blob), error=str(error))
                self._backlog.postpone(pending, LOOKUP_AGAIN_SECONDS)
                break
            match job.record.standing:
                case Standing.QUARANTINED:
                    metrics.SKIPPED.labels(Skip.QUARANTINED).inc()
                    self._backlog.settle(pending)
                case Standing.CONDEMNED:
                    self._quarantine(
                        job, job.record.crashes, f"the process died {job.record.crashes} times in a row while reading it"
                    )
                case _ if job.task.nothing_new and job.record.is_clean:
                    metrics.SKIPPED.labels(Skip.NOTHING_NEW).inc()
                    self._backlog.settle(pending)
                case _ if (job.wide and self._wide) or (job.is_suspect and self._suspect):
                    self._backlog.set_aside(pending)
                case _:
                    self._wide = self._wide or job.wide
                    self._suspect = self._suspect or job.is_suspect
                    self._reserved[pending.announcement.blob.account] += job.reserved
                    jobs.append(job)
        self._start(jobs)

    def _start(self, jobs: list[_Job]) -> None:
        """Start jobs; first record those whose attempt might be the last thing this process does."""
        marked = [job for job in jobs if self._tries.is_to_be_marked(job.record)]
        for job in marked:
            self._marked[id(job)] = job
            self._keep(job, self._tries.before(job.record, job.task))
        if marked:
            self._commit()
        for job in jobs:
            if self._backlog.is_current(job.pending):
                self._workers.submit(job)
            else:  # the record was not committed: the job comes again
                self._marked.pop(id(job), None)
                self._returned(job)
                self._backlog.drop(job.pending)

    def _has_room(self, account: str) -> bool:
        """Return whether the account may start another step: while it has reserved less than it leaves for others."""
        free = MEMORY_COMMITS * self._commit_bytes - self._batch.bytes - self._reserved.total()
        return free > (0 if self._alone else self._reserved[account])

    def _job(self, pending: PendingBlob) -> _Job:
        announcement = pending.announcement
        blob = announcement.blob
        container = self._parts.sources.container(blob)
        if container is None:
            raise AssertionError("the intake lets only configured containers in")
        stored = self._parts.checkpoints.get(pending.source.partition, blob.key, self._watch.keep_alive)
        record = self._tries.record(stored, announcement)
        checkpoint = record.checkpoint
        stream = announcement.stream or (record.stored.stream if record.stored else self._parts.sources.stream(blob))
        share = min(self._settings.read_bytes, self._commit_bytes)
        most = SMALLEST_GRANT if self._backlog.doubtful(blob.account) else share
        granted = pending.wanted or allowance(announcement.size, checkpoint, most)
        return _Job(pending, container, ReadingTask(announcement, checkpoint, stream, granted), record, share)

    def _work(self, job: _Job) -> Step:
        crash_point("ingest.reading", job.task.announcement.blob.name)
        return self._parts.reader.step(job.container, job.task)

    def _collect(self, seconds: float) -> None:
        for job, result in self._workers.collect(seconds):
            self._returned(job)
            if isinstance(result, Step | StorageUnavailable):
                self._unmark(job, result)
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

    def _returned(self, job: _Job) -> None:
        """Record that a job is no longer running."""
        self._reserved[job.pending.announcement.blob.account] -= job.reserved
        self._wide = self._wide and not job.wide
        self._suspect = self._suspect and not job.is_suspect
        if job.wide or job.is_suspect:
            self._backlog.resume()

    def _unmark(self, job: _Job, result: Step | StorageUnavailable) -> None:
        """Remove the mark of an attempt that returned; the checkpoint it publishes, if any, replaces it."""
        if self._marked.pop(id(job), None) is None and job.record.is_clean:
            return
        if self._backlog.is_current(job.pending):
            came_on = isinstance(result, Step) and (result.checkpoint is not None or not result.more)
            self._keep(job, self._tries.after(job.record, 0 if came_on else job.record.crashes, job.task))

    def _keep(self, job: _Job, checkpoint: BlobCheckpoint | None) -> None:
        """Commit a checkpoint with or without a count of attempts, or its removal."""
        source, key = job.pending.source, job.pending.announcement.blob.key
        value = self._batch.keep(source, key, checkpoint)
        if checkpoint is None or value is None:
            self._parts.checkpoints.remove(source.partition, key)
        else:
            self._parts.checkpoints.put(source.partition, key, value, quarantined=is_quarantined(checkpoint))

    def _put_off(self, pending: PendingBlob, error: StorageUnavailable) -> None:
        metrics.STORAGE_FAILURES.inc()
        if self._backlog.put_off(pending, error.after) is Answering.NO:
            log.warning("a storage account does not respond", account=pending.announcement.blob.account, error=str(error))

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
                "gave up on blobs that storage keeps refusing; see Errors",
                blob=str(pending.announcement.blob),
                error=str(error),
                more_since_last_line=self._giving_up.take_swallowed(),
            )
        self._publish(job, given_up(job.task, str(error)))

    def _turn_away(self, pending: PendingBlob, error: StorageRefused) -> None:
        metrics.STORAGE_FAILURES.inc()
        if self._backlog.turn_away(pending, error.after) is Answering.REFUSES:
            log.warning("storage refuses a blob; others continue", blob=str(pending.announcement.blob), error=str(error))

    def _tell_storage(self) -> None:
        """Report not ready if nothing can be read: every account with announced blobs is down or refuses them."""
        if accounts := self._backlog.starved_by():
            self._watch.health.not_ready(f"waiting for storage: {', '.join(accounts)}; see the log for reasons", Need.STORAGE)
        else:
            self._watch.health.ready(Need.STORAGE)

    def _tell_quarantine(self) -> None:
        count = self._parts.checkpoints.quarantined
        metrics.QUARANTINED.set(count)
        blobs = "1 blob is" if count == 1 else f"{count} blobs are"
        self._watch.health.note("quarantine", f"{blobs} in quarantine: see `blobtide quarantine list`" if count else "")

    def _changed(self, pending: PendingBlob) -> None:
        metrics.SKIPPED.labels(Skip.CHANGED).inc()
        if pending.failures >= MOST_CHANGES:
            self._turn_away(pending, StorageRefused("it changes every time it is read", after=0.0))
        else:
            pending.failures += 1
            self._backlog.go_on(pending)

    def _publish(self, job: _Job, step: Step) -> None:
        pending, stream = job.pending, job.task.stream
        key = pending.announcement.blob.key
        pending.failures, pending.wanted = 0, step.wanted
        checkpoint = self._batch.add(pending.source, key, stream, step)
        if checkpoint is not None and step.checkpoint is not None:
            held = is_quarantined(step.checkpoint)
            self._parts.checkpoints.put(pending.source.partition, key, checkpoint, quarantined=held)
        self._tell_replaced(job.task, step)
        answering = self._go_on(pending, step) if step.more else self._backlog.finish(pending)
        if answering is Answering.AGAIN:
            log.info("a storage account responds again", account=pending.announcement.blob.account)

    def _go_on(self, pending: PendingBlob, step: Step) -> Answering:
        return self._backlog.go_on_soon(pending) if step.soon else self._backlog.go_on(pending)

    def _tell_replaced(self, task: ReadingTask, step: Step) -> None:
        """Log that a blob's content was replaced: destinations get the rows of both generations."""
        old, new = task.checkpoint, step.checkpoint
        if old is not None and new is not None and old.generation != new.generation and self._replacing.admits():
            log.warning(
                "a blob's content was overwritten; reading it from the beginning as a new generation",
                blob=new.blob,
                old=old.generation,
                new=new.generation,
                more_since_last_line=self._replacing.take_swallowed(),
            )

    def _crashed(self, job: _Job, error: Exception) -> None:
        pending = job.pending
        log.error("reading a blob crashed", blob=str(pending.announcement.blob), exc_info=error)
        self._marked.pop(id(job), None)
        if not self._backlog.is_current(pending):
            self._backlog.drop(pending)
            return
        crashes = job.record.crashes + 1
        if crashes < MOST_CRASHES:
            self._keep(job, self._tries.after(job.record, crashes, job.task))
            self._backlog.go_on(pending)
        else:
            self._quarantine(
                job, crashes, f"{type(error).__name__} while reading it, the last of {crashes} consecutive crashes"
            )

    def _quarantine(self, job: _Job, crashes: int, reason: str) -> None:
        log.error("a blob was quarantined; see Errors", blob=str(job.pending.announcement.blob), reason=reason)
        marked = self._tries.after(job.record, crashes, job.task)
        if marked is not None:
            self._publish(job, quarantined(job.task, reason, marked))

    def _commit(self) -> None:
        self._last_commit = self._clock()
        metrics.BACKLOG.set(len(self._backlog))
        metrics.RESERVED.set(self._reserved.total() + self._batch.bytes)
        self._tell_quarantine()
        offsets = self._backlog.next_offsets()
        metrics.KNOWN.set(self._parts.checkpoints.known)
        metrics.AT_HAND.set(self._parts.checkpoints.at_hand)
        metrics.HELD.set(self._parts.checkpoints.held)
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
            self._parts.checkpoints.committed(batch.placed.items())
            crash_point("ingest.committed")
        else:
            self._commit_bytes = max(SMALLEST_COMMIT, self._commit_bytes // 2)
            # The session announces each partition once it can be read again, some later than others. Until then nothing of
            # those may be committed, and their offsets must not block the others.
            self._forget(tuple(offsets))

    def _wind_up(self) -> None:
        """Collect running steps for a short time, and commit them."""
        deadline = self._clock() + STOP_SECONDS
        while self._workers.running and self._clock() < deadline:
            self._collect(COLLECT_SECONDS)
            if self._batch.bytes >= self._commit_bytes:
                break
        for job in self._marked.values():  # they will not return, through no fault of their blobs
            if self._backlog.is_current(job.pending):
                self._keep(job, self._tries.after(job.record, job.record.crashes, job.task))
        self._commit()
