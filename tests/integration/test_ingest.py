"""Ingest on real Kafka and Azurite: blobs that grow, change and vanish, kills, and two processes that share the work."""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from libs.common.messages.events import (
    BlobForgotten,
    CheckpointStatus,
)
from libs.common.settings.kafka import KEY_AND_HEADERS_BYTES, KafkaSettings, TopicSettings
from libs.local.azurite import LocalAzurite
from tests.blob_reading import assert_tiles
from tests.ingest_site import TAIL, WAIT_SECONDS, Site, block_id, ingesting, minute, process, record, text_of
from tests.topic_tools import limit

pytestmark = [pytest.mark.kafka, pytest.mark.azurite]


@pytest.fixture
def site(kafka_settings: KafkaSettings, topics: TopicSettings, azurite: LocalAzurite, container: str) -> Iterator[Site]:
    """A container that is announced."""
    site = Site(kafka_settings, topics, azurite.connection_string, container)
    yield site
    site.shut()


def test_a_blob_that_grows_while_it_is_read_arrives_whole_and_without_its_tails(site: Site) -> None:
    """Commits race with reads; the segments tile the document, the tail is in none of them, and the close is told."""
    name = "r/y=2026/PT1H.json"
    blocks = [minute(number) for number in range(25)]
    with ingesting(site):
        for count in range(1, len(blocks) + 1):
            site.commit(name, blocks[:count])
            site.observe(name)
        site.close(name)
        done = site.until_closed(name)
    segments = site.segments()[name]
    assert_tiles(segments)
    assert b"".join(s.data for s in segments) == text_of(blocks)
    assert {s.format.value for s in segments} == {"vnet"}
    assert done.records == sum(c.records for c in site.completions(name)) == 50
    assert site.read(site.topics.errors) == []


def test_replaced_shrunk_recreated_and_touched_blobs_are_told_apart(site: Site) -> None:
    """New content is a new generation from its beginning and the old one is marked incomplete; new metadata is nothing."""
    old, new = [minute(1), minute(2)], [minute(3), minute(4), minute(5)]
    changes: dict[str, Callable[[str], object]] = {
        "replaced": lambda name: site.commit(name, new),
        "shrunk": lambda name: site.commit(name, old[:1]),
        "touched": lambda name: site.service.get_blob_client(site.container, name).set_blob_metadata({"a": "b"}),
        "recreated": lambda name: _recreate(site, name, new),
        "recreated as it was": lambda name: _recreate(site, name, old),
        "same ids and sizes": lambda name: _restage(site, name, [(i, data.replace(b"NX", b"XX")) for i, data in old]),
    }
    with ingesting(site):
        for name in changes:
            site.commit(name, old)
            seen = site.observe(name)
            site.until_read(name, seen.etag)
        time.sleep(1.1)  # creation times have a resolution of a second
        for name, change in changes.items():
            change(name)
            site.close(name)
        for name in changes:
            site.until_closed(name)
    segments = site.segments()
    for name in changes:
        generations = list(dict.fromkeys(s.generation for s in segments[name]))
        texts = [b"".join(s.data for s in segments[name] if s.generation == g) for g in generations]
        corrected = [(i, data.replace(b"NX", b"XX")) for i, data in old]
        expected = {
            "replaced": [old, new],
            "shrunk": [old, old[:1]],
            "touched": [old],
            "recreated": [old, new],
            "recreated as it was": [old],
            "same ids and sizes": [old, corrected],
        }[name]
        assert texts == [text_of(blocks) for blocks in expected], name
        incomplete = [c for c in site.completions(name) if c.status is CheckpointStatus.INCOMPLETE]
        assert len(incomplete) == len(expected) - 1, name
    codes = [dict(letter.headers)["code"] for letter in site.read(site.topics.errors)]
    assert codes == [b"incomplete_blob"] * 4


def _recreate(site: Site, name: str, blocks: list[tuple[str, bytes]]) -> None:
    site.service.get_blob_client(site.container, name).delete_blob()
    site.contents.pop(name)
    site.commit(name, blocks)


def _restage(site: Site, name: str, blocks: list[tuple[str, bytes]]) -> None:
    """Commit other bytes under the block ids that are there."""
    del site.contents[name]
    site.commit(name, blocks)


