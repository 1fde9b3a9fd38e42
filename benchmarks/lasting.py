"""Longer runs that show whether memory stays flat: a process that works without a pause, sampled all the time."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.estates import Data
from benchmarks.ingesting import INGEST, rounds
from benchmarks.measured import Measured, Sample, Work
from benchmarks.parsing import PARSER, ROWS_COMMITTED, Repeated, worked_off
from benchmarks.sinking import ENDS, sink_worker
from benchmarks.site import Site, storage_settings
from benchmarks.storage import container_of
from benchmarks.worker import SERVICE, Worker, running
from libs.local.azurite import LocalAzurite
from libs.local.kafka import LocalKafka

_TUPLES_A_SECOND: Final = 150_000  # what parser and broker reach together on two cores
_ROWS: Final = "blobtide_sink_rows_total"
_LOOK_SECONDS: Final = 0.5
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


@dataclass(frozen=True, slots=True)
class Parsed:
    """Where the parser has written all rows of a load."""

    site: Site
    load: Repeated


def parser(kafka: LocalKafka, data: Data, seconds: float) -> tuple[Measured, Parsed]:
    """Let the parser work off a long backlog."""
    load = Repeated(data, math.ceil(seconds * _TUPLES_A_SECOND / data.tuples))
    site = Site.make(kafka)
    site.write(load.records(site.topics.raw_flow_logs))
    sample, memory = worked_off(site, "parser", (*SERVICE, "parser"))
    return Measured(PARSER + _LASTING, data.name, load.work, (sample,), ROWS_COMMITTED, memory=memory), Parsed(site, load)


def sink(name: str, options: dict[str, Any], parsed: Parsed, seconds: float) -> Measured:
    """Let one sink write what the parser wrote, for so long or until all is written."""
    work = parsed.load.work
    worker = sink_worker(parsed.site.again(), name, options)
    with running(worker):
        before, began = worker.cpu(), time.monotonic()
        rows = 0
        while rows < work.tuples and time.monotonic() - began < seconds:
            time.sleep(_LOOK_SECONDS)
            worker.check()
            rows = max(rows, int(worker.metric(_ROWS)))  # 0 while it does not answer
        sample = Sample(worker.cpu() - before, time.monotonic() - began)
    done = Work(rows, rows * work.bytes // work.tuples)
    return Measured(f"sink {name}{_LASTING}", parsed.load.data.name, done, (sample,), ENDS[name], memory=worker.memory())
