"""The recorder's main loop: asks the sources that are due, and commits what they answer.

Kafka is spoken to in one thread, sources in others. An answer is held until it is committed, and its source is not asked again
before. If a transaction is aborted, or its outcome is unknown, the state topic is read to its end: it says whether the answer
has been recorded. When partitions are revoked and come back, it says whether another recorder has recorded a later answer of
the source; if so, ours is dropped.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from libs.common.errors import Retry, ServerUnreachable
from libs.common.kafka.records import CommitResult, Listener, MakeTable, Outbound, Session, TopicPartition
from libs.common.messages.blobs import partition_of
from libs.common.messages.events import SourceState
from libs.common.process.crash import crash_point
from libs.common.process.health import NO_PARTITIONS, Health
from libs.common.process.logs import shows_traces, trace
from libs.common.process.service import Stop
from libs.common.process.watch import Watch
from libs.common.security.visible import visible_line
from libs.common.settings.kafka import TopicSettings
from libs.common.work.workers import Workers
from services.recorder import metrics
from services.recorder.asking import (
    AnswerFacts,
    FailedPoll,
    HeldAnswer,
    HttpPoller,
    PollClock,
    PollOutcome,
    RefusedAnswer,
    Snapshot,
    UnchangedAnswer,
)
from services.recorder.rows import RecordedAnswer, SnapshotWriter
from services.recorder.schedule import PollSchedule
from services.recorder.states import SourceStates
from services.recorder.troubles import SourceTroubles

log = structlog.get_logger(__name__)

_WAIT_SECONDS: Final = 0.1
_POLL_RECORDS: Final = 100
_CATCH_UP_SECONDS: Final = 10.0
_DRAIN_SECONDS: Final = 2.0  # for answers on their way when the process is told to stop
_MOST_BYTES: Final = 16_777_216  # of records in a transaction
_TRACED: Final = 10_000  # characters of a record in the log


@dataclass(frozen=True, slots=True)
class RecorderParts:
    """The recorder's components, not yet connected. `pollers` are by the name of their source."""

    make_session: Callable[[Listener], Session]
    make_table: MakeTable
    partitions: Callable[[], int]  # of the state topic
    pollers: Mapping[str, HttpPoller]
    writer: SnapshotWriter
    threads: int
    draw: Callable[[], float] = random.random
    clock: PollClock = field(default_factory=PollClock)


@dataclass(frozen=True, slots=True)
class PollTask:
    """A request to make. Its answer is of use as long as the state of the source is the `last` one."""

    source: str
    last: SourceState | None


@dataclass(slots=True)
class _Owned:
    """A source of ours: when it is due, the answer that is not known to be committed, and what was tried to write of it.

    The answer was asked for when the state of the source was `last`.
    """

    schedule: PollSchedule
    held: HeldAnswer | None = None
    last: SourceState | None = None
    tried: RecordedAnswer | None = None


@dataclass(slots=True)
class _Work:
    """The sources that this process owns, and those that are being asked, which may not be ours any more."""

    owned: dict[str, _Owned] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    kept: dict[str, _Owned] = field(default_factory=dict)  # with answers from before partitions were revoked


