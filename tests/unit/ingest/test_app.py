"""The main loop: what is committed together, what is dropped, and what stops nobody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from threading import Event as Signal
from threading import Lock
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr, ValidationError
from structlog.testing import capture_logs

from libs.common.blobs import BlobId
from libs.common.errors import ConfigError, DeadLetterLimit
from libs.common.events import (
    BlobCheckpoint,
    BlobClosed,
    BlobCompletion,
    BlobObserved,
    BlobReopened,
    BlobsListed,
    CheckpointStatus,
    Event,
    Stream,
    decode_event,
    encode_event,
)
from libs.common.kafka.records import CommitResult, Inbound, Listener, NextOffsets, Outbound, TopicPartition
from libs.common.segments import Segment
from libs.common.service import NO_PARTITIONS, STALE_AFTER_SECONDS, Health, Stop
from libs.common.settings import Settings
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.services import IngestSettings
from libs.common.settings.storage import Environment, Source, StorageAccount, Subscription
from libs.common.storage.api import BlobChanged, Container, StorageRefused, StorageUnavailable
from services.ingest import backlog, intake
from services.ingest.app import FEWEST_REFUSALS, MOST_CHANGES, SMALLEST_GRANT, Ingest, Parts
from services.ingest.checkpoints import Checkpoints
from services.ingest.main import build
from services.ingest.plan import Limits
from services.ingest.reader import Reader
from services.ingest.sources import Sources
from services.ingest.work import Step, Task
from tests.blob_container import EPOCH, FakeContainer
from tests.blob_reading import assert_tiles
from tests.metric_values import since_now, value

TOPICS = TopicSettings()
PARTITION = TopicPartition(TOPICS.blobs, 0)
LIMITS = Limits(segment=100_000, line=100_000, record=1_000_000)


class FakeSession:
    """Delivers scripted records of one partition; aborts on request; stops the service when all of them are committed."""

    def __init__(self, site: Site, listener: Listener) -> None:
        self._site = site
        self._listener = listener
        self._position: int | None = None
        self._idle = 0

    def open(self) -> None:
        """Nothing to open."""

    def poll(self, max_records: int, seconds: float) -> list[Inbound]:
        """Return what has not been delivered since the committed offset."""
        del seconds
        if self._position is None:
            self._position = self._site.committed
            self._listener.assigned([PARTITION])
        batch = self._site.records[self._position : self._position + min(max_records, 2)]
        self._position += len(batch)
        self._idle = 0 if batch else self._idle + 1
        if self._site.done() or self._idle > 20_000:
            self._site.stop.set()
        return batch

    def commit(self, outputs: list[Outbound], offsets: NextOffsets) -> CommitResult:
        """Keep or throw away what is committed."""
        if self._site.aborts or sum(len(o.value or b"") for o in outputs) > self._site.most_bytes:
            self._site.aborts = max(0, self._site.aborts - 1)
            self._site.aborted += 1
            self._position = self._site.committed
            self._listener.rewound([PARTITION])
            return CommitResult.ABORTED
        assert offsets[PARTITION] >= self._site.committed
        self._site.committed = offsets[PARTITION]
        self._site.outputs += outputs
        self._site.transactions.append(outputs)
        return CommitResult.COMMITTED

    def owned(self) -> frozenset[TopicPartition]:
        """Return the one partition."""
        return frozenset({PARTITION})

    def pause(self) -> None:
        """Nothing to pause."""

    def resume(self) -> None:
        """Nothing to resume."""

    def close(self) -> None:
        """Nothing to close."""


@dataclass
class Site:
    """Two accounts with a container each, announcements, and what was committed."""

    containers: dict[str, FakeContainer] = field(default_factory=lambda: {"s.e": FakeContainer(), "s.f": FakeContainer()})
    records: list[Inbound] = field(default_factory=list)
    outputs: list[Outbound] = field(default_factory=list)
    transactions: list[list[Outbound]] = field(default_factory=list)
    committed: int = 0
    aborts: int = 0
    aborted: int = 0
    most_bytes: int = 1_000_000_000  # larger transactions do not end in time
    read_bytes: int = 4_194_304
    commit_bytes: int = 16_777_216
    concurrency: int = 2
    clock: Callable[[], float] = time.monotonic
    hours: float = 0.0  # since the announcements
    stop: Stop = field(default_factory=Stop)
    health: Health = field(default_factory=Health)
    session: type[FakeSession] = FakeSession
    done: Callable[[], bool] = lambda: False

    def put(self, name: str, data: bytes, account: str = "s.e", **more: Any) -> None:
        """Write a blob and announce it."""
        container = self.containers[account]
        container.put(name, data)
        blob = container.blobs[name]
        event = BlobObserved(
            str(BlobId(account, "logs", name)), "s", account[2:], Stream.FLOW_LOGS, blob.etag, len(data), "BlockBlob",
            EPOCH, blob.created, EPOCH,
        )  # fmt: skip
        self.announce(replace(event, **more))

    def announce(self, event: Event, key: bytes | None = None) -> None:
        """Append an event to the announcements."""
        key = key or getattr(event, "blob", "x").encode()
        self.raw(encode_event(event), key)

    def raw(self, value: bytes, key: bytes) -> None:
        """Append a message."""
        self.records.append(Inbound(TOPICS.blobs, 0, len(self.records), 0, key, value, ()))

    def run(self, reader: Reader | None = None, done: Callable[[], bool] | None = None, commit_seconds: float = 0.001) -> None:
        """Run ingest until everything announced is committed, or `done`."""
        self.stop = Stop()
        self.done = done or (lambda: self.committed == len(self.records))
        storage = StorageAccount(connection_string=SecretStr("x"))
        environment = Environment(storage=storage, sources=(Source(container="logs"),))
        subscriptions = {"s": Subscription(environments={"e": environment, "f": environment})}
        parts = Parts(
            settings=IngestSettings(
                commit_seconds=commit_seconds,
                concurrency=self.concurrency,
                read_bytes=self.read_bytes,
                commit_bytes=self.commit_bytes,
            ),
            topics=TOPICS,
            sources=Sources(subscriptions, lambda _account, alias, _container: self.containers[alias]),
            reader=reader or Reader(LIMITS),
            checkpoints=Checkpoints(lambda _partitions, _between: iter(self.of(TOPICS.checkpoints))),
            check=lambda: None,
            clock=self.clock,
            now=lambda: self.hours * 3600,
        )
        Ingest(parts, lambda listener: self.session(self, listener)).run(self.stop, self.health)

    def of(self, topic: str) -> list[Inbound]:
        """Return what was committed to a topic."""
        found = [o for o in self.outputs if o.topic == topic]
        return [Inbound(topic, 0, n, 0, o.key, o.value, o.headers) for n, o in enumerate(found)]

    def segments(self, name: str, account: str = "s.e") -> list[Segment]:
        """Return the segments of a blob."""
        found = [Segment.from_message(r.headers, r.value or b"") for r in self.of(TOPICS.raw_flow_logs)]
        return [s for s in found if s.blob == str(BlobId(account, "logs", name))]

    def events(self, topic: str) -> list[Event]:
        """Return the events committed to a topic."""
        return [decode_event(r.value or b"") for r in self.of(topic)]


def lines(count: int) -> bytes:
    """Return `count` lines."""
    return b"".join(b"line %d\n" % n for n in range(count))


def test_segments_checkpoint_completion_and_offset_are_one_transaction() -> None:
    """What belongs to one step is committed together, and steps of one blob leave one checkpoint and one completion."""
    site = Site()
    site.put("a", lines(60_000))
    site.announce(BlobsListed("s.e", "logs", "", "s", "e", EPOCH, EPOCH, 1, 1), b"s.e/logs/")
    site.run()
    assert_tiles(site.segments("a"))
    assert b"".join(s.data for s in site.segments("a")) == lines(60_000)
    assert site.committed == 2
    for outputs in site.transactions:
        topics = [o.topic for o in outputs]
        if TOPICS.raw_flow_logs in topics:
            assert (topics.count(TOPICS.checkpoints), topics.count(TOPICS.completions)) == (1, 1)
    completions = [e for e in site.events(TOPICS.completions) if isinstance(e, BlobCompletion)]
    assert sum(c.records for c in completions) == 60_000


def test_aborted_work_comes_again_without_a_gap_or_a_duplicate() -> None:
    """After an abort everything uncommitted is forgotten, also results that are still being read; transactions are counted."""
    committed, aborted = (since_now("blobtide_ingest_transactions_total", result=how) for how in ("committed", "aborted"))
    site = Site(aborts=3)
    for number in range(6):
        site.put(f"b{number}", lines(30_000))
    site.run()
    for number in range(6):
        assert_tiles(site.segments(f"b{number}"))
        assert b"".join(s.data for s in site.segments(f"b{number}")) == lines(30_000)
    assert (committed(), aborted()) == (len(site.transactions), 3)


def test_transactions_that_are_too_large_for_the_way_to_kafka_become_smaller() -> None:
    """Where a full transaction never ends in time, work goes on in smaller ones instead of being repeated for ever."""
    site = Site(most_bytes=3_000_000)
    for number in range(12):
        site.put(f"b{number}", lines(100_000))
    site.run(commit_seconds=0.05)
    assert site.committed == 12
    assert site.aborted <= 12
    for number in range(12):
        assert b"".join(s.data for s in site.segments(f"b{number}")) == lines(100_000)


def test_a_partition_that_cannot_be_placed_holds_up_no_other() -> None:
    """After an abort only what the session has placed again is committed; of the other one neither bytes nor an offset."""
    other = TopicPartition(TOPICS.blobs, 1)
    rounds = 0

    class Parted(FakeSession):
        """Delivers one record of another partition, whose leader is then away, so that no offset of it may be committed."""

        def poll(self, max_records: int, seconds: float) -> list[Inbound]:
            if self._position is None:
                self._listener.assigned([other])
                lost = msgspec.structs.replace(self._site.records.pop(), partition=1, offset=0)
                return [lost, *super().poll(max_records, seconds)]
            return super().poll(max_records, seconds)

        def commit(self, outputs: list[Outbound], offsets: NextOffsets) -> CommitResult:
            self._site.aborts = int(other in offsets)
            return super().commit(outputs, offsets)

    def done() -> bool:
        nonlocal rounds
        rounds += 1
        return site.committed == len(site.records) or rounds > 2_000

    site = Site(session=Parted)
    for number in range(6):
        site.put(f"b{number}", lines(3))
    site.put("other", lines(3))
    site.run(done=done)
    assert (site.committed, site.aborted) == (6, 1)
    assert all(len(site.segments(f"b{number}")) == 1 for number in range(6))
    assert site.segments("other") == []


def test_dead_letters_fill_a_transaction_as_segments_do() -> None:
    """What cannot be read takes as much memory, and as long to write, whether it came from a blob or is a message."""
    now = 0.0
    bad = b'{"records":[{' + b"x" * 400_000 + b'},{"category":"c"}]}'
    site = Site(commit_bytes=1_000_000, clock=lambda: now)
    for number in range(8):
        site.put(f"bad{number}", bad)
    for _ in range(8):
        site.raw(b"x" * 400_000, b"k")
    rounds = 0

    def done() -> bool:
        nonlocal rounds
        rounds += 1
        return site.committed == len(site.records) or rounds > 2_000

    site.run(done=done, commit_seconds=5.0)
    sizes = [sum(len(o.value or b"") for o in outputs if o.topic == TOPICS.errors) for outputs in site.transactions]
    assert sum(sizes) > 15 * 400_000
    assert max(sizes) < 1_000_000 + 6 * 400_100  # one round may add what four readers and a poll of two bring


def test_a_restart_goes_on_from_the_checkpoints() -> None:
    """Announcements that come again bring nothing, growth brings what is new, and the close is told once."""
    site = Site()
    site.put("a", lines(10))
    site.run()
    site.committed = 0
    site.put("a", lines(20))
    blob = site.containers["s.e"].blobs["a"]
    site.announce(BlobClosed(str(BlobId("s.e", "logs", "a")), blob.etag, len(blob.data), EPOCH, EPOCH + timedelta(1), 60))
    site.run()
    site.committed = 0
    site.run()
    assert b"".join(s.data for s in site.segments("a")) == lines(20)
    statuses = [e.status for e in site.events(TOPICS.completions) if isinstance(e, BlobCompletion)]
    assert statuses.count(CheckpointStatus.COMPLETE) == 1


def test_a_long_load_of_checkpoints_is_no_standstill() -> None:
    """The heartbeat goes on, so that a large topic, or one that waits for a transaction, does not get the process killed."""
    now = [0.0]
    health = Health(clock=lambda: now[0])

    def slow(_: Collection[int], between: Callable[[], None]) -> Iterator[Inbound]:
        for number in range(10):
            now[0] += STALE_AFTER_SECONDS - 1
            between()
            yield Inbound(TOPICS.checkpoints, 0, number, 0, b"%d" % number, b"", ())

    assert Checkpoints(slow).load([0], health.beat) == 10
    assert health.alive()


def test_an_account_that_does_not_answer_holds_its_offsets_but_not_the_others() -> None:
    """Blobs of other accounts go on behind it; its announcement stays uncommitted and comes again."""
    site = Site()

    def away(_: str) -> None:
        raise StorageUnavailable("away", after=0.0)

    site.containers["s.e"].before = away
    site.put("dead", lines(3))
    for number in range(20):
        site.put(f"live{number}", lines(3), account="s.f")
    site.run(done=lambda: len(site.of(TOPICS.raw_flow_logs)) == 20)
    assert site.committed == 0
    site.containers["s.e"].before = lambda _: None
    site.run()
    assert len(site.of(TOPICS.raw_flow_logs)) == 21
    assert site.committed == len(site.records)


@pytest.mark.parametrize("error", [StorageUnavailable("away"), StorageRefused("denied")])
def test_ingest_is_not_ready_while_nothing_can_be_read(error: StorageUnavailable) -> None:
    """Where every account with announced blobs is away or refuses them, readiness says which, until there is something."""
    site = Site()

    def fail(_: str) -> None:
        raise error

    site.containers["s.e"].before = fail
    for number in range(4):
        site.put(f"b{number}", lines(3))
    failures = since_now("blobtide_ingest_storage_failures_total")
    starved = "waiting for storage: s.e; the log says why"
    site.run(done=lambda: site.health.why_not_ready() == starved)
    assert site.health.why_not_ready() == starved
    assert failures() >= 3
    site.containers["s.e"].before = lambda _: None
    site.run()
    assert site.health.why_not_ready() is None


def read_beside_hanging(site: Site, dead: int) -> int:
    """Return how many of 10 small blobs are committed while an account with `dead` large ones sends no answer."""
    answers, rounds, found = Signal(), 0, 0

    def done() -> bool:
        nonlocal rounds, found
        rounds, found = rounds + 1, len(site.of(TOPICS.raw_flow_logs))
        if found == 10 or rounds > 400:
            answers.set()
        return answers.is_set()

    def hang(_: str) -> None:
        answers.wait(60.0)

    site.containers["s.e"].before = hang
    for number in range(dead):
        site.put(f"dead{number}", lines(3), size=4_000_000)
    for number in range(10):
        site.put(f"live{number}", lines(3), account="s.f")
    site.run(done=done)
    return found


@pytest.mark.parametrize(("commit_bytes", "dead"), [(16_777_216, 20), (1_000_000, 1)])
def test_an_account_that_hangs_leaves_memory_to_the_others(commit_bytes: int, dead: int) -> None:
    """However large its blobs are, and however small the memory, others are read and committed before it answers."""
    assert read_beside_hanging(Site(concurrency=8, commit_bytes=commit_bytes), dead) == 10


def test_an_account_that_did_not_answer_is_tried_with_few_bytes() -> None:
    """The memory that is reserved for it while it may hang is small; once it answers it gets its share again."""
    asked: list[int] = []

    class Watched(Reader):
        def step(self, container: Container, task: Task) -> Step:
            asked.append(task.allowance)
            if len(asked) == 1:
                raise StorageUnavailable("away", after=0.0)
            return super().step(container, task)

    site, now = Site(), [0.0]
    site.clock = lambda: now[0]

    def done() -> bool:
        now[0] += 0.1
        return site.committed == len(site.records)

    site.put("a", lines(30_000))
    site.run(Watched(LIMITS), done)
    assert asked == [len(lines(30_000)), SMALLEST_GRANT, len(lines(30_000)) - site.segments("a")[0].end]


def test_messages_that_are_no_announcements_are_dead_lettered_with_their_bytes() -> None:
    """Bytes that are no event, and keys that are not the blob's, end in the errors, and the rest goes on."""
    site = Site()
    site.raw(b"garbage", b"k")
    site.put("a", lines(1))
    site.records[-1] = msgspec.structs.replace(site.records[-1], key=b"another")
    site.put("good", lines(1))
    site.run()
    errors = site.of(TOPICS.errors)
    assert [dict(e.headers)["code"] for e in errors] == [b"bad_message"] * 2
    assert [e.value for e in errors] == [r.value for r in site.records[:2]]
    assert [dict(e.headers)["source-offset"] for e in errors] == [b"0", b"1"]
    assert len(site.segments("good")) == 1


