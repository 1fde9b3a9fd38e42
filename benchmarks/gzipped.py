"""gzip lines: blobs with many members, unpacked into segments by ingest's own steps, by zlib as their peer, and by ingest.

Sixteen blobs are in flight at the same time, as ingest has them by default.
"""

from __future__ import annotations

import gzip
import itertools
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

from benchmarks import ingesting, log_estates
from benchmarks.errors import BenchmarkFailed
from benchmarks.estates import Data, FlowBlob
from benchmarks.measured import Measured, Sample, Work
from benchmarks.site import Site, storage_settings
from benchmarks.storage import ALIAS, announcements, container_of, upload
from libs.common.azure.storage.api import BlobInfo, BlockList
from libs.common.messages.blobs import BlobId
from libs.common.messages.events import BlobCheckpoint, Stream
from libs.common.settings.ingest import IngestSettings
from libs.demo.commits import NewBlock
from libs.local.azurite import LocalAzurite
from libs.local.kafka import LocalKafka
from services.ingest.cutting.window import SizeLimits
from services.ingest.limits import MOST_RECORD_BYTES, allowance
from services.ingest.reading.decoders import Decoders
from services.ingest.reading.reader import BlobReader
from services.ingest.work import Announcement, ReadingTask

STEPS: Final = "gzip lines to segments"
ZLIB: Final = "zlib, cut at newlines"
_PROCESS: Final = "ingest process, gzip lines"
_NAME: Final = "gzip"
_BLOBS: Final = 16
_LINES: Final = 10_000  # that differ
_MEMBER_BYTES: Final = 1_000_000  # of text: a minute of a pod that logs 2,000 lines a second
_LEVEL: Final = 6
_NOW: Final = datetime(2026, 5, 1, tzinfo=UTC)


