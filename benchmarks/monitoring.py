"""The monitor as a process: the cost of listing per scope and per blob.

Storage is a server of our own that answers only listings: an emulator would use most of the machine.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.errors import BenchmarkFailed
from benchmarks.estates import ENVIRONMENT, SUBSCRIPTION
from benchmarks.measured import Measured, Sample, Work
from benchmarks.site import Site, wait_until
from benchmarks.worker import SERVICE, Worker, running
from libs.local.kafka import LocalKafka
from libs.local.ports import free_port

_KEY: Final = "a2V5"
CONTAINER: Final = "logs"


@dataclass(frozen=True, slots=True)
class Extent:
    """How much to measure."""

    scopes: int
    flat_blobs: int
    seconds: float


def measure(kafka: LocalKafka, extent: Extent) -> Iterator[Measured]:
    """Measure growing scopes, and a flat prefix that does not grow."""
    with storage("hourly", extent.scopes) as address:
        yield _scopes(Site.make(kafka, settings(address, "hourly")), extent)
    with storage("flat", extent.flat_blobs) as address:
        yield _flat(Site.make(kafka, settings(address, "flat")), extent)


def _scopes(site: Site, extent: Extent) -> Measured:
    worker = Worker((*SERVICE, "blob-monitor"), site)
    with running(worker):
        wait_until(lambda: worker.metric("blobtide_blob_monitor_open_blobs") >= extent.scopes, "every scope has been listed")
        sample, listings, requests = _watched(worker, extent.seconds)
    requests_per_minute = f"{60 * requests / extent.seconds:,.0f} requests per minute"
    ends = f"announcements committed; {each(sample, listings)} per listing, {requests_per_minute}, {_share(sample)} of a core"
    return Measured(
        "monitor, per scope", f"{extent.scopes:,} growing", Work(0, 0, listings), (sample,), ends, None, worker.memory()
    )


def _flat(site: Site, extent: Extent) -> Measured:
    worker = Worker((*SERVICE, "blob-monitor"), site)
    with running(worker):
        wait_until(lambda: worker.metric("blobtide_blob_monitor_known_blobs") >= extent.flat_blobs, "every blob is known")
        before = worker.metric("blobtide_blob_monitor_blobs_total")
        sample, _, _ = _watched(worker, extent.seconds)
        blobs = int(worker.metric("blobtide_blob_monitor_blobs_total") - before)
    ends = f"compared with what is known; {each(sample, blobs)} per blob, {_share(sample)} of a core"
    return Measured(
        "monitor, per listed blob", f"{extent.flat_blobs:,} flat", Work(0, 0, blobs), (sample,), ends, None, worker.memory()
    )


def _watched(worker: Worker, seconds: float) -> tuple[Sample, int, int]:
    """Return the cost of so many seconds of work, and the number of listings and requests made."""

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


def each(sample: Sample, count: int) -> str:
    """Return the cost of each of `count` as text."""
    return f"{1_000_000 * sample.cpu / count:,.1f} µs" if count else "nothing"


def _share(sample: Sample) -> str:
    return f"{sample.cpu / (sample.wall or 1.0):.0%}"


def settings(address: str, layout: str) -> dict[str, Any]:
    """Return the settings of a monitor that follows one container of a lister."""
    environment = {
        "storage": {"account_url": f"{address}/account", "account_key": _KEY},
        "sources": [{"container": CONTAINER, "layout": layout}],
    }
    return {"subscriptions": {SUBSCRIPTION: {"environments": {ENVIRONMENT: environment}}}}


@contextlib.contextmanager
def storage(form: str, count: int) -> Iterator[str]:
    """Run a lister; return its address."""
    port = free_port()
    process = subprocess.Popen((sys.executable, "-m", "benchmarks.lister", str(port), form, str(count)))
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
