"""What ingest remembers of blobs: little of those that are closed, and never too little."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import ClassVar

import msgspec
import pytest
from prometheus_client import REGISTRY

from libs.common.errors import ServerUnreachable
from libs.common.kafka.records import Inbound
from libs.common.messages.blobs import BlobId
from libs.common.messages.events import BlobCheckpoint, BlobClosed, BlobForgotten, CheckpointStatus, encode_event
from services.ingest.pending import checkpoints as module
from tests.blob_container import EPOCH
from tests.checkpoint_table import Log
from tests.ingest_world import TOPICS, FakeSession, Site, lines

HOURS_A_DAY, BLOBS_AN_HOUR, OPEN_HOURS, FORGET_DAYS = 24, 3, 2, 5


def test_over_months_only_open_blobs_are_at_hand_and_only_remembered_ones_are_known() -> None:
    """Hours of blobs come, grow, close and are forgotten: memory is flat, before and after a restart."""
    log, most = Log(), 0
    for hour in range(60 * HOURS_A_DAY):
        for number in range(BLOBS_AN_HOUR):
            for age in range(OPEN_HOURS):
                log.write(f"blob/{hour - age}/{number}", CheckpointStatus.OPEN, 10 - age)
            log.write(f"blob/{hour - OPEN_HOURS}/{number}", CheckpointStatus.COMPLETE, 20)
            if hour >= FORGET_DAYS * HOURS_A_DAY - OPEN_HOURS:
                log.remove(f"blob/{hour - FORGET_DAYS * HOURS_A_DAY}/{number}")
        most = max(most, log.checkpoints.at_hand)
    assert most == OPEN_HOURS * BLOBS_AN_HOUR
    remembered = FORGET_DAYS * HOURS_A_DAY * BLOBS_AN_HOUR
    assert log.checkpoints.known < 3 * remembered  # of twelve times as many that were written
    assert log.start().at_hand == most
    assert log.loaded == remembered
    last = 60 * HOURS_A_DAY - 1
    assert log.lookup.asked == []
    for age in range(FORGET_DAYS * HOURS_A_DAY - 1):
        found = log.get(f"blob/{last - age}/0")
        assert found is not None
        assert found.status == ("open" if age < OPEN_HOURS else "complete")
    assert log.get(f"blob/{last - FORGET_DAYS * HOURS_A_DAY}/0") is None
    assert log.get("blob/never/0") is None


def test_of_very_many_open_blobs_those_that_were_not_read_for_longest_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is ever closed memory has its bound, too."""
    monkeypatch.setattr(module, "MOST_AT_HAND", 100)
    log = Log()
    for number in range(500):
        log.write(f"blob/{number}", CheckpointStatus.OPEN, number)
    for checkpoints in (log.checkpoints, log.start()):
        assert checkpoints.at_hand <= 100
        assert checkpoints.known == 500
        for number in range(500):
            found = log.get(f"blob/{number}", checkpoints)
            assert found is not None
            assert found.next_offset == number
    assert len(log.lookup.asked) >= 800


def test_what_is_not_committed_stays_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka does not have it yet, or has not said where."""
    monkeypatch.setattr(module, "MOST_AT_HAND", 10)
    log = Log()
    event = BlobCheckpoint("x", "g", CheckpointStatus.COMPLETE, 7, 1, 1, "e", 7, 0, "", EPOCH, EPOCH)
    log.checkpoints.put(0, b"x", encode_event(event))
    for number in range(100):
        log.write(f"blob/{number}", CheckpointStatus.OPEN)
    assert log.get("x") == event
    assert log.lookup.asked == []


def test_a_checkpoint_that_is_not_where_it_should_be_is_searched_for() -> None:
    """Whoever wrote another one, nothing that the topic knows is taken for new."""
    log = Log()
    log.write("one", CheckpointStatus.COMPLETE, 1)
    (record,) = log.records.values()
    log.records = {100: msgspec.structs.replace(record, offset=100)}
    found = log.get("one")
    assert found is not None
    assert found.next_offset == 1


def test_a_record_that_kafka_has_removed_is_unknown() -> None:
    """What its retention took is gone for whoever starts, so it is for who runs."""
    log = Log()
    log.write("old", CheckpointStatus.COMPLETE)
    log.records.clear()
    assert log.get("old") is None


def test_a_closed_blob_that_is_announced_again_and_again_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was looked up stays at hand within the bound; what is written meanwhile takes its place."""
    monkeypatch.setattr(module, "MOST_AT_HAND", 10)
    log = Log()
    for number in range(100):
        log.write(f"blob/{number}", CheckpointStatus.COMPLETE, number)
    for number in range(100):
        for _ in range(5):
            found = log.get(f"blob/{number}")
            assert found is not None
            assert found.next_offset == number
        assert log.checkpoints.at_hand <= 10
    assert len(log.lookup.asked) == 100
    log.write("blob/99", CheckpointStatus.COMPLETE, 1_000)
    found = log.get("blob/99")
    assert found is not None
    assert found.next_offset == 1_000


