"""The cost of a start per known blob, most of them closed: reading what the monitor and ingest know about it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from benchmarks.estates import ENVIRONMENT, SUBSCRIPTION
from benchmarks.lister import blob_name
from benchmarks.measured import Measured, Sample, Work
from benchmarks.monitoring import CONTAINER, each, settings, storage
from benchmarks.site import Site, wait_until
from benchmarks.worker import SERVICE, Worker, running
from libs.common.kafka.records import Outbound
from libs.common.messages.events import BlobCheckpoint, BlobState, BlobStatus, CheckpointStatus, Stream, encode_event
from libs.local.kafka import LocalKafka

_SIZE: Final = 1_000
_ORDINAL: Final = 12
_LISTING_SECONDS: Final = 1_800.0


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is known at the start, and how much of it is open."""

    scopes: int
    known_blobs: int
    open_blobs: int


@dataclass(frozen=True, slots=True)
class _Blob:
    """A blob of a past hour; an open one was written just now."""

    key: str
    etag: str
    is_open: bool
    hour: datetime
    written: datetime


def measure(kafka: LocalKafka, extent: Extent) -> Iterator[Measured]:
    """Measure a monitor that finds storage empty, one that lists everything, and ingest."""
    site = Site.make(kafka)
    site.write(_state(site, blob) for blob in _blobs(extent))
    with storage("hourly", 0) as address:
        yield _monitor(replace(site.again(), extra=settings(address, "hourly")), extent)
    with storage("hourly", extent.scopes) as address:
        yield _listing(replace(site.again(), extra=settings(address, "hourly")), extent)
        site = Site.make(kafka, settings(address, "hourly"))
        site.write(_checkpoint(site, blob) for blob in _blobs(extent))
        yield _ingest(site, extent)


def _monitor(site: Site, extent: Extent) -> Measured:
    worker = Worker((*SERVICE, "blob-monitor"), site)
    with running(worker):
        sample = _read(worker, extent)
    return _row("monitor start", extent, sample, f"state read; {each(sample, extent.known_blobs)} per blob", worker)


def _listing(site: Site, extent: Extent) -> Measured:
    worker = Worker((*SERVICE, "blob-monitor"), site)
    with running(worker):
        sample = _read(worker, extent)
        listings, full = "blobtide_blob_monitor_listings_total", {"kind": "full"}
        wait_until(
            lambda: worker.metric(listings, full) >= extent.scopes, "all scopes have been listed in full", _LISTING_SECONDS
        )
    ends = f"state read, first listings; {each(sample, extent.known_blobs)} per blob; peak taken after full listings"
    return _row("monitor, per known blob", extent, sample, ends, worker)


def _read(worker: Worker, extent: Extent) -> Sample:
    before, began = worker.cpu(), time.monotonic()
    wait_until(lambda: worker.metric("blobtide_blob_monitor_open_blobs") >= extent.open_blobs, "all state has been read")
    return Sample(worker.cpu() - before, time.monotonic() - began)


def _ingest(site: Site, extent: Extent) -> Measured:
    worker = Worker((*SERVICE, "ingest"), site)
    began = time.monotonic()
    with running(worker):  # it is ready once it has read its checkpoints
        sample = Sample(worker.cpu(), time.monotonic() - began)
        wait_until(lambda: worker.metric("blobtide_ingest_checkpoints_at_hand") >= extent.open_blobs, "all is known")
    ends = f"checkpoints read, including the start of the process; {each(sample, extent.known_blobs)} per blob"
    return _row("ingest start", extent, sample, ends, worker)


def _row(stage: str, extent: Extent, sample: Sample, ends: str, worker: Worker) -> Measured:
    estate = f"{extent.known_blobs:,} known, {extent.open_blobs:,} open"
    memory = replace(worker.memory(), growth=None)  # at a start, all memory is growth
    return Measured(stage, estate, Work(0, 0, extent.known_blobs), (sample,), ends, None, memory)


def _blobs(extent: Extent) -> Iterator[_Blob]:
    now = datetime.now(UTC)
    for number in range(extent.known_blobs):
        hour = now - timedelta(hours=5 + number // extent.scopes)
        is_open = number % (extent.known_blobs // extent.open_blobs) == 0
        key = f"{SUBSCRIPTION}.{ENVIRONMENT}/{CONTAINER}/{blob_name(number % extent.scopes, hour)}"
        yield _Blob(key, f"0x8DD{number:012X}", is_open, hour, now if is_open else hour)


def _state(site: Site, blob: _Blob) -> Outbound:
    state = BlobState(
        blob.key, SUBSCRIPTION, ENVIRONMENT, Stream.FLOW_LOGS, BlobStatus.OPEN if blob.is_open else BlobStatus.CLOSED,
        blob.etag, _SIZE, "BlockBlob", blob.written, blob.hour, blob.hour, blob.written,
    )  # fmt: skip
    return Outbound(site.topics.blob_state, encode_event(state), blob.key.encode())


def _checkpoint(site: Site, blob: _Blob) -> Outbound:
    status = CheckpointStatus.OPEN if blob.is_open else CheckpointStatus.COMPLETE
    checkpoint = BlobCheckpoint(
        blob.key, blob.etag, status, _SIZE, _ORDINAL, _ORDINAL, blob.etag, _SIZE, _ORDINAL, blob.etag, blob.hour, blob.written
    )
    return Outbound(site.topics.checkpoints, encode_event(checkpoint), blob.key.encode())
