"""The parser as a process, from Kafka to Kafka, exactly once, and a copier in its place as the limit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from msgspec import structs

from benchmarks.copying import ROLE as COPY
from benchmarks.errors import BenchmarkFailed
from benchmarks.estates import Data
from benchmarks.measured import Measured, Memory, Sample, Work
from benchmarks.site import Site, rows_in, wait_until
from benchmarks.worker import SERVICE, Worker, running
from libs.common.kafka.records import Outbound
from libs.local.kafka import LocalKafka

PARSER: Final = "parser process"
COPIER: Final = "Kafka copy, no parsing"
ROWS_COMMITTED: Final = "rows and offsets committed"


@dataclass(frozen=True, slots=True)
class Repeated:
    """Preloaded segments: `data` repeated `times` times, each time as another generation of the same blobs."""

    data: Data
    times: int

    @property
    def work(self) -> Work:
        """The work of one repetition."""
        return Work(self.times * self.data.tuples, self.times * self.data.segment_bytes)

    def again(self) -> Iterator[Data]:
        """Yield the data once per repetition, each time as another generation."""
        for number in range(self.times):
            yield another(self.data, number)

    def records(self, topic: str) -> Iterator[Outbound]:
        """Yield the segments as ingest writes them."""
        for data in self.again():
            yield from raw_records(data, topic)


def another(data: Data, number: int) -> Data:
    """Return the data as generation `number` of the same blobs."""
    segments = tuple(structs.replace(one, generation=f"{one.generation}.{number}") for one in data.segments)
    return replace(data, segments=segments)


def raw_records(data: Data, topic: str) -> Iterator[Outbound]:
    """Yield the segments as ingest writes them."""
    for segment in data.segments:
        yield Outbound(topic, segment.data, segment.blob.encode(), segment.headers())


@dataclass(frozen=True, slots=True)
class Route:
    """The way of a stream: the fields of the settings that name the topic of its segments, and that of its rows."""

    raw: str = "raw_flow_logs"
    rows: str = "flows"


def measure(kafka: LocalKafka, load: Repeated, repeats: int, route: Route | None = None) -> Iterator[Measured]:
    """Preload the raw topic, then let the parser and the copier process it."""
    route = route or Route()
    site = Site.make(kafka)
    raw = str(getattr(site.topics, route.raw))
    site.write(load.records(raw))
    copied = [worked_off(site.again(), COPY, ("-m", "benchmarks.copying", raw), raw) for _ in range(repeats)]
    parsed = [worked_off(site.again(), "parser", (*SERVICE, "parser"), raw) for _ in range(repeats)]
    _check(site, load, repeats, str(getattr(site.topics, route.rows)))
    name = load.data.name
    for stage, results, against in ((PARSER, parsed, COPIER), (COPIER, copied, None)):
        samples = tuple(sample for sample, _ in results)
        memory = max((found for _, found in results), key=lambda one: one.peak)
        yield Measured(stage, name, load.work, samples, ROWS_COMMITTED, against, memory)


def worked_off(site: Site, role: str, words: tuple[str, ...], raw: str) -> tuple[Sample, Memory]:
    """Let a process read the whole topic `raw`; return the cost."""
    worker = Worker(words, site)
    with running(worker):
        before, began = worker.cpu(), time.monotonic()

        def done() -> bool:
            worker.check()
            return site.lag(role, raw) == 0

        wait_until(done, f"{role} has read all segments")
        sample = Sample(worker.cpu() - before, time.monotonic() - began)
    return sample, worker.memory()


def _check(site: Site, load: Repeated, repeats: int, topic: str) -> None:
    expected = repeats * load.work.tuples
    found = site.total(topic, rows_in)
    if found != expected:
        raise BenchmarkFailed(f"{topic} contains {found} rows, but the segments contained {expected} of them")
