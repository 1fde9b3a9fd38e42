"""The main loop: requests in, transactions out, and in between threads that ask Azure.

One thread owns the session and all bookkeeping; workers only read pages. A step is one page of one call, so that answers leave
as they arrive and memory does not grow with lists. Answers, the place after each, and the offsets of requests that are over are
one transaction: whoever continues after a crash continues at the page after the last one committed. Results for revoked
partitions or rewound work are dropped when they arrive, because the work is repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

import structlog

from libs.common.azure.arm.client import MOST_BYTES, ArmClient
from libs.common.azure.arm.pages import ArmLists, Page
from libs.common.errors import ServerUnreachable
from libs.common.kafka.client.throttle import Throttle
from libs.common.kafka.records import CommitResult, Listener, NextOffsets, Session, TopicPartition
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.process.crash import crash_point
from libs.common.process.health import NO_PARTITIONS, Health, Need
from libs.common.process.service import Stop
from libs.common.process.watch import Watch
from libs.common.settings.collector import CollectorSettings
from libs.common.settings.kafka import TopicSettings
from libs.common.work.room import SharedRoom
from libs.common.work.workers import Workers
from services.collector import metrics
from services.collector.api.api import CollectionApi
from services.collector.backlog import PendingCall, RequestBacklog
from services.collector.batch import ResultBatch
from services.collector.comparing import Comparison
from services.collector.defaults import CallDefaults
from services.collector.history import FormerRecords, ResourceHistory
from services.collector.intake import RequestIntake
from services.collector.inventory import FOLLOW_SECONDS, Inventory
from services.collector.judging import CallJudge, JudgeParts, SeenStep
from services.collector.progress import KnownRequests
from services.collector.queue_feed import QueueFeed
from services.collector.resources import SeenPage, resources_in
from services.collector.schedules import CollectionSchedules, RequestView

log = structlog.get_logger(__name__)

POLL_RECORDS: Final = 100
POLL_IDLE_SECONDS: Final = 0.2
COLLECT_SECONDS: Final = 0.05
STOP_SECONDS: Final = 3.0
READ_SECONDS: Final = 5.0  # without a record, after which requests that have waited are read later
MEMORY_COMMITS: Final = 2  # limit on what is uncommitted, as a multiple of one commit's bytes
MOST_OF_PAGES: Final = MOST_BYTES  # of large pages that are read or wait to be taken over, which take several times as much


@dataclass(frozen=True, slots=True)
class CollectorParts:
    """The components of the loop."""

    settings: CollectorSettings
    topics: TopicSettings
    client: ArmClient
    known: KnownRequests
    inventory: Inventory
    history: ResourceHistory
    requests: FormerRecords
    feed: QueueFeed | None
    schedules: CollectionSchedules
    limits: TopicLimits
    defaults: CallDefaults
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time  # seconds since the epoch
    api: CollectionApi | None = None


class CollectorService:
    """The service, and the listener of its session."""

    def __init__(self, parts: CollectorParts, make_session: Callable[[Listener], Session]) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._lists = ArmLists(parts.client, parts.settings.most_pages)
        self._room = SharedRoom(MOST_OF_PAGES)
        self._requests = RequestBacklog(parts.clock)
        self._comparison = Comparison.of(parts.settings.ignore_changes_of)
        self._batch = ResultBatch(parts.topics)
        permitted = frozenset(parts.settings.methods)
        self._intake = RequestIntake(self._requests, parts.known, permitted, parts.defaults, parts.now)
        self._workers: Workers[PendingCall, SeenStep] = Workers(parts.settings.concurrency, self._work)
        self._session = make_session(self)
        self._watch = Watch(Stop(), Health())  # replaced by `run`
        self._judge = CallJudge(self._judge_parts())
        self._unscheduled, self._uncompared, self._unread = (Throttle(parts.clock) for _ in range(3))
        self._committed: NextOffsets = {}
        self._last_commit = self._followed = parts.clock()
        self._paused = False

    def _judge_parts(self) -> JudgeParts:
        parts = self._parts
        room = partial(parts.limits.room, parts.topics.collection_results)
        give_up = parts.settings.give_up_hours * 3_600
        return JudgeParts(self._requests, parts.known, parts.inventory, parts.defaults, room, give_up, parts.now)

    def run(self, stop: Stop, health: Health) -> None:
        """Work until `stop` is set; commit what is ready; return."""
        self._watch = Watch(stop, health)
        health.not_ready(NO_PARTITIONS)
        self._parts.defaults.open()
        self._session.open()
        self._workers.start()
        if self._parts.feed is not None:
            self._parts.feed.start()
        try:
            if self._parts.api is not None:
                self._parts.api.start()
            while not stop.is_set():
                health.beat()
                self._round()
            self._wind_up()
        finally:
            if self._parts.api is not None:
                self._parts.api.stop()
            self._room.close()
            self._workers.stop()
            if self._parts.feed is not None:
                self._parts.feed.stop()
            self._parts.client.close()
            self._parts.defaults.close()
            self._parts.inventory.close()
            self._parts.history.close()
            self._parts.requests.close()
            self._session.close()

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Load how far requests of new partitions have come."""
        self._load(partitions)
        self._parts.schedules.forget_partitions()
        self._watch.health.ready()
        metrics.KNOWN.set(len(self._parts.known))
        log.info("partitions assigned", partitions=sorted(source.partition for source in partitions))

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Forget everything about revoked partitions; those that remain are assigned anew."""
        self._watch.health.not_ready(NO_PARTITIONS)
        self._forget(partitions)
        self._parts.known.forget([source.partition for source in partitions])

    def rewound(self, partitions: Collection[TopicPartition]) -> None:
        """Start again from the committed state."""
        self._load(partitions)

    def _load(self, partitions: Collection[TopicPartition]) -> None:
        self._forget(partitions)
        self._parts.inventory.load(self._watch.keep_alive)
        self._followed = self._parts.clock()
        self._parts.known.load([source.partition for source in partitions], self._watch.keep_alive)

    def _forget(self, partitions: Collection[TopicPartition]) -> None:
        self._requests.forget(partitions)
        self._batch.forget(partitions)
        self._committed = {source: offset for source, offset in self._committed.items() if source not in partitions}

    def _round(self) -> None:
        if self._parts.api is not None:
            self._parts.api.check()
        self._take_in(0.0 if self._workers.running else POLL_IDLE_SECONDS)
        self._dispatch()
        self._collect(COLLECT_SECONDS if self._workers.running else 0.0)
        self._watch.health.tell(self._session.trouble(), Need.TOPICS)
        self._follow()
        due = self._parts.clock() - self._last_commit >= self._settings.commit_seconds
        if due or self._batch.bytes >= self._settings.commit_bytes:
            self._commit()

    def _follow(self) -> None:
        """Learn from time to time what other collectors have written about resources."""
        if self._parts.clock() - self._followed >= FOLLOW_SECONDS:
            self._followed = self._parts.clock()
            self._parts.inventory.follow(self._watch.health.beat)
            metrics.RESOURCES.set(len(self._parts.inventory))

    def _take_in(self, seconds: float) -> None:
        if self._requests.deferred.is_full() != self._paused:
            self._paused = not self._paused
            (self._session.pause if self._paused else self._session.resume)()
        for record in self._session.poll(POLL_RECORDS, seconds):
            self._intake.take(record, self._batch)
        self._readmit()
        if self._parts.feed is not None and not self._requests.is_full() and self._session.owned():
            self._batch.forward(self._parts.feed.take())

    def _readmit(self) -> None:
        """Take in requests that have waited, if there is room again."""
        waited = self._requests.readmit()
        places = [(request.source.partition, request.offset) for request in waited]
        try:
            records = self._parts.requests.read_many(places, READ_SECONDS, self._watch.health.beat) if places else {}
        except ServerUnreachable as error:
            self._requests.deferred.back(waited)
            if self._unread.admits():
                log.warning("requests wait for Kafka", error=str(error))
            return
        metrics.REQUESTS.labels("expired").inc(len(waited) - len(records))
        for place in places:
            if place in records:
                self._intake.readmit(records[place], self._batch)

    def _schedule(self) -> None:
        """Add the requests that are due by the clock."""
        topic, owned = self._parts.topics.collection_requests, self._session.owned()
        if not owned:
            return

        def is_known(partition: int, key: bytes) -> bool:
            return self._requests.has(TopicPartition(topic, partition), key) or self._parts.known.has(partition, key)

        standing = RequestView(lambda partition: TopicPartition(topic, partition) in owned, is_known)
        try:
            self._batch.forward(self._parts.schedules.due(datetime.fromtimestamp(self._parts.now(), UTC), standing))
        except ServerUnreachable as error:  # they are due as long as they are not written
            if self._unscheduled.admits():
                log.warning("schedules wait for Kafka", error=str(error))

    def _dispatch(self) -> None:
        room = self._batch.bytes < MEMORY_COMMITS * self._settings.commit_bytes
        while room and self._workers.running < self._settings.concurrency:
            call = self._requests.take()
            if call is None:
                return
            self._workers.submit(call)

    def _work(self, call: PendingCall) -> SeenStep:
        share = self._room.share()
        try:
            step = self._lists.step(call.item.call, call.cursor, share)
            seen = None if step.page is None else self._seen(call, step.page)
        except BaseException:
            share.change(0)
            raise
        return SeenStep(step, seen, share)

    def _seen(self, call: PendingCall, page: Page) -> SeenPage:
        return resources_in(call.item.call, page, self._comparison, self._now_ms())

    def _collect(self, seconds: float) -> None:
        results = self._workers.collect(seconds)[::-1]
        while results:  # none is kept any longer than needed: pages may be large
            self._take_over(*results.pop())
            if self._batch.bytes >= self._settings.commit_bytes:
                self._commit()

    def _take_over(self, call: PendingCall, result: SeenStep | BaseException) -> None:
        if isinstance(result, BaseException) and not isinstance(result, Exception):
            raise result
        if self._requests.is_current(call):
            self._judge.take(call, result, self._batch)
        if isinstance(result, SeenStep):
            result.share.change(0)

    def _now_ms(self) -> int:
        return int(self._parts.now() * 1000)

    def _commit(self) -> None:
        self._last_commit = self._parts.clock()
        self._schedule()
        metrics.WAITING.set(len(self._requests))
        metrics.DEFERRED.set(len(self._requests.deferred))
        self._tell_azure()
        offsets = self._requests.next_offsets()
        if not self._compare_resources():
            return
        batch, self._batch = self._batch, ResultBatch(self._parts.topics)
        outputs = batch.outputs(self._parts.limits.room(self._parts.topics.collection_results))
        if not outputs and offsets == self._committed:
            return
        crash_point("collector.answered")
        result = self._session.commit(outputs, offsets)
        metrics.TRANSACTIONS.labels(result).inc()
        if result is CommitResult.COMMITTED:
            self._committed = offsets
            batch.count()
            crash_point("collector.committed")
        else:
            self._forget(tuple(offsets))
        self._parts.schedules.settle(committed=result is CommitResult.COMMITTED)
        if self._parts.feed is not None:
            self._parts.feed.settle(committed=result is CommitResult.COMMITTED)

    def _compare_resources(self) -> bool:
        """Find out what has become of resources; return False if that must be tried again, because Kafka is away."""
        history, beat = self._parts.history, self._watch.health.beat
        try:
            self._batch.settle(history.write(self._parts.inventory, self._batch.sightings, beat))
        except ServerUnreachable as error:
            if self._uncompared.admits():
                log.warning("what was seen of resources waits for Kafka", error=str(error))
            return False
        return True

    def _tell_azure(self) -> None:
        """Report not ready if nothing can be asked: every call waits because Azure does not answer, or throttles."""
        put_off = self._requests.put_off
        metrics.PUT_OFF.set(put_off)
        is_stuck = put_off and put_off == len(self._requests)
        self._watch.health.tell("all calls wait for Azure; see the log for reasons" if is_stuck else "", Need.OTHERS)
        if self._parts.feed is not None:
            self._watch.health.note("queue", self._parts.feed.trouble)

    def _wind_up(self) -> None:
        """Collect running steps for a short time, and commit them."""
        if self._parts.api is not None:
            self._parts.api.stop()
        deadline = self._parts.clock() + STOP_SECONDS
        while self._workers.running and self._parts.clock() < deadline:
            self._collect(COLLECT_SECONDS)
        self._commit()