def test_announcements_of_containers_that_are_not_configured_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """No message chooses a host. However many there are, the environments that are configured go on; the log says it once."""
    monkeypatch.setattr(intake, "MOST_REFUSED_IN_A_ROW", 5)
    labels = {"reason": "not_configured"}
    before = REGISTRY.get_sample_value("blobtide_ingest_skipped_total", labels) or 0.0
    site = Site(clock=lambda: 0.0)
    for _ in range(10):
        site.put("a", lines(1), blob="evil.host/logs/a")
        site.put("a", lines(1), blob="s.e/other/a")
    site.put("good", lines(1))
    with capture_logs() as told:
        site.run(done=lambda: "read" in site.containers["s.e"].requests)
    assert site.of(TOPICS.errors) == []
    assert site.containers["s.e"].requests.count("read") == 1
    assert REGISTRY.get_sample_value("blobtide_ingest_skipped_total", labels) == before + 20
    assert [line["container"] for line in told if "not read" in line["event"]] == ["evil.host/logs", "s.e/other"]


def test_many_refused_messages_in_a_row_stop_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another topic than that of the announcements is not drained into the errors."""
    monkeypatch.setattr(intake, "MOST_REFUSED_IN_A_ROW", 5)
    site = Site()
    for _ in range(10):
        site.raw(b"garbage", b"k")
    with pytest.raises(DeadLetterLimit, match="in a row"):
        site.run()


def test_what_reads_nothing_does_not_hide_refused_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listings and blobs that are not configured between them are no sign that all is well."""
    monkeypatch.setattr(intake, "MOST_REFUSED_IN_A_ROW", 5)
    site = Site()
    for _ in range(10):
        site.raw(b"garbage", b"k")
        site.announce(BlobsListed("s.e", "logs", "", "s", "e", EPOCH, EPOCH, 1, 1), b"s.e/logs/")
        site.put("a", lines(1), blob="s.missing/logs/a")
    with pytest.raises(DeadLetterLimit, match="in a row"):
        site.run()


