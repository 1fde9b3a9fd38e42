"""The main loop: what is committed together, what is dropped, and what is counted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import msgspec
import pytest
from prometheus_client import REGISTRY
from pydantic import ValidationError
from structlog.testing import capture_logs

from libs.common.errors import ConfigError, DeadLetterLimit
from libs.common.kafka.records import CommitResult, Inbound, NextOffsets, Outbound, TopicPartition
from libs.common.messages.blobs import BlobId
from libs.common.messages.events import (
    BlobCheckpoint,
    BlobClosed,
    BlobCompletion,
    BlobReleased,
    BlobReopened,
    BlobsListed,
    BlobStatus,
    CheckpointStatus,
    Stream,
)
from libs.common.process.health import STALE_AFTER_SECONDS, Health
from libs.common.settings import Settings
from libs.common.settings.ingest import IngestSettings
from libs.common.settings.kafka import KafkaSettings
from services.ingest.main import build
from services.ingest.pending import intake
from services.ingest.pending.checkpoints import Checkpoints, LoadingTimes, Topic
from tests.blob_container import EPOCH
from tests.blob_reading import assert_tiles
from tests.checkpoint_table import FakeLookup, FakeTable
from tests.ingest_world import TOPICS, FakeSession, Site, lines
from tests.metric_values import since_now


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


def test_labels_of_a_blob_are_in_each_of_its_segments() -> None:
    """Whichever event leads to a segment, it has the labels of the newest one; a blob without labels has no such header."""
    site = Site()
    site.put("flows", lines(10))
    site.put("a", b"one\n", labels={"service": "api", "pod": "api-0"})
    site.run()
    blob, kind = str(BlobId("s.e", "logs", "a")), "BlockBlob"
    etag = site.containers["s.e"].put("a", b"one\ntwo")
    site.announce(BlobClosed(blob, etag, 7, EPOCH, EPOCH, 900, Stream.FLOW_LOGS, labels={"service": "api"}))
    site.run()
    released = BlobReleased(
        blob, Stream.FLOW_LOGS, BlobStatus.CLOSED, etag, 7, kind, EPOCH, EPOCH, None, "again", {"pod": 'a "b"'}
    )
    site.announce(released)
    site.run()
    labels = [(segment.data, segment.labels) for segment in site.segments("a")]
    anew = b'{"pod":"a \\"b\\""}'
    assert labels == [
        (b"one\n", b'{"service":"api","pod":"api-0"}'),
        (b"two", b'{"service":"api"}'),
        (b"one\n", anew),
        (b"two", anew),
    ]
    assert [segment.labels for segment in site.segments("flows")] == [b""]


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

    def slow() -> Iterator[Inbound]:
        for number in range(10):
            now[0] += STALE_AFTER_SECONDS - 1
            yield Inbound(TOPICS.checkpoints, 0, number, 0, b"%d" % number, b"", ())

    topic = Topic(lambda apply: FakeTable(slow, apply), FakeLookup(slow))
    assert Checkpoints(topic, LoadingTimes(30.0, 300.0)).load([0], health.beat) == 10
    assert health.alive()


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
    assert [line["container"] for line in told if "ignoring announced" in line["event"]] == ["evil.host/logs", "s.e/other"]


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


def test_metrics_move() -> None:
    """Bytes, segments and records are counted when they are committed, and once, however many transactions abort before."""
    names = ["bytes", "segments", "records"]

    def values() -> list[float]:
        labels = {"stream": "flow_logs"}
        return [REGISTRY.get_sample_value(f"blobtide_ingest_{name}_total", labels) or 0.0 for name in names]

    before = values()
    site = Site()
    site.put("a", lines(5))
    site.aborts = 3
    site.run()
    assert site.aborted == 3
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


def test_settings_that_cannot_work_are_refused_with_what_to_do() -> None:
    """Nothing to read, segments larger than a message may be, lines larger than the topics take."""
    with pytest.raises(ConfigError, match="nothing to read"):
        build(Settings())
    with pytest.raises(ConfigError, match="max_line_bytes"):
        build(Settings(kafka=KafkaSettings(message_max_bytes=2_000_000), ingest=IngestSettings(max_line_bytes=3_000_000)))
    with pytest.raises(ValidationError, match="max_line_bytes"):
        IngestSettings(max_line_bytes=50_000_000)
