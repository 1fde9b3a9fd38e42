"""Sinks as processes, from flow batches in Kafka to rows in each destination. Sinks without a server are left out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from benchmarks import sink_peers
from benchmarks.destinations import SINKS, Destination, destination
from benchmarks.estates import Data
from benchmarks.measured import Measured, Memory, Sample
from benchmarks.parsing import Repeated
from benchmarks.site import Site, wait_until
from benchmarks.worker import SERVICE, Worker, running
from libs.common.kafka.records import Outbound
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.wire import row_headers
from libs.common.settings.parser import ParserSettings
from libs.local.kafka import LocalKafka
from services.parser.batches import encoded
from services.parser.extraction import TypedRows
from services.parser.flows.kernel import Parsed, parse


@dataclass(frozen=True, slots=True)
class Extent:
    """Which kinds of sinks to measure, how often, and whether their peers as well."""

    kinds: tuple[str, ...]
    repeats: int
    with_peers: bool


def measure(kafka: LocalKafka, directory: Path, data: Data, extent: Extent) -> Iterator[Measured]:
    """Preload flow batches, then let each sink process them with its own group and destination."""
    loads = {times: Repeated(data, times) for times in sorted({SINKS[name].times for name in extent.kinds})}
    sites = {times: _filled(kafka, load) for times, load in loads.items()}
    for name in extent.kinds:
        times = SINKS[name].times
        with destination(name, directory) as place:
            if place is None:
                continue
            yield _sink(sites[times], place, loads[times], extent.repeats)
            if extent.with_peers:
                yield from sink_peers.measure(sites[times], place, data, extent.repeats)


def sink_worker(site: Site, place: Destination) -> Worker:
    """Return a sink with its own group and place at `site`, set up but not started."""
    place.options(site, {})
    return Worker((*SERVICE, "sink", place.name), site)


def flow_batches(parsed: Parsed, partitions: Sequence[int], topic: str) -> Iterator[Outbound]:
    """Yield what the parser writes; `partitions` has the partition of each segment."""
    rows = TypedRows(FLOWS, parsed.batch, parsed.segment_rows)
    for partition, part in encoded(rows, partitions, ParserSettings().batch_bytes):
        headers = (*row_headers(FLOWS), ("rows", str(part.rows).encode()))
        yield Outbound(topic, part.data, headers=headers, partition=partition)


def _filled(kafka: LocalKafka, load: Repeated) -> Site:
    site = Site.make(kafka)
    site.write(_batches(site, load))
    return site


def _sink(site: Site, place: Destination, load: Repeated, repeats: int) -> Measured:
    results = [_worked_off(site.again(), place, load) for _ in range(repeats)]
    memory = max((found for _, found in results), key=lambda one: one.peak)
    against = next(iter(sink_peers.stages(place)), None)
    samples = tuple(sample for sample, _ in results)
    return Measured(f"sink {place.name}", load.data.name, load.work, samples, place.benchmark.ends, against, memory)


def _worked_off(site: Site, place: Destination, load: Repeated) -> tuple[Sample, Memory]:
    """Let a sink write all rows; return the cost."""
    worker = sink_worker(site, place)
    options = site.extra["sinks"][place.name]
    present = place.rows(options)
    with running(worker):
        before, began = worker.cpu(), time.monotonic()

        def done() -> bool:
            worker.check()
            return site.lag(f"sink.{place.name}", site.topics.flows) == 0

        wait_until(done, f"sink {place.name} has written all rows")
        sample = Sample(worker.cpu() - before, time.monotonic() - began)
    place.check(options, present, load.work.tuples)
    return sample, worker.memory()


def _batches(site: Site, load: Repeated) -> Iterator[Outbound]:
    for piece in chain.from_iterable(repeated.portions() for repeated in load.again()):
        yield from flow_batches(parse(piece.segments), piece.partitions, site.topics.flows)