def test_a_blob_that_always_changes_while_it_is_read_waits_longer_and_longer() -> None:
    """After a few looks it is left alone for a while, and the other blobs are read."""
    site = Site()
    rounds, looks = 0, 0

    def change(request: str) -> None:
        nonlocal looks
        if request == "read":
            looks += 1
            raise BlobChanged("412")

    def done() -> bool:
        nonlocal rounds
        rounds += 1
        return rounds > 3_000

    site.containers["s.e"].before = change
    site.put("restless", lines(1))
    site.put("quiet", lines(1), account="s.f")
    site.run(done=done)
    assert looks == MOST_CHANGES + 1
    assert len(site.segments("quiet", "s.f")) == 1


def test_a_blob_that_storage_keeps_refusing_is_given_up_before_its_announcement_expires() -> None:
    """Only when the announcement is old, also after restarts, and not at the first refusal; what was read is told."""
    site = Site(hours=167.0)
    site.put("a", lines(3))
    site.run()
    (before,) = site.segments("a")
    site.put("a", lines(5))
    seconds, refusals = 0.0, 0

    def refuse(_: str) -> None:
        nonlocal refusals
        refusals += 1
        raise StorageRefused("403")

    def done() -> bool:
        nonlocal seconds
        seconds += 60.0
        return site.committed == len(site.records) or refusals > 3 * FEWEST_REFUSALS

    site.clock = lambda: seconds
    site.containers["s.e"].before = refuse
    site.run(done=done)
    assert (site.of(TOPICS.errors), site.committed) == ([], 1)
    site.hours, refusals = 169.0, 0
    site.run(done=done)
    (error,) = site.of(TOPICS.errors)
    headers = dict(error.headers)
    assert (headers["code"], headers["blob"], headers["generation"]) == (
        b"incomplete_blob",
        b"s.e/logs/a",
        before.generation.encode(),
    )
    assert headers["record-offset"] == str(before.end).encode()
    assert (site.committed, refusals) == (2, FEWEST_REFUSALS)