def test_a_blob_that_is_written_anew_with_one_more_record_each_time_grows(site: Site) -> None:
    """By Put Blob, or by a block list with other ids each time: every record comes once, and nothing is an error."""

    def put(name: str, blocks: list[tuple[str, bytes]]) -> None:
        site.service.get_blob_client(site.container, name).upload_blob(text_of(blocks) + TAIL[1], overwrite=True)

    def commit(name: str, blocks: list[tuple[str, bytes]]) -> None:
        site.contents.pop(name, None)
        site.commit(name, [(block_id(100 * len(blocks) + n), data) for n, (_, data) in enumerate(blocks)])

    blocks = [minute(number) for number in range(4)]
    ways: dict[str, Callable[[str, list[tuple[str, bytes]]], None]] = {"put": put, "block list": commit}
    with ingesting(site):
        for count in range(1, len(blocks) + 1):
            for name, write in ways.items():
                write(name, blocks[:count])
                site.until_read(name, site.observe(name).etag)
            time.sleep(1.1)  # creation times have a resolution of a second
        close_all(site, list(ways))
    assert_each_is(site, list(ways), blocks)
    assert {name: site.until_closed(name).records for name in ways} == dict.fromkeys(ways, 2 * len(blocks))
    assert site.read(site.topics.errors) == []


def test_segments_fit_in_the_topic_also_when_its_limit_is_lowered(site: Site) -> None:
    """Records, also one larger than the topic takes, arrive whole in smaller segments, in order and without a dead letter."""
    topic, draw = site.topics.raw_flow_logs, random.Random(7)

    def noise(_: re.Match[bytes]) -> bytes:
        return b"O,E,NX,%d,%d" % (draw.randrange(1 << 60), draw.randrange(1 << 60))

    def incompressible(number: int, tuples: int) -> tuple[str, bytes]:
        text = re.sub(rb"O,C,NX,1,2", noise, record(number, tuples))
        return block_id(number), text if number == 0 else b"," + text

    blocks = [incompressible(0, 20), incompressible(1, 6_000), *(incompressible(number, 20) for number in range(2, 400))]
    with ingesting(site):
        for name, size in (("before", 200_000), ("after", 60_000)):
            limit(site.kafka, topic, size)
            site.commit(name, blocks)
            site.close(name)
            site.until_closed(name)
    found = site.segments()
    for name, size in (("before", 200_000), ("after", 60_000)):
        assert max(len(segment.data) for segment in found[name]) <= size - KEY_AND_HEADERS_BYTES
        pieces = [segment for segment in found[name] if segment.piece]
        assert sum(segment.data.count(b",E,NX,") for segment in pieces) == 6_000
        whole = [segment for segment in found[name] if not segment.piece]
        assert sum(segment.data.count(b"FlowLogFlowEvent") for segment in whole) == 399
    assert site.read(site.topics.errors) == []


def test_an_append_blob_is_read_by_whole_lines_until_it_is_closed(site: Site) -> None:
    """Lines appended in any portions arrive as they are; the last one without its newline comes with the close."""
    name = "app.log"
    client = site.service.get_blob_client(site.container, name)
    client.create_append_blob()
    portions = [b'{"a":1}\r\n{"a"', b":2}\r\n", b'{"a":3}\r\n{"', b'a":4}']
    with ingesting(site):
        for portion in portions:
            client.append_block(portion)
            seen = site.observe(name)
            if b"\n" in portion:
                before = site.until_read(name, seen.etag)
        assert before.next_offset == b"".join(portions).rindex(b"\n") + 1
        site.close(name)
        site.until_closed(name)
    segments = site.segments()[name]
    assert_tiles(segments)
    assert b"".join(s.data for s in segments) == b"".join(portions)
    assert {s.format.value for s in segments} == {"jsonl"}


def close_all(site: Site, names: list[str]) -> None:
    """Close blobs and wait until ingest is through with them."""
    for name in names:
        site.close(name)
    for name in names:
        site.until_closed(name)


def assert_each_is(site: Site, names: list[str], blocks: list[tuple[str, bytes]]) -> None:
    """Check that the segments of each blob follow each other without a gap and are its text."""
    segments = site.segments()
    for name in names:
        assert_tiles(segments[name])
        assert b"".join(s.data for s in segments[name]) == text_of(blocks)


