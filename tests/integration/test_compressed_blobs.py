"""Compressed blobs on real Kafka and Azurite: growth inside members, ``Content-Encoding``, kills, cuts and rubbish."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import BlobBlock, ContentSettings

from libs.common.messages.events import CheckpointStatus
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.azurite import LocalAzurite
from tests.blob_reading import assert_tiles
from tests.ingest_site import WAIT_SECONDS, Site, ingesting, process
from tests.packed import gzip_member, zstd_frame

pytestmark = [pytest.mark.kafka, pytest.mark.azurite]


@pytest.fixture
def site(kafka_settings: KafkaSettings, topics: TopicSettings, azurite: LocalAzurite, container: str) -> Iterator[Site]:
    """A container that is announced."""
    site = Site(kafka_settings, topics, azurite.connection_string, container)
    yield site
    site.shut()


def lines(begin: int, end: int) -> bytes:
    """Return numbered lines, of which some have unusual bytes."""
    return b"".join(
        b"line %d %x\r\n" % (n, n * 2_654_435_761 % 2**32) if n % 7 else b"caf\xc3 \0 %d\r\r\n" % n for n in range(begin, end)
    )


def commit(site: Site, name: str, parts: list[bytes], **settings: Any) -> None:
    """Commit a block blob of these blocks."""
    client = site.service.get_blob_client(site.container, name)
    ids = [f"{number:06}" for number in range(len(parts))]
    for block_id, part in zip(ids, parts, strict=True):
        client.stage_block(block_id, part)
    client.commit_block_list([BlobBlock(block_id) for block_id in ids], content_settings=ContentSettings(**settings))


def pieces(data: bytes, count: int) -> list[bytes]:
    """Divide data into pieces, which end anywhere in it."""
    size = len(data) // count + 1
    return [data[begin : begin + size] for begin in range(0, len(data), size)]


def test_blobs_that_grow_anywhere_in_their_members_arrive_as_their_text(site: Site) -> None:
    """As block and append blobs, with the header that makes clients decode them behind one's back, or as zstd."""
    text = lines(0, 60_000)
    half = len(text) // 2
    gzipped = gzip_member(text[:half], 6, (half // 3,)) + gzip_member(b"") + gzip_member(text[half:], 6, (half // 2,))
    zstd = zstd_frame(text[:half], 3, (half // 3,)) + zstd_frame(text[half:])
    contents = {"blocks": gzipped, "encoded": gzipped, "appended": gzipped, "zstd": zstd}
    site.service.get_blob_client(site.container, "appended").create_append_blob()
    with ingesting(site, segment_bytes=100_000, read_bytes=65_536):
        for count in range(1, 6):
            for name, data in contents.items():
                parts = pieces(data, 5)
                if name == "appended":
                    site.service.get_blob_client(site.container, name).append_block(parts[count - 1])
                else:
                    commit(site, name, parts[:count], content_encoding="gzip" if name == "encoded" else None)
                seen = site.observe(name)
                if count == 3:
                    site.until_read(name, seen.etag)
        for name in contents:
            site.close(name)
        done = {name: site.until_closed(name) for name in contents}
    segments = site.segments()
    for name, data in contents.items():
        assert_tiles(segments[name])
        assert b"".join(s.data for s in segments[name]) == text
        assert {s.encoding for s in segments[name]} == {"zstd" if name == "zstd" else "gzip"}
        completions = site.completions(name)
        assert sum(c.records for c in completions) == done[name].records == text.count(b"\n")
        assert [(c.from_offset, c.decoded_from) for c in completions[1:]] == [
            (c.to_offset, c.decoded_to) for c in completions[:-1]
        ]
        assert (completions[-1].to_offset, completions[-1].decoded_to) == (len(data), len(text))
        assert completions[-1].status is CheckpointStatus.COMPLETE
    assert site.read(site.topics.errors) == []


@pytest.mark.parametrize("place", ["ingest.read@4", "ingest.committed@4"])
def test_a_kill_inside_a_member_leaves_no_gap_and_no_duplicate(site: Site, tmp_path: Path, place: str) -> None:
    """Whoever comes next decodes the member again and continues with the next line, in bytes of the same text."""
    names = [f"pod{n}.gz" for n in range(4)]
    text = lines(0, 400_000)
    parts = pieces(gzip_member(text, 1, tuple(range(0, len(text), 200_000))), 40)
    options: dict[str, Any] = {"segment_bytes": 100_000, "read_bytes": 65_536, "commit_seconds": 0.05}
    count, deadline = 0, time.monotonic() + WAIT_SECONDS
    with process(site, tmp_path, crash=place, **options) as child:
        while child.poll() is None and time.monotonic() < deadline:
            count = min(count + 5, 30)
            for name in names:
                commit(site, name, parts[:count])
                site.observe(name)
            time.sleep(0.1)
        assert child.wait(0) == -signal.SIGKILL
    with process(site, tmp_path, **options):
        for name in names:
            commit(site, name, parts)
            site.close(name)
        for name in names:
            site.until_closed(name)
    segments = site.segments()
    for name in names:
        assert_tiles(segments[name])
        assert b"".join(s.data for s in segments[name]) == text
    assert site.read(site.topics.errors) == []


def test_what_cannot_be_decoded_is_in_the_errors_and_what_can_is_published(site: Site) -> None:
    """A cut member, rubbish behind one, and damage: lines come, the blob's end says what is wrong, nothing is silent."""
    whole = gzip_member(b"one\ntwo\nthree\n", 0, (10,))
    contents = {
        "header.gz": whole[:7],
        "cut.gz": whole[:-9],
        "trailed.gz": whole + b"\0\0rubbish",
        "damaged.gz": whole[:-8] + bytes(8),
        "documents.gz": gzip_member(b'{"records":[{"category":"FlowLogFlowEvent"}]}'),
        "padded.gz": whole + bytes(512),
    }
    with ingesting(site):
        for name, data in contents.items():
            commit(site, name, [data])
            site.close(name)
        for name in contents:
            site.until(name, lambda c: c.status is not CheckpointStatus.OPEN)
    segments = site.segments()
    errors: dict[str, list[str]] = {name: [] for name in contents}
    for letter in site.read(site.topics.errors):
        headers = dict(letter.headers)
        errors[headers["blob"].decode().rpartition("/")[2]].append(headers["code"].decode())
    assert errors == {
        "header.gz": ["cut_file"],
        "cut.gz": ["cut_file", "cut_file"],
        "trailed.gz": ["trailing_bytes"],
        "damaged.gz": ["cut_file"],
        "documents.gz": ["unsupported_blob"],
        "padded.gz": [],
    }
    texts = {name: b"".join(s.data for s in segments[name]) for name in contents}
    assert texts == {
        "header.gz": b"",
        "cut.gz": b"one\ntwo\n",
        "trailed.gz": b"one\ntwo\nthree\n",
        "damaged.gz": b"one\ntwo\nthree\n",
        "documents.gz": b"",
        "padded.gz": b"one\ntwo\nthree\n",
    }
    statuses = {name: site.completions(name)[-1].status for name in contents}
    complete = {name for name, status in statuses.items() if status is CheckpointStatus.COMPLETE}
    assert complete == {"trailed.gz", "padded.gz"}