def test_what_needs_more_than_a_steps_share_is_read_one_at_a_time() -> None:
    """Long lines of many blobs are granted what they need, one blob after the other."""
    share, wide, most = 65_536, 0, 0
    lock = Lock()

    class Watched(Reader):
        def step(self, container: Container, task: Task) -> Step:
            nonlocal wide, most
            with lock:
                wide += task.allowance > share
                most = max(most, wide)
            step = super().step(container, task)
            with lock:
                wide -= task.allowance > share
            return step

    site = Site(read_bytes=share)
    for number in range(6):
        site.put(f"b{number}", b"x" * 90_000 + b"\n")
    site.run(Watched(LIMITS))
    assert most == 1
    for number in range(6):
        assert [len(s.data) for s in site.segments(f"b{number}")] == [90_001]


def test_a_blob_that_crashes_the_reader_is_named_and_the_others_go_on() -> None:
    """After two crashes the blob is dead-lettered by reference."""

    class Crashing(Reader):
        def step(self, container: Container, task: Task) -> Step:
            if task.announcement.blob.name == "bad":
                raise ZeroDivisionError
            return super().step(container, task)

    site = Site()
    site.put("bad", lines(1))
    site.put("good", lines(1))
    site.run(Crashing(LIMITS))
    assert [dict(e.headers)["code"] for e in site.of(TOPICS.errors)] == [b"handler_crash"]
    assert len(site.segments("good")) == 1


