"""`blobtide ingest-blob` on a real Azurite and a real Kafka, beside ingest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from libs.common.messages.blobs import BlobId
from libs.common.messages.labels import pack_labels
from libs.common.messages.segments import Segment
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.azurite import LocalAzurite
from services.cli.main import run
from tests.ingest_site import Site, ingesting
from tests.packed import gzip_member

pytestmark = [pytest.mark.azurite, pytest.mark.kafka]

API = "kubernetes/20260501.api-7_default_platform-aa.gz"
OTHER = "kubernetes/20260501.redis-1_default_redis-cc.gz"
LABELS = {
    "service": "api", "subscription": "s", "environment": "e", "pod": "api-7", "namespace": "default", "container": "platform",
    "container_id": "aa",
}  # fmt: skip
TEXT = b"".join(b'{"time":"%d","log":"line %d"}\r\n' % (number, number) for number in range(60_000))
HALF = len(TEXT) // 2
PACKED = gzip_member(TEXT[:HALF], 6, (HALF // 2,)) + gzip_member(TEXT[HALF:])


@pytest.fixture
def site(kafka_settings: KafkaSettings, topics: TopicSettings, azurite: LocalAzurite, container: str) -> Iterator[Site]:
    """A container with a blob of a selector."""
    site = Site(kafka_settings, topics, azurite.connection_string, container)
    put(site, API, PACKED)
    yield site
    site.shut()


@pytest.fixture
def config(site: Site, tmp_path: Path) -> str:
    """Settings that follow the selector."""
    values = site.settings()
    environment: dict[str, Any] = values["subscriptions"]["s"]["environments"]["e"]
    environment["sources"] = [{"container": site.container, "layout": "kubernetes", "selectors": ["api"]}]
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(values))
    file.chmod(0o600)
    return str(file)


def put(site: Site, name: str, data: bytes) -> None:
    """Write a blob."""
    site.service.get_blob_client(site.container, name).upload_blob(data, overwrite=True)


def written(site: Site, topic: str) -> list[Segment]:
    """Return the segments in a raw topic, and check that each is where everything about its blob is."""
    records = site.read(topic)
    segments = [Segment.from_message(record.headers, record.value or b"") for record in records]
    assert all(record.key == BlobId.parse(one.blob).key for record, one in zip(records, segments, strict=True))
    assert len({record.partition for record in records}) <= 1
    return segments


def test_the_segments_are_those_of_ingest(site: Site, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before and after ingest has read the blob; its checkpoint and completions stay, and lines from an offset are a part."""
    topic, checkpoint = site.topics.raw_application_logs, site.topics.checkpoints
    blob = site.id(API)
    assert run(["ingest-blob", "--config", config, "--json", blob]) == 0
    result = json.loads(capsys.readouterr().out)
    once = written(site, topic)
    assert b"".join(one.data for one in once) == TEXT
    assert (result["lines"], result["bytes"], result["segments"]) == (60_000, len(TEXT), len(once))
    assert (result["start_offset"], result["end_offset"], result["blob_bytes_read"]) == (0, len(TEXT), len(PACKED))
    assert (result["topic"], result["encoding"], result["refused"]) == (topic, "gzip", 0)
    assert site.read(checkpoint) == site.read(site.topics.completions) == site.read(site.topics.errors) == []
    with ingesting(site):
        seen = site.observe(API, stream="application_logs", labels=LABELS)
        site.until_read(API, seen.etag)
    both, before = written(site, topic), len(site.read(checkpoint))
    assert both == [*once, *once]
    assert {one.labels for one in once} == {pack_labels(LABELS)}
    start = TEXT.index(b'{"time":"41000"') - 7
    assert run(["ingest-blob", "--config", config, "--start-offset", str(start), blob]) == 0
    assert f"  19,000 lines in {len(written(site, topic)) - len(both)} segments written to {topic}" in capsys.readouterr().out
    later = written(site, topic)[len(both) :]
    assert (later[0].start, later[0].generation) == (start + 7, once[0].generation)
    assert b"".join(one.data for one in later) == TEXT[start + 7 :]
    assert len(site.read(checkpoint)) == before


@pytest.mark.parametrize(
    ("words", "name", "message"),
    [
        ([], "kubernetes/20260501.api-8_default_platform-bb.gz", "blobtide: there is no blob s.e/"),
        ([], OTHER, "no source or selector of an enabled environment takes it"),
        (["--start-offset", "9"], API, "ingest has read s.e/"),
        (["--service", "apo"], API, "has a selector apo; did you mean api?; known are api"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(
    site: Site, config: str, words: list[str], name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what is wrong, and nothing is written."""
    assert run(["ingest-blob", "--config", config, *words, site.id(name)]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert site.read(site.topics.raw_application_logs) == []


def test_a_blob_that_no_selector_takes_is_read_as_one_of_a_service(
    site: Site, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be read of it is in the errors, and the exit code says so."""
    put(site, OTHER, gzip_member(b"one\ntwo") + b"rubbish")
    with pytest.raises(SystemExit) as ended:
        run(["ingest-blob", "--config", config, "--service", "api", "--closed", site.id(OTHER)])
    assert ended.value.code == 1
    assert "  refused: trailing_bytes at " in capsys.readouterr().out
    segments = written(site, site.topics.raw_application_logs)
    assert b"".join(one.data for one in segments) == b"one\ntwo"
    assert {json.loads(one.labels)["service"] for one in segments} == {"api"}
    assert [dict(letter.headers)["code"] for letter in site.read(site.topics.errors)] == [b"trailing_bytes"]