def close(site: Site, name: str) -> None:
    """Announce that a blob is closed as it is now."""
    blob = site.containers["s.e"].blobs[name]
    known = BlobId("s.e", "logs", name)
    site.announce(BlobClosed(str(known), blob.etag, len(blob.data), EPOCH, EPOCH + timedelta(1), 60))


def lookups() -> float:
    """Return how often Kafka was asked for a checkpoint."""
    return REGISTRY.get_sample_value("blobtide_ingest_checkpoint_lookups_total") or 0.0


@pytest.mark.parametrize("restart", [True, False])
def test_a_closed_blob_that_grows_goes_on_where_it_was(*, restart: bool) -> None:
    """Its checkpoint is not in memory, and nothing is read twice; announcements of what was read bring nothing."""
    site, before = Site(), lookups()

    def act(do: Callable[[], None]) -> None:
        do()
        if restart:
            site.run()

    act(lambda: site.put("a", lines(10)))
    act(lambda: close(site, "a"))
    if not restart:
        site.run()
    act(lambda: close(site, "a"))
    act(lambda: site.put("a", lines(20)))
    act(lambda: close(site, "a"))
    site.run()
    assert b"".join(s.data for s in site.segments("a")) == lines(20)
    assert len({s.generation for s in site.segments("a")}) == 1
    assert len(site.of(TOPICS.errors)) == 0
    assert lookups() > before


def test_a_blob_whose_checkpoint_cannot_be_looked_up_waits() -> None:
    """While Kafka does not answer, nothing is taken for new."""
    ticks = count()
    site = Site(clock=lambda: next(ticks) / 100)
    site.put("a", lines(10))
    close(site, "a")
    site.run()
    site.put("a", lines(20))
    read, failures = site.lookup.read, [3]

    def away(partition: int, offset: int, seconds: float) -> Inbound | None:
        if failures[0]:
            failures[0] -= 1
            raise ServerUnreachable("away")
        return read(partition, offset, seconds)

    site.lookup.read = away  # type: ignore[method-assign]
    site.run()
    assert b"".join(s.data for s in site.segments("a")) == lines(20)
    assert failures == [0]


class AtOnce(FakeSession):
    """Delivers all there is in one poll, and notes how many checkpoints had been looked up then."""

    looked_up: ClassVar[list[int]] = []

    def poll(self, max_records: int, seconds: float) -> list[Inbound]:
        """Poll until nothing comes any more."""
        self.looked_up.append(len(self._site.lookup.asked))
        found: list[Inbound] = []
        while batch := super().poll(max_records, seconds):
            found += batch
        return found


def test_very_many_look_ups_do_not_keep_ingest_from_its_consumer() -> None:
    """Where thousands of closed blobs are announced again, polls, commits and heartbeats go on between look-ups."""
    now = [0.0]

    def clock() -> float:
        now[0] += 0.001
        return now[0]

    site = Site(clock=clock, session=AtOnce)
    for number in range(100):
        site.put(f"{number}", lines(10))
        close(site, f"{number}")
    site.run()
    site.committed = 0
    read = site.lookup.read

    def slow(partition: int, offset: int, seconds: float) -> Inbound | None:
        now[0] += 0.3
        return read(partition, offset, seconds)

    site.lookup.read = slow  # type: ignore[method-assign]
    AtOnce.looked_up.clear()
    site.run()
    assert len(site.lookup.asked) >= 100
    assert max(after - before for before, after in pairwise(AtOnce.looked_up)) <= 5
    assert all(len(site.segments(f"{number}")) == 1 for number in range(100))


@pytest.mark.parametrize("back", [True, False])
def test_a_forgotten_blob_has_its_checkpoint_removed_unless_it_came_back(*, back: bool) -> None:
    """A tombstone is written; an event that comes again removes nothing of a blob that was read since."""
    site = Site()
    site.put("a", lines(10))
    close(site, "a")
    site.run()
    name, now = str(BlobId("s.e", "logs", "a")), datetime.now(UTC)
    site.announce(BlobForgotten(name, now - timedelta(hours=1) if back else now))
    site.run()
    tombstones = [record for record in site.of(TOPICS.checkpoints) if not record.value]
    assert [record.key for record in tombstones] == ([] if back else [name.encode()])
    site.put("a", lines(30))
    site.run()
    assert b"".join(s.data for s in site.segments("a")) == (lines(30) if back else lines(10) + lines(30))
    assert len(site.of(TOPICS.errors)) == 0