@pytest.mark.parametrize("place", ["ingest.read@2", "ingest.committed@2"])
def test_a_kill_before_or_after_a_commit_leaves_no_gap_and_no_duplicate(site: Site, tmp_path: Path, place: str) -> None:
    """A process that is killed between reading and committing, or right after, is replaced without anyone noticing."""
    names = [f"nic{n}/PT1H.json" for n in range(6)]
    blocks: list[tuple[str, bytes]] = []
    options: dict[str, Any] = {"segment_bytes": 10_000, "read_bytes": 65_536, "commit_seconds": 0.05}
    deadline = time.monotonic() + WAIT_SECONDS
    with process(site, tmp_path, crash=place, **options) as child:
        while child.poll() is None and time.monotonic() < deadline:  # however late it begins, it reads a second time
            began = time.monotonic()
            blocks.append(minute(len(blocks)))
            for name in names:
                site.commit(name, blocks)
                site.observe(name)
            time.sleep(max(0.1, 2 * (time.monotonic() - began)))  # leaves the machine to the child, however slow it is
        assert child.wait(0) == -signal.SIGKILL
    with process(site, tmp_path, **options):
        close_all(site, names)
    assert_each_is(site, names, blocks)


def test_two_processes_share_the_blobs_and_one_takes_over_from_the_other(site: Site, tmp_path: Path) -> None:
    """Both read; when one is killed the other goes on with its blobs; order holds and nothing comes twice."""
    names = [f"nic{n}/PT1H.json" for n in range(12)]
    blocks = [minute(number) for number in range(4)]
    with process(site, tmp_path, 0) as first, process(site, tmp_path, 1):
        for count in range(1, len(blocks) + 1):
            for name in names:
                site.commit(name, blocks[:count])
                site.observe(name)
            if count == 1:
                for name in names:
                    site.until(name, lambda c: c.next_offset > 0)
            if count == 2:
                first.kill()
        close_all(site, names)
    assert_each_is(site, names, blocks)


def test_sigterm_commits_what_was_read_and_ends_with_zero(site: Site, tmp_path: Path) -> None:
    """A stop in the middle of a big blob leaves a clean prefix; the next process goes on behind it."""
    name = "big/PT1H.json"
    blocks = [(block_id(n), (b"," if n else b"") + b",".join(record(100 * n + i, 400) for i in range(60))) for n in range(12)]
    site.commit(name, blocks)
    site.observe(name)
    with process(site, tmp_path, read_bytes=200_000, commit_seconds=0.05) as child:
        site.until(name, lambda c: c.next_offset > 0)
        child.terminate()
        assert child.wait(30) == 0
    with process(site, tmp_path):
        site.close(name)
        site.until_closed(name)
    segments = site.segments()[name]
    assert_tiles(segments)
    assert b"".join(s.data for s in segments) == text_of(blocks)
    assert max(len(s.data) for s in segments) <= 900_000


def test_a_closed_blob_that_grows_goes_on_also_after_a_restart(site: Site, tmp_path: Path) -> None:
    """Its checkpoint is not held any more: it is looked up in Kafka, and nothing comes twice."""
    names = [f"nic{n}/PT1H.json" for n in range(3)]
    blocks = [minute(number) for number in range(4)]
    for count in range(1, len(blocks) + 1):
        with process(site, tmp_path):
            for close in (True, False, True):  # in one process, then in another
                for name in names:
                    site.commit(name, blocks[:count])
                    seen = site.observe(name)
                    site.until_read(name, seen.etag)
                if close:
                    close_all(site, names)
    assert_each_is(site, names, blocks)
    assert site.read(site.topics.errors) == []


def test_a_blob_that_is_long_gone_leaves_a_tombstone(site: Site) -> None:
    """The checkpoint topic says no more of it."""
    site.commit("a", [minute(0)])
    with ingesting(site):
        seen = site.observe("a")
        close_all(site, ["a"])
        site.announce(BlobForgotten(seen.blob, datetime.now(UTC)))
        deadline = time.monotonic() + WAIT_SECONDS
        while [record.value for record in site.read(site.topics.checkpoints)][-1] is not None:
            assert time.monotonic() < deadline
