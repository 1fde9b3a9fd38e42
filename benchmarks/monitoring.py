"""The monitor as a process: what listing costs a scope and a blob, and what a start costs a known blob.

Storage is a server of our own that answers listings only: an emulator would take most of the machine.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from benchmarks.errors import BenchmarkFailed
from benchmarks.estates import ENVIRONMENT, SUBSCRIPTION
from benchmarks.lister import blob_name
from benchmarks.measured import Measured, Sample, Work
from benchmarks.site import Site, wait_until
from benchmarks.worker import SERVICE, Worker, running
from libs.common.events import BlobState, BlobStatus, Stream, encode_event
from libs.common.kafka.records import Outbound
from libs.local.kafka import LocalKafka
from libs.local.ports import free_port

_KEY: Final = "a2V5"
_CONTAINER: Final = "logs"
_OPEN_SHARE: Final = 50  # one of so many known blobs is open


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured."""

    scopes: int
    flat_blobs: int
    known_blobs: int
    seconds: float


def measure(kafka: LocalKafka, extent: Extent) -> Iterator[Measured]:
    """Measure scopes that grow, a flat prefix that does not, and a start."""
    with _storage("hourly", extent.scopes) as address:
        yield _scopes(Site.make(kafka, _settings(address, "hourly")), extent)
    with _storage("flat", extent.flat_blobs) as address:
        yield _flat(Site.make(kafka, _settings(address, "flat")), extent)
    with _storage("hourly", extent.scopes) as address:
        yield _start(Site.make(kafka, _settings(address, "hourly")), extent)


def _scopes(site: Site, extent: Extent) -> Measured:
    worker = Worker((*SERVICE, "blob-monitor"), site)
    with running(worker):
        wait_until(lambda: worker.metric("blobtide_blob_monitor_open_blobs") >= extent.scopes, "every scope has been listed")
        sample, listings, requests = _watched(worker, extent.seconds)
    requests_a_minute = f"{60 * requests / extent.seconds:,.0f} requests a minute"
    ends = f"announcements committed; {_each(sample, listings)} a listing, {requests_a_minute}, {_share(sample)} of a core"
    return Measured(
        "monitor, a scope", f"{extent.scopes:,} growing", Work(0, 0, listings), (sample,), ends, None, worker.memory()
    )


def _flat(site: Site, extent: Extent) -> Measured:
    worker = Worker((*SERVICE, "blob-monitor"), site)
    with running(worker):
        wait_until(lambda: worker.metric("blobtide_blob_monitor_known_blobs") >= extent.flat_blobs, "every blob is known")
        before = worker.metric("blobtide_blob_monitor_blobs_total")
        sample, _, _ = _watched(worker, extent.seconds)
        blobs = int(worker.metric("blobtide_blob_monitor_blobs_total") - before)
    ends = f"compared with what is known; {_each(sample, blobs)} a blob, {_share(sample)} of a core"
    return Measured(
        "monitor, a listed blob", f"{extent.flat_blobs:,} flat", Work(0, 0, blobs), (sample,), ends, None, worker.memory()
    )


def _start(site: Site, extent: Extent) -> Measured:
    site.write(_states(site, extent))
    worker = Worker((*SERVICE, "blob-monitor"), site)
    still_open = extent.known_blobs // _OPEN_SHARE
    with running(worker):
        before, began = worker.cpu(), time.monotonic()
        wait_until(lambda: worker.metric("blobtide_blob_monitor_open_blobs") >= still_open, "all state has been read")
        sample = Sample(worker.cpu() - before, time.monotonic() - began)
        full = "blobtide_blob_monitor_listings_total"
        before_full = worker.metric(full)
        wait_until(lambda: worker.metric(full) > before_full + extent.scopes, "all scopes have been listed in full")
    ends = f"state read, first listings; {_each(sample, extent.known_blobs)} a blob, {still_open:,} open"
    return Measured(
        "monitor, a known blob",
        f"{extent.known_blobs:,} known",
        Work(0, 0, extent.known_blobs),
        (sample,),
        ends,
        None,
        worker.memory(),
    )


def _watched(worker: Worker, seconds: float) -> tuple[Sample, int, int]:
    """Return the cost of so many seconds of work, listings and requests in it."""

    def counts() -> tuple[float, ...]:
        return (
            worker.cpu(),
            worker.metric("blobtide_blob_monitor_listings_total"),
            worker.metric("blobtide_storage_requests_total"),
        )

    before, began = counts(), time.monotonic()
    time.sleep(seconds)
    worker.check()
    cpu, listings, requests = (after - former for after, former in zip(counts(), before, strict=True))
    if not listings:
        raise BenchmarkFailed("the monitor has listed nothing")
    return Sample(cpu, time.monotonic() - began), int(listings), int(requests)


def _each(sample: Sample, count: int) -> str:
    return f"{1_000_000 * sample.cpu / count:,.1f} µs" if count else "nothing"


def _share(sample: Sample) -> str:
    return f"{sample.cpu / (sample.wall or 1.0):.0%}"


def _states(site: Site, extent: Extent) -> Iterator[Outbound]:
    """Yield the state of blobs of hours that are over, of all scopes; some were written just now, and are open."""
    now = datetime.now(UTC)
    for number in range(extent.known_blobs):
        hour = now - timedelta(hours=5 + number // extent.scopes)
        is_open = number % _OPEN_SHARE == 0
        written = now if is_open else hour
        blob = f"{SUBSCRIPTION}.{ENVIRONMENT}/{_CONTAINER}/{blob_name(number % extent.scopes, hour)}"
        state = BlobState(
            blob, SUBSCRIPTION, ENVIRONMENT, Stream.FLOW_LOGS, BlobStatus.OPEN if is_open else BlobStatus.CLOSED,
            f"0x8DD{number:012X}", 1_000, "BlockBlob", written, hour, hour, written,
        )  # fmt: skip
        yield Outbound(site.topics.blob_state, encode_event(state), blob.encode())


def _settings(address: str, layout: str) -> dict[str, Any]:
    environment = {
        "storage": {"account_url": f"{address}/account", "account_key": _KEY},
        "sources": [{"container": _CONTAINER, "layout": layout}],
    }
    return {"subscriptions": {SUBSCRIPTION: {"environments": {ENVIRONMENT: environment}}}}


@contextlib.contextmanager
def _storage(form: str, count: int) -> Iterator[str]:
    """Run a lister; return its address."""
    port = free_port()
    process = subprocess.Popen((sys.executable, "-m", "benchmarks.lister", str(port), form, str(count)))
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