def test_metrics_move() -> None:
    """Bytes, segments, records and transactions are counted."""
    names = ["bytes", "segments", "records"]

    def values() -> list[float]:
        labels = {"stream": "flow_logs"}
        return [REGISTRY.get_sample_value(f"blobtide_ingest_{name}_total", labels) or 0.0 for name in names]

    before = values()
    site = Site()
    site.put("a", lines(5))
    site.run()
    assert [b - a for a, b in zip(before, values(), strict=True)] == [len(lines(5)), 1, 5]


def test_the_ends_of_blobs_are_counted() -> None:
    """A closed blob that is read to its end counts as completed, one that vanishes before as ended."""
    completed = since_now("blobtide_ingest_completed_blobs_total", stream="flow_logs")
    vanished = since_now("blobtide_ingest_ended_generations_total", reason="vanished")
    site = Site()
    site.put("closed", lines(1))
    site.put("gone", lines(1))
    site.run()
    assert (completed(), vanished()) == (0, 0)
    container = site.containers["s.e"]
    blob, name = container.blobs["closed"], str(BlobId("s.e", "logs", "closed"))
    site.announce(BlobClosed(name, blob.etag, len(blob.data), EPOCH, EPOCH, 60))
    site.put("gone", lines(2))
    del container.blobs["gone"]
    site.run()
    assert (completed(), vanished()) == (1, 1)