class Recorder:
    """The service. Implements `libs.common.process.service.Service` and `libs.common.kafka.records.Listener`."""

    def __init__(self, topics: TopicSettings, parts: RecorderParts) -> None:
        self._state_topic = topics.recorder_state
        self._parts = parts
        self._clock = parts.clock
        self._states = SourceStates(parts.pollers)
        self._session = parts.make_session(self)
        self._table = parts.make_table(self._states.apply)
        self._workers: Workers[PollTask, PollOutcome] = Workers(parts.threads, self._ask)
        self._most_asked = 2 * parts.threads  # keeps the threads busy while this one commits
        self._work = _Work()
        self._troubles = SourceTroubles()
        self._is_stale = True  # memory may lag behind the state topic
        self._is_waiting = False  # for Kafka; already logged
        self._watch = Watch(Stop(), Health())  # replaced by `run`

    def run(self, stop: Stop, health: Health) -> None:
        """Work until `stop` is set; then write the answers that are there or come within two seconds."""
        if not self._parts.pollers:
            log.warning("nothing to record: recorder.sources is empty")
        self._watch = Watch(stop, health)
        health.not_ready(NO_PARTITIONS)
        try:
            self._session.open()
            self._session.pause()  # partitions only mean ownership; records are read through the table
            self._workers.start()
            while not stop.is_set():
                self.step()
                health.beat()
            self._drain()
        finally:
            self._close()

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Take over partitions: before asking any source, read what others have recorded."""
        log.info("partitions assigned", count=len(partitions))
        self._watch.health.ready()
        self._is_stale = True

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Stop; ownership is determined anew. What is not committed is kept until then."""
        log.info("partitions revoked", count=len(partitions))
        self._watch.health.not_ready(NO_PARTITIONS)
        work = self._work
        work.kept |= {name: source for name, source in work.owned.items() if source.held is not None}
        work.owned.clear()
        self._troubles.own(set(), self._watch.health)
        self._is_stale = True

    def rewound(self, partitions: Collection[TopicPartition]) -> None:
        """Find out what of the uncommitted work has been recorded; the rest is committed again."""
        del partitions
        self._is_stale = True

    def step(self) -> None:
        """Run one iteration: heartbeat, start due requests, collect answers, commit them."""
        self._session.poll(_POLL_RECORDS, self._pause())
        if not self._session.owned() or (self._is_stale and not self._reload()):
            return
        self._start()
        self._collect()
        self._commit()

    def _pause(self) -> float:
        """Return how long nothing has to be done."""
        work = self._work
        longest = _WAIT_SECONDS / 2 if work.asked else _WAIT_SECONDS
        if len(work.asked) >= self._most_asked:
            return longest
        due = [source.schedule.due for name, source in work.owned.items() if source.held is None and name not in work.asked]
        return max(0.0, min(longest, min(due, default=math.inf) - self._clock.monotonic()))

    def _reload(self) -> bool:
        """Read the state topic, and see what is owned; False if Kafka does not respond, or partitions changed meanwhile."""
        self._is_stale = False
        self._states.clear()
        try:
            count = self._parts.partitions()
            self._table.open()
            self._table.catch_up(_CATCH_UP_SECONDS, self._keep_alive)
        except (ServerUnreachable, Retry) as error:
            if not self._is_waiting and not self._watch.stop.is_set():
                log.warning("cannot read the state topic to its end; waiting", error=str(error))
            self._is_stale = self._is_waiting = True
            return False
        finally:
            self._table.close()
        self._is_waiting = False
        if not self._is_stale:
            self._own(count)
        return not self._is_stale

    def _keep_alive(self) -> None:
        self._watch.keep_alive()
        self._session.poll(_POLL_RECORDS, 0.0)

    def _own(self, partitions: int) -> None:
        """Take the sources whose names belong to our partitions, and drop answers that turn out to be recorded."""
        owned, work = self._session.owned(), self._work
        mine = {
            name
            for name in self._parts.pollers
            if TopicPartition(self._state_topic, partition_of(name.encode(), partitions)) in owned
        }
        for name in work.owned.keys() - mine:
            del work.owned[name]
        for name in sorted(mine - work.owned.keys()):
            work.owned[name] = self._taken(name)
        for name in work.kept:
            metrics.DROPPED.labels(name).inc()
        work.kept.clear()
        for name, source in work.owned.items():
            if source.tried is not None and source.tried.state == self._states.get(name):
                self._settle(name, source)
            source.tried = None
        self._troubles.own(mine, self._watch.health)
        metrics.SOURCES.set(len(mine))

    def _taken(self, name: str) -> _Owned:
        """Return a source that is ours now, with its answer from before if nobody has recorded another one since."""
        taken, state = _Owned(self._schedule(name)), self._states.get(name)
        kept = self._work.kept.get(name)
        if kept is not None and (state == kept.last or (kept.tried is not None and state == kept.tried.state)):
            taken.held, taken.last, taken.tried = kept.held, kept.last, kept.tried
            del self._work.kept[name]
        return taken

    def _schedule(self, name: str) -> PollSchedule:
        source, state = self._parts.pollers[name].source, self._states.get(name)
        schedule = PollSchedule(source.interval_seconds, source.jitter_seconds, self._parts.draw)
        since_last = None if state is None else self._clock.now_ms() / 1_000 - state.asked_at.timestamp()
        schedule.begin(self._clock.monotonic(), since_last)
        return schedule

    def _start(self) -> None:
        """Have due sources asked, the longest due first, but no more than memory has room for their answers."""
        now, work = self._clock.monotonic(), self._work
        if self._held():
            return
        due = sorted((source.schedule.due, name) for name, source in work.owned.items() if name not in work.asked)
        for moment, name in due[: max(0, self._most_asked - len(work.asked))]:
            if moment <= now:
                work.asked.add(name)
                self._workers.submit(PollTask(name, self._states.get(name)))

    def _ask(self, task: PollTask) -> PollOutcome:
        return self._parts.pollers[task.source].ask(task.last)

    def _collect(self, seconds: float = 0.0) -> None:
        """Take over answers that have come, waiting up to `seconds` for the first."""
        for task, outcome in self._workers.collect(seconds):
            self._work.asked.discard(task.source)
            if isinstance(outcome, BaseException):
                raise outcome
            source = self._work.owned.get(task.source)
            if source is None or self._states.get(task.source) != task.last:
                metrics.DROPPED.labels(task.source).inc()
            else:
                source.last = task.last
                self._receive(task.source, source, outcome)

    def _receive(self, name: str, source: _Owned, outcome: PollOutcome) -> None:
        log.debug("asked", source=name, outcome=type(outcome).__name__)
        match outcome:
            case FailedPoll(reason, after):
                metrics.POLLS.labels(name, "failed").inc()
                self._troubles.ill(name, reason, self._watch.health)
                source.schedule.failed(self._clock.monotonic(), after)
            case Snapshot() | RefusedAnswer():
                metrics.SECONDS.labels(name).observe(outcome.facts.took_us / 1_000_000)
                _trace(name, outcome)
                source.held = outcome
            case UnchangedAnswer(facts):
                metrics.SECONDS.labels(name).observe(facts.took_us / 1_000_000)
                metrics.POLLS.labels(name, "unchanged").inc()
                self._succeeded(name, source, facts)

    def _commit(self) -> None:
        """Write held answers in one transaction. After a failure, the state topic says what became of them."""
        outputs: list[Outbound] = []
        size = 0
        for name, source in self._work.owned.items():
            if source.held is not None and size < _MOST_BYTES:
                settings = self._parts.pollers[name].source
                source.tried = self._parts.writer.written(settings, source.held, self._states.get(name))
                outputs += source.tried.records
                size += source.tried.size
        if not outputs:
            return
        result = self._session.commit(outputs, {})
        metrics.COMMITS.labels(result).inc()
        if result is CommitResult.ABORTED:
            self._is_stale = True
            return
        crash_point("recorder.committed")
        for name, source in self._work.owned.items():
            if source.tried is not None:
                self._states.put(source.tried.state)
                self._settle(name, source)

    def _settle(self, name: str, source: _Owned) -> None:
        """Count the held answer, which is committed, and plan the next request."""
        held, tried = source.held, source.tried
        source.held = source.tried = None
        if isinstance(held, RefusedAnswer):
            metrics.POLLS.labels(name, "refused").inc()
            self._troubles.ill(name, held.reason, self._watch.health)
            source.schedule.failed(self._clock.monotonic())
        elif held is not None and tried is not None:
            metrics.POLLS.labels(name, "recorded").inc()
            metrics.ROWS.labels(name).inc(tried.rows)
            metrics.BYTES.labels(name).inc(held.facts.size)
            self._succeeded(name, source, held.facts)

    def _succeeded(self, name: str, source: _Owned, facts: AnswerFacts) -> None:
        metrics.LAST.labels(name).set(facts.asked_ms / 1_000)
        metrics.MISSED.labels(name).inc(source.schedule.succeeded(self._clock.monotonic()))
        self._troubles.well(name, self._watch.health)

    def _drain(self) -> None:
        """Write what has been answered, and what is answered within a short time."""
        until = self._clock.monotonic() + _DRAIN_SECONDS
        while self._work.asked and (left := until - self._clock.monotonic()) > 0:
            self._collect(left)
        while not self._is_stale and self._held():
            self._commit()
        if held := self._held():
            log.warning("stopped before answers were written; their sources are asked again", sources=held)

    def _held(self) -> list[str]:
        return [name for name, source in self._work.owned.items() if source.held is not None]

    def _close(self) -> None:
        self._workers.stop()
        self._session.close()
        for poller in self._parts.pollers.values():
            poller.close()


def _trace(name: str, outcome: HeldAnswer) -> None:
    if shows_traces(log):
        data = outcome.records if isinstance(outcome, Snapshot) else (outcome.data,)
        for record in data:
            trace(log, "data", source=name, record=visible_line(record[:_TRACED].decode(errors="replace")))
