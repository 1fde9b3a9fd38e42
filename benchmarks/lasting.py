"""Longer runs that show whether memory stays flat: a process that works without a pause, sampled all the time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Final

from benchmarks.estates import Data
from benchmarks.ingesting import INGEST, rounds
from benchmarks.measured import Measured, Sample, Work
from benchmarks.parsing import PARSER, Repeated
from benchmarks.pipeline import row_count
from benchmarks.site import Site, storage_settings, wait_until
from benchmarks.storage import container_of
from benchmarks.worker import SERVICE, Worker, running
from libs.local.azurite import LocalAzurite
from libs.local.kafka import LocalKafka

_TUPLES_A_SECOND: Final = 200_000  # what both processes and the broker reach together on two cores
_LASTING: Final = ", lasting"


def ingest(kafka: LocalKafka, azurite: LocalAzurite, data: Data, seconds: float) -> Measured:
    """Let ingest read all blobs again and again."""
    site = Site.make(kafka, storage_settings(azurite, container_of(data)))
    worker = Worker((*SERVICE, "ingest"), site)
    count = 0
    with running(worker):
        before, began = worker.cpu(), time.monotonic()
        for count in rounds(site, azurite, data):  # noqa: B007 - the last one is used
            worker.check()
            if time.monotonic() - began >= seconds:
                break
        sample = Sample(worker.cpu() - before, time.monotonic() - began)
    work = Work(count * data.tuples, count * data.blob_bytes, count * len(data.blobs))
    ends = "segments, checkpoints, offsets committed"
    return Measured(INGEST + _LASTING, data.name, work, (sample,), ends, memory=worker.memory())


def parser_and_file_sink(kafka: LocalKafka, data: Data, seconds: float) -> Iterator[Measured]:
    """Let parser and file sink work off a long backlog at the same time."""
    load = Repeated(data, math.ceil(seconds * _TUPLES_A_SECOND / data.tuples))
    site = Site.make(kafka)
    files = site.directory / "flows"
    site.extra["sinks"] = {"file": {"directory": str(files)}}
    site.write(load.records(site.topics.raw_flow_logs))
    parser, sink = Worker((*SERVICE, "parser"), site), Worker((*SERVICE, "sink", "file"), site)
    with running(sink, parser):
        before, began = (parser.cpu(), sink.cpu()), time.monotonic()

        def done() -> bool:
            parser.check()
            sink.check()
            return row_count(files) >= load.work.tuples

        wait_until(done, "all rows are in files", 20 * seconds)
        wall = time.monotonic() - began
        samples = [Sample(worker.cpu() - used, wall) for worker, used in zip((parser, sink), before, strict=True)]
    for stage, worker, sample in zip((PARSER, "sink file"), (parser, sink), samples, strict=True):
        ends = "last row in a complete file"
        yield Measured(stage + _LASTING, data.name, load.work, (sample,), ends, memory=worker.memory())