def test_what_waits_and_what_is_held_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """While blobs are read, their number, the memory granted and the pause of a full backlog are visible, and not after."""
    monkeypatch.setattr(backlog, "MOST_BLOBS", 1)
    names = ("backlog_blobs", "reserved_bytes", "paused_info")
    site, shown = Site(), Signal()

    def gauges() -> list[float]:
        return [value(f"blobtide_ingest_{name}") for name in names]

    def done() -> bool:
        if min(gauges()) > 0:
            shown.set()
        return site.committed == len(site.records)

    def wait(_: str) -> None:
        shown.wait(30)

    site.containers["s.e"].before = wait
    site.put("a", lines(1))
    site.run(done=done)
    assert shown.is_set()
    assert gauges() == [0, 0, 0]


def test_checkpoints_carry_the_stream_for_events_that_do_not() -> None:
    """A close that comes alone, after a restart, still ends in the right raw topic."""
    site = Site()
    site.put("a", b"one\ntw", stream=Stream.PROXY_LOGS)
    site.run()
    blob = site.containers["s.e"].blobs["a"]
    site.announce(BlobClosed(str(BlobId("s.e", "logs", "a")), blob.etag, len(blob.data), EPOCH, EPOCH, 60))
    site.run()
    assert [r.value for r in site.of(TOPICS.raw_proxy_logs)] == [b"one\n", b"tw"]
    (*_, last) = site.events(TOPICS.checkpoints)
    assert isinstance(last, BlobCheckpoint)
    assert last.stream is Stream.PROXY_LOGS


