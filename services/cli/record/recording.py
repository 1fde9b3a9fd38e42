"""Ask one source at its times, and write what it answers into an archive.

The archive is the sink's own, so what is promised there holds here: a snapshot is on disk before the source is asked again, and
what a kill leaves behind becomes a file when the next recording into the directory begins. While the disk is full, nothing is
asked. Recordings of several sources may share a directory: each source has a shard of its own.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from zlib import crc32

import pyarrow as pa
import structlog

from libs.common.errors import BlobtideError, Retry, ServerUnreachable
from libs.common.messages.events import SourceState
from libs.common.process.logs import shows_traces, trace
from libs.common.process.service import Stop
from libs.common.rows.types.snapshots import SNAPSHOTS
from libs.common.security.visible import visible_line
from libs.common.settings.recorder import HttpSourceSettings
from services.recorder.asking import FailedPoll, HttpPoller, PollClock, RefusedAnswer, Snapshot
from services.recorder.rows import new_run, snapshot_batch
from services.recorder.schedule import PollSchedule
from services.sinks.frame.contract import Part, Sink

log = structlog.get_logger(__name__)

_SHARDS: Final = 10_000
_TICK_SECONDS: Final = 1.0


@dataclass(slots=True)
class RecordedCounts:
    """What has been recorded: answers, the records made of them and their bytes; and what has not."""

    answers: int = 0
    records: int = 0
    bytes: int = 0
    refused: int = 0
    failed: int = 0

    def __str__(self) -> str:
        """Return them in words."""
        lost = "".join(
            f", {count:,} {what}"
            for count, what in ((self.failed, "requests failed"), (self.refused, "answers refused"))
            if count
        )
        return f"{self.records:,} snapshots, {self.bytes / 1e6:,.1f} MB{lost}"


class Recording:
    """Records one source; `sink` is opened and closed by the caller."""

    def __init__(self, source: HttpSourceSettings, sink: Sink, stop: Stop) -> None:
        """Raises ConfigError as `HttpPoller` does."""
        self._source = source
        self._sink = sink
        self._stop = stop
        self._poller = HttpPoller(source, PollClock())
        self._schedule = PollSchedule(source.interval_seconds, 0.0, random.random)
        self._run = ""
        self.counts = RecordedCounts()

    def run(self, count: int | None, show: Callable[[RecordedCounts], None]) -> None:
        """Record until `count` answers are recorded, or a stop is requested; `show` is called every second at least.

        Raises:
            ServerUnreachable: the source does not answer the first request.
            BlobtideError: no record can be made of its first answer, or the last one could not be written before the stop.
        """
        self._schedule.begin(time.monotonic(), None)
        try:
            while not self._stop.is_set() and (count is None or self.counts.answers < count):
                if (wait := self._schedule.due - time.monotonic()) > 0:
                    self._stop.wait(min(wait, _TICK_SECONDS))
                else:
                    self._ask()
                self._sink.tick()
                show(self.counts)
        finally:
            self._poller.close()

    def _ask(self) -> None:
        outcome = self._poller.ask(None)
        now = time.monotonic()
        match outcome:
            case Snapshot():
                self._record(outcome)
                self._schedule.succeeded(now)
            case RefusedAnswer():
                self._refuse(outcome)
                self._schedule.failed(now)
            case FailedPoll():
                self._fail(outcome, now)

    def _record(self, snapshot: Snapshot) -> None:
        facts, counts = snapshot.facts, self.counts
        self._run = self._run or new_run(facts)
        asked_at = datetime.fromtimestamp(facts.asked_ms / 1_000, UTC)
        state = SourceState(self._source.name, self._run, counts.answers, asked_at)
        batch = snapshot_batch(self._source, snapshot, state, range(len(snapshot.records)))
        if batch.num_rows:
            self._write(Part(_shard_of(self._source.name), SNAPSHOTS, pa.Table.from_batches([batch]), (batch.num_rows,)))
        counts.answers += 1
        counts.records += batch.num_rows
        counts.bytes += facts.size
        log.debug("recorded", status=facts.status, bytes=facts.size, microseconds=facts.took_us, records=batch.num_rows)
        if shows_traces(log):
            for record in snapshot.records:
                trace(log, "data", record=visible_line(record.decode()))

    def _write(self, part: Part) -> None:
        while True:
            try:
                self._sink.write([part])
            except Retry as error:
                if isinstance(error.__cause__, BlockingIOError):
                    raise BlobtideError(
                        f"another process records {self._source.name} there: give another --name or --to"
                    ) from error
                log.warning("cannot write; the source is not asked until it works", reason=str(error))
                if self._stop.wait(error.after):
                    raise BlobtideError(f"the last answer could not be written: {error}") from error
            else:
                return

    def _refuse(self, refused: RefusedAnswer) -> None:
        if not self.counts.answers:
            raise BlobtideError(f"{self._source.address}: {refused.reason}")
        self.counts.refused += 1
        log.warning("an answer was not recorded", code=refused.code.value, reason=refused.reason)

    def _fail(self, failed: FailedPoll, now: float) -> None:
        if not self.counts.answers:
            raise ServerUnreachable(failed.reason)
        self.counts.failed += 1
        seconds = self._schedule.failed(now, failed.after)
        log.warning("the source does not answer", reason=failed.reason, again_in_seconds=round(seconds, 1))


def _shard_of(name: str) -> int:
    """Return the shard of a source: the same for ever, and hardly ever that of another source."""
    return crc32(name.encode()) % _SHARDS
