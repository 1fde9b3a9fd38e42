"""A blob on which our code crashes, or the process dies, is put in quarantine; the count outlives the process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count

import pytest

from libs.common.azure.storage.api import Container, StorageUnavailable
from libs.common.kafka.records import CommitResult, NextOffsets, Outbound
from libs.common.messages.blobs import BlobId
from libs.common.messages.events import QUARANTINED, BlobCheckpoint, BlobReleased, BlobStatus, Stream, decode_event
from services.ingest.pending.tries import CAREFUL_SECONDS, MOST_CRASHES
from services.ingest.reading.decoders import Decoders
from services.ingest.reading.reader import BlobReader
from services.ingest.work import ReadingTask, Step
from tests.blob_container import EPOCH
from tests.blob_reading import assert_tiles
from tests.ingest_world import LIMITS, TOPICS, FakeSession, Site, lines
from tests.metric_values import since_now

BAD = "s.e/logs/bad"


class Killed(BaseException):
    """The process was killed: nothing that it holds is committed."""


class Poisoned(BlobReader):
    """Does `harm` when it reads the blob ``bad`` and has read `safe` bytes of it."""

    def __init__(self, harm: Callable[[], None], safe: int = 0) -> None:
        super().__init__(lambda _: LIMITS, Decoders(0))
        self._harm = harm
        self._safe = safe
        self.tries = 0

    def step(self, container: Container, task: ReadingTask) -> Step:
        """Do one step."""
        read = task.checkpoint.next_offset if task.checkpoint else 0
        if task.announcement.blob.name == "bad" and read >= self._safe:
            self.tries += 1
            self._harm()
        return super().step(container, task)


def crash() -> None:
    """Fail as a bug does."""
    raise ZeroDivisionError


def kill() -> None:
    """End the process."""
    raise Killed


def letters(site: Site) -> list[dict[str, str]]:
    """Return the headers of the dead letters."""
    return [{name: value.decode() for name, value in record.headers} for record in site.of(TOPICS.errors)]


def checkpoints(site: Site) -> dict[str, BlobCheckpoint]:
    """Return the newest checkpoint of each blob."""
    found: dict[str, BlobCheckpoint] = {}
    for record in site.of(TOPICS.checkpoints):
        found.pop((record.key or b"").decode(), None)
        if record.value is not None:
            event = decode_event(record.value)
            assert isinstance(event, BlobCheckpoint)
            found[event.blob] = event
    return found


def marks(site: Site) -> list[str]:
    """Return the blobs of which a try was written down, once a try."""
    events = [decode_event(record.value) for record in site.of(TOPICS.checkpoints) if record.value is not None]
    return [event.blob for event in events if isinstance(event, BlobCheckpoint) and event.tried_by]


def release(site: Site, replay_id: str = "") -> None:
    """Announce that the blob is to be read again."""
    blob = site.containers["s.e"].blobs["bad"]
    site.announce(
        BlobReleased(
            BAD, Stream.FLOW_LOGS, BlobStatus.OPEN, blob.etag, len(blob.data), "BlockBlob", EPOCH, EPOCH, None, replay_id
        )
    )


def run_until_it_lives(site: Site, reader: BlobReader) -> int:
    """Run processes one after the other until one does not die; return how many did."""
    for deaths in range(20):
        try:
            site.run(reader)
        except Killed:
            continue
        return deaths
    raise AssertionError("it dies for ever")


def test_a_blob_that_crashes_the_reader_is_put_in_quarantine_and_the_others_go_on() -> None:
    """After some tries it is named in a dead letter, once, with what is not read of it; later announcements are passed over."""
    held = since_now("blobtide_ingest_quarantined_blobs")
    site, reader = Site(), Poisoned(crash, safe=1)
    site.put("bad", lines(1))
    site.run(reader)
    site.put("bad", lines(3))
    site.put("good", lines(1))
    site.run(reader)
    assert reader.tries == MOST_CRASHES
    (letter,) = letters(site)
    assert (letter["code"], letter["blob"], letter["record-offset"]) == ("quarantined", BAD, str(len(lines(1))))
    assert letter["source-length"] == letter["source-omitted-bytes"] == str(len(lines(3)) - len(lines(1)))
    assert letter["generation"] == checkpoints(site)[BAD].generation != ""
    assert "ZeroDivisionError" in letter["reason"]
    assert len(site.segments("good")) == 1
    assert held() == 1
    assert site.health.notes() == ["1 blob is in quarantine: see `blobtide quarantine list`"]
    site.put("bad", lines(4))
    site.put("good", lines(2))
    site.run(reader)
    assert (reader.tries, len(letters(site)), len(site.segments("good"))) == (MOST_CRASHES, 1, 2)


@pytest.mark.parametrize("known", [0, 5])
def test_a_blob_that_kills_the_process_is_put_in_quarantine_and_the_others_are_read(known: int) -> None:
    """The count is committed before each try; nothing of the others is lost or doubled, however often the process dies."""
    site, reader = Site(careful_seconds=CAREFUL_SECONDS), Poisoned(kill, safe=len(lines(known)))
    if known:
        site.put("bad", lines(known))
        site.run(reader)
    for number in range(5):
        site.put(f"early{number}", lines(2))
    site.put("bad", lines(9))
    for number in range(5):
        site.put(f"late{number}", lines(2))
    assert run_until_it_lives(site, reader) == MOST_CRASHES
    for name in [*(f"early{number}" for number in range(5)), *(f"late{number}" for number in range(5))]:
        assert b"".join(segment.data for segment in site.segments(name)) == lines(2)
    (letter,) = letters(site)
    assert (letter["code"], letter["blob"], letter["record-offset"]) == ("quarantined", BAD, str(len(lines(known))))
    assert ("generation" in letter) is bool(known)
    assert b"".join(segment.data for segment in site.segments("bad")) == lines(known)
    assert {blob for blob, found in checkpoints(site).items() if found.crashes} == {BAD}


def test_a_poison_deep_inside_a_blob_is_found() -> None:
    """What could be read of it is published; steps that come back without progress do not make the crashes forgotten."""

    class Widening(Poisoned):
        def step(self, container: Container, task: ReadingTask) -> Step:
            if task.announcement.blob.name == "bad" and task.checkpoint and not task.allowance > 1_000_000:
                return Step(more=True, wanted=2_000_000)
            return super().step(container, task)

    site, reader = Site(careful_seconds=CAREFUL_SECONDS), Widening(kill, safe=1)
    site.put("bad", lines(10))
    site.run(reader)
    site.put("bad", lines(20))
    assert run_until_it_lives(site, reader) == MOST_CRASHES
    assert len(letters(site)) == 1


def test_a_released_blob_is_read_on_and_put_back_if_it_still_crashes() -> None:
    """It goes on where it was; a release counts once, also when the process dies by it."""
    site, reader = Site(careful_seconds=CAREFUL_SECONDS), Poisoned(kill, safe=1)
    site.put("bad", lines(2))
    site.run(reader)
    site.put("bad", lines(5))
    run_until_it_lives(site, reader)
    release(site)
    assert run_until_it_lives(site, reader) == MOST_CRASHES
    assert len(letters(site)) == 2
    release(site)
    site.run()
    assert b"".join(segment.data for segment in site.segments("bad")) == lines(5)
    assert_tiles(site.segments("bad"))
    assert checkpoints(site)[BAD].crashes == 0
    assert site.health.notes() == []
    assert QUARANTINED not in site.of(TOPICS.checkpoints)[-1].headers


def test_a_release_with_a_replay_reads_the_blob_once_more() -> None:
    """Whether it was in quarantine here or not; of a blob that is closed it also tells the end."""
    site = Site()
    site.put("bad", lines(5))
    site.run()
    release(site)
    release(site, replay_id="again")
    site.run()
    assert b"".join(segment.data for segment in site.segments("bad")) == lines(5) * 2


def test_nothing_is_written_down_in_normal_work() -> None:
    """Only blobs with a count cost a transaction more."""
    site = Site()
    for number in range(20):
        site.put(f"b{number}", lines(20_000))
    site.run()
    assert marks(site) == []


def test_the_first_tries_of_a_process_are_written_down_together() -> None:
    """Marks go with their tries; what came back leaves none."""
    site = Site(careful_seconds=CAREFUL_SECONDS, concurrency=8)
    for number in range(20):
        site.put(f"b{number}", lines(3))
    site.put("empty", b"")
    site.run()
    assert len(marks(site)) >= 20
    assert {found.crashes for found in checkpoints(site).values()} == {0}
    assert str(BlobId("s.e", "logs", "empty")) not in checkpoints(site)


def test_aborted_transactions_are_no_crashes() -> None:
    """The same process comes again to its own marks."""
    for _ in range(3):
        site = Site(aborts=12, careful_seconds=CAREFUL_SECONDS)
        for number in range(4):
            site.put(f"b{number}", lines(30_000))
        site.run()
        assert letters(site) == []
        assert {found.crashes for found in checkpoints(site).values()} == {0}
        for number in range(4):
            assert b"".join(segment.data for segment in site.segments(f"b{number}")) == lines(30_000)


def test_a_storage_that_does_not_answer_is_no_crash() -> None:
    """A try that fails takes its mark away, so that restarts meanwhile condemn nobody."""

    class Away(BlobReader):
        def step(self, container: Container, task: ReadingTask) -> Step:
            del container, task
            raise StorageUnavailable("away", after=3_600.0)

    site = Site(careful_seconds=CAREFUL_SECONDS)
    site.put("bad", lines(3))
    for _ in range(2 * MOST_CRASHES):
        tried, reader = len(marks(site)), Away(lambda _: LIMITS, Decoders(0))
        site.run(reader, done=lambda tried=tried: len(marks(site)) > tried and not checkpoints(site))  # type: ignore[misc]
    site.run()
    assert len(site.segments("bad")) == 1


def test_a_process_that_is_told_to_end_leaves_no_marks() -> None:
    """Also of what is still being read when it does not wait any longer."""
    ticks = count()
    is_over = threading.Event()

    class Hanging(BlobReader):
        def step(self, container: Container, task: ReadingTask) -> Step:
            is_over.wait(60)
            return super().step(container, task)

    class Ending(FakeSession):
        def commit(self, outputs: list[Outbound], offsets: NextOffsets) -> CommitResult:
            result = super().commit(outputs, offsets)
            if marks(site):
                site.stop.set()
            return result

    site = Site(careful_seconds=CAREFUL_SECONDS, session=Ending, clock=lambda: next(ticks) / 10)
    site.put("bad", lines(3))
    site.run(Hanging(lambda _: LIMITS, Decoders(0)), done=lambda: False)
    is_over.set()
    assert marks(site) == [BAD]
    assert checkpoints(site) == {}
    assert site.committed == 0