def test_a_close_that_comes_alone_keeps_the_baseline_and_the_stream() -> None:
    """Where nothing was read before there is no checkpoint to remember them; a reopening alone reads nothing."""
    site = Site()
    site.put("a", b"old\nold", stream=Stream.PROXY_LOGS, baseline_offset=7)
    site.run()
    site.containers["s.e"].put("a", b"old\nold\nnew")
    blob, name = site.containers["s.e"].blobs["a"], str(BlobId("s.e", "logs", "a"))
    site.announce(BlobReopened(name, blob.etag, len(blob.data), EPOCH, EPOCH))
    site.run()
    assert site.outputs == []
    site.announce(BlobClosed(name, blob.etag, len(blob.data), EPOCH, EPOCH, 60, Stream.PROXY_LOGS, 7))
    site.run()
    assert [r.value for r in site.of(TOPICS.raw_proxy_logs)] == [b"new"]


def test_ingest_is_ready_only_while_it_has_an_assignment() -> None:
    """Not before the first, nor after its partitions were taken or lost."""
    ready: list[str | None] = []

    class Rebalancing(FakeSession):
        def poll(self, max_records: int, seconds: float) -> list[Inbound]:
            ready.append(self._site.health.why_not_ready())
            records = super().poll(max_records, seconds)
            ready.append(self._site.health.why_not_ready())
            self._listener.revoked([PARTITION])
            ready.append(self._site.health.why_not_ready())
            self._site.stop.set()
            return records

    Site(session=Rebalancing).run()
    assert ready == [NO_PARTITIONS, None, NO_PARTITIONS]


def test_settings_that_cannot_work_are_refused_with_what_to_do() -> None:
    """Nothing to read, segments larger than a message may be, lines larger than the topics take."""
    with pytest.raises(ConfigError, match="nothing to read"):
        build(Settings())
    with pytest.raises(ConfigError, match="max_line_bytes"):
        build(Settings(kafka=KafkaSettings(message_max_bytes=2_000_000), ingest=IngestSettings(max_line_bytes=3_000_000)))
    with pytest.raises(ValidationError, match="max_line_bytes"):
        IngestSettings(max_line_bytes=50_000_000)
