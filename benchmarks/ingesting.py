"""Ingest as a process, from announced blobs in a real Azurite to segments in Kafka, exactly once.

Blobs are announced once the process has had its partitions for a while. During the first seconds, ingest records each blob
before reading it, so that a blob that crashes it can be identified; that is not part of a blob's normal cost.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.errors import BenchmarkFailed
from benchmarks.estates import Data
from benchmarks.measured import Measured, Memory, Sample, Work
from benchmarks.site import Site, storage_settings, wait_until
from benchmarks.storage import OWN_READS, announcements, container_of
from benchmarks.worker import SERVICE, Worker, running
from libs.common.kafka.records import Outbound
from libs.local.azurite import LocalAzurite
from libs.local.kafka import LocalKafka
from services.ingest.pending.tries import CAREFUL_SECONDS

INGEST: Final = "ingest process"
ENDS: Final = "segments, checkpoints, offsets committed"
_TAIL: Final = len(b"]}")
_SETTLED_SECONDS: Final = CAREFUL_SECONDS + 2.0


def measure(kafka: LocalKafka, azurite: LocalAzurite, data: Data, repeats: int) -> Measured:
    """Start ingest, announce all blobs and wait until everything is committed; topics are new each time."""
    results = []
    for _ in range(repeats):
        site = Site.make(kafka, storage_settings(azurite, container_of(data)))
        results.append(ingested(site, list(announcements(azurite, data, site.topics.blobs))))
        _check(site, data)
    work = Work(data.tuples, data.blob_bytes, len(data.blobs))
    memory = max((found for _, found in results), key=lambda one: one.peak)
    return Measured(INGEST, data.name, work, tuple(sample for sample, _ in results), ENDS, OWN_READS, memory)


def ingested(site: Site, announced: Sequence[Outbound]) -> tuple[Sample, Memory]:
    """Start ingest, write announcements, and wait until all of them are committed."""
    worker = Worker((*SERVICE, "ingest"), site)
    with running(worker):
        time.sleep(_SETTLED_SECONDS)
        before, began = worker.cpu(), time.monotonic()
        site.write(announced)

        def done() -> bool:
            worker.check()
            return site.lag("ingest", site.topics.blobs) == 0

        wait_until(done, "ingest has read all blobs")
        sample = Sample(worker.cpu() - before, time.monotonic() - began)
    return sample, worker.memory()


def _check(site: Site, data: Data) -> None:
    expected = data.blob_bytes - _TAIL * len(data.blobs)
    found = site.total(site.topics.raw_flow_logs, lambda value, _: len(value))
    if found != expected:
        raise BenchmarkFailed(f"the segments contain {found} bytes, but the blobs without their tails {expected}")


def rounds(site: Site, azurite: LocalAzurite, data: Data) -> Iterator[int]:
    """Announce all blobs again whenever the previous announcements have been processed; endless."""
    number = 0
    while True:
        site.write(announcements(azurite, data, site.topics.blobs, replay_id=f"round-{number}"))
        wait_until(lambda: site.lag("ingest", site.topics.blobs) == 0, "ingest has read all blobs again")
        number += 1
        yield number
