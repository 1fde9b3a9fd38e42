"""Accounts and blobs that do not answer, refuse or change: what they hold up, and what not."""

from __future__ import annotations

from threading import Event as Signal
from threading import Lock

import pytest

from libs.common.azure.storage.api import BlobChanged, Container, StorageRefused, StorageUnavailable
from libs.common.kafka.records import Inbound
from libs.common.process.health import NO_PARTITIONS
from services.ingest.app import FEWEST_REFUSALS, MOST_CHANGES
from services.ingest.limits import SMALLEST_GRANT
from services.ingest.pending import backlog
from services.ingest.reading.decoders import Decoders
from services.ingest.reading.reader import BlobReader
from services.ingest.work import ReadingTask, Step
from tests.ingest_world import LIMITS, PARTITION, TOPICS, FakeSession, Site, lines
from tests.metric_values import since_now, value


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
    starved = "waiting for storage: s.e; see the log for reasons"
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

    class Watched(BlobReader):
        def step(self, container: Container, task: ReadingTask) -> Step:
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
    site.run(Watched(lambda _: LIMITS, Decoders(0)), done)
    assert asked == [len(lines(30_000)), SMALLEST_GRANT, len(lines(30_000)) - site.segments("a")[0].end]


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

    class Watched(BlobReader):
        def step(self, container: Container, task: ReadingTask) -> Step:
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
    site.run(Watched(lambda _: LIMITS, Decoders(0)))
    assert most == 1
    for number in range(6):
        assert [len(s.data) for s in site.segments(f"b{number}")] == [90_001]


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