class Estate:
    """Sixteen blobs with the same lines: `text_bytes` of text each, in members."""

    def __init__(self, text_bytes: int) -> None:
        lines = b"".join(segment.data for segment in log_estates.application(_LINES).segments).splitlines(keepends=True)
        texts = [b"".join(lines[begin : begin + _LINES // 8]) for begin in range(0, len(lines), _LINES // 8)]
        members = [(gzip.compress(text, _LEVEL), text.count(b"\n"), len(text)) for text in texts]
        times = max(1, text_bytes // sum(size for _, _, size in members))
        self.packed = b"".join(member for member, _, _ in members) * times
        self.text_bytes = times * sum(size for _, _, size in members)
        self.lines = times * sum(count for _, count, _ in members)

    @property
    def work(self) -> Work:
        """What there is to do: lines, and bytes of text."""
        return Work(_BLOBS * self.lines, _BLOBS * self.text_bytes, _BLOBS)

    def data(self) -> Data:
        """Return it for the functions that write and announce blobs."""
        names = (f"kubernetes/20260501.api-{number}_default_platform-aa.gz" for number in range(_BLOBS))
        blobs = (FlowBlob(BlobId(ALIAS, "gzip-lines", name), (NewBlock("b0", self.packed),)) for name in names)
        return Data(_NAME, tuple(blobs), (), self.work.tuples)


def measure(estate: Estate, repeats: int) -> Iterator[Measured]:
    """Unpack all blobs in this process, from memory, step by step; and with the standard library."""
    for stage, unpack, against in ((STEPS, _by_steps, ZLIB), (ZLIB, _by_zlib, None)):
        samples = tuple(_timed(unpack, estate) for _ in range(repeats))
        yield Measured(stage, _NAME, estate.work, samples, "in memory", against)


def measure_process(kafka: LocalKafka, azurite: LocalAzurite, estate: Estate, repeats: int) -> Measured:
    """Start ingest, announce all blobs and wait until everything is committed; topics are new each time."""
    data = estate.data()
    upload(azurite, data)
    results = []
    for _ in range(repeats):
        site = Site.make(kafka, storage_settings(azurite, container_of(data)))
        results.append(ingesting.ingested(site, list(announcements(azurite, data, site.topics.blobs))))
        _check(site.total(site.topics.raw_flow_logs, lambda value, _: len(value)), estate)
    memory = max((found for _, found in results), key=lambda one: one.peak)
    return Measured(_PROCESS, _NAME, estate.work, tuple(sample for sample, _ in results), ingesting.ENDS, STEPS, memory)


def _timed(unpack: Callable[[Estate], int], estate: Estate) -> Sample:
    began = time.process_time()
    found = unpack(estate)
    sample = Sample(time.process_time() - began)
    _check(found, estate)
    return sample


def _check(found: int, estate: Estate) -> None:
    if found != estate.work.bytes:
        raise BenchmarkFailed(f"the segments contain {found} bytes, but the text {estate.work.bytes}")


def _by_steps(estate: Estate) -> int:
    settings = IngestSettings()
    limits = SizeLimits(settings.segment_bytes, settings.max_line_bytes, MOST_RECORD_BYTES)
    reader = BlobReader(lambda _: limits, Decoders(settings.decoder_bytes))
    container = _OneBlob(estate.packed)
    blobs = [_Blob(reader, container, number) for number in range(_BLOBS)]
    found = 0
    while blobs:
        found += sum(blob.step() for blob in blobs)
        blobs = [blob for blob in blobs if blob.has_more]
    return found


def _by_zlib(estate: Estate) -> int:
    """Decompress as the documentation of the standard library shows it, and cut at newlines, with as much read at once."""
    return sum(sum(map(len, _cut(_texts(estate.packed)))) for _ in range(_BLOBS))


def _texts(packed: bytes) -> Iterator[bytes]:
    size = IngestSettings().read_bytes
    for begin in range(0, len(packed), size):
        data = packed[begin : begin + size]
        if begin == 0:
            member = zlib.decompressobj(31)
        while data:
            yield member.decompress(data)
            data = member.unused_data
            if member.eof:
                member = zlib.decompressobj(31)


def _cut(texts: Iterator[bytes]) -> Iterator[bytes]:
    size, rest = IngestSettings().segment_bytes, b""
    for text in itertools.chain(texts, (b"",)):
        rest += text
        while len(rest) > size or (not text and rest):
            end = rest.rfind(b"\n", 0, size) + 1
            yield rest[:end]
            rest = rest[end:]


class _Blob:
    """One blob in flight."""

    def __init__(self, reader: BlobReader, container: _OneBlob, number: int) -> None:
        self._reader = reader
        self._container = container
        self._checkpoint: BlobCheckpoint | None = None
        self._announcement = Announcement(
            BlobId(ALIAS, "gzip-lines", str(number)), "1", container.size, closed=True, blob_type="BlockBlob", creation_etag="1"
        )
        self.has_more = True

    def step(self) -> int:
        """Do a step; return the bytes of its segments."""
        most = allowance(self._container.size, self._checkpoint, IngestSettings().read_bytes)
        task = ReadingTask(self._announcement, self._checkpoint, Stream.APPLICATION_LOGS, most)
        step = self._reader.step(self._container, task)
        self._checkpoint, self.has_more = step.checkpoint or self._checkpoint, step.more
        return step.bytes


class _OneBlob:
    """A `Container` in memory, in which all names have the same content."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def info(self, name: str) -> BlobInfo:
        return BlobInfo(name, "1", self.size, "BlockBlob", _NOW, None)

    def block_list(self, name: str) -> BlockList:
        del name
        return BlockList("1", self.size, _NOW, ())

    def read(self, name: str, start: int, end: int, etag: str) -> bytes:
        del name, etag
        return self._data[start:end]

    def probe(self) -> None:
        """Tell no time."""

    def list_blobs(self, prefix: str) -> Iterator[BlobInfo]:
        del prefix
        yield from ()

    def list_directories(self, prefix: str, delimiter: str = "/") -> Iterator[str]:
        del prefix, delimiter
        yield from ()

    def close(self) -> None:
        """Nothing to close."""
