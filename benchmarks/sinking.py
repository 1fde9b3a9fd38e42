"""Sinks as processes, from flow batches in Kafka to rows in each destination. Sinks without a server are left out."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

from benchmarks.errors import BenchmarkFailed
from benchmarks.estates import Data
from benchmarks.measured import Measured, Memory, Sample
from benchmarks.parsing import Repeated
from benchmarks.site import Site, wait_until
from benchmarks.worker import SERVICE, Worker, running
from libs.common.kafka.records import Outbound
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.wire import row_headers
from libs.common.settings.parser import ParserSettings
from libs.local.errors import ServerMissing
from libs.local.kafka import LocalKafka
from libs.local.process import LocalServer
from services.parser.app import encoded
from services.parser.flows.kernel import Parsed, parse
from tests.contract.harness import benchmarks

SINKS: Final = benchmarks()
"""What to measure, by kind: each kind's harness says how."""


def measure(kafka: LocalKafka, directory: Path, data: Data, repeats: int) -> Iterator[Measured]:
    """Preload flow batches, then let each sink process them with its own group and destination."""
    sites = {times: _filled(kafka, Repeated(data, times)) for times in {one.times for one in SINKS.values()}}
    for name, measured in SINKS.items():
        with destination(name, directory) as options:
            if options is None:
                continue
            results = [_worked_off(sites[measured.times], name, options) for _ in range(repeats)]
        samples = tuple(sample for sample, _ in results)
        memory = max((found for _, found in results), key=lambda one: one.peak)
        yield Measured(f"sink {name}", data.name, Repeated(data, measured.times).work, samples, measured.ends, None, memory)


def _filled(kafka: LocalKafka, load: Repeated) -> Site:
    site = Site.make(kafka)
    site.write(_batches(site, load))
    return site


@contextlib.contextmanager
def destination(name: str, directory: Path) -> Iterator[dict[str, Any] | None]:
    """Run the destination of sink `name` and yield the sink's options; if it is missing, print why and yield None."""
    measured = SINKS[name]
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] | None = None
        try:
            server = None if measured.server is None else stack.enter_context(_running(measured.server(directory / name)))
            options = dict(measured.options(server))
        except ServerMissing as error:
            print(f"no row for {name}: {error}", file=sys.stderr)
        yield options


def sink_worker(site: Site, name: str, options: dict[str, Any]) -> Worker:
    """Return sink `name` with its own group and destination at `site`, set up but not started."""
    measured = SINKS[name]
    place = str(site.directory / name) if measured.is_directory else site.kafka.group_prefix
    site.extra["sinks"] = {name: {**options, measured.own: place}}
    if measured.needs_setup:
        _set_up(site, name)
    return Worker((*SERVICE, "sink", name), site)


def _worked_off(site: Site, name: str, options: dict[str, Any]) -> tuple[Sample, Memory]:
    again = site.again()
    worker = sink_worker(again, name, options)
    with running(worker):
        before, began = worker.cpu(), time.monotonic()

        def done() -> bool:
            worker.check()
            return again.lag(f"sink.{name}", again.topics.flows) == 0

        wait_until(done, f"sink {name} has written all rows")
        sample = Sample(worker.cpu() - before, time.monotonic() - began)
    return sample, worker.memory()


def _set_up(site: Site, name: str) -> None:
    argv = (sys.executable, "-m", "services.cli.main", "sink-setup", name, "--config", str(site.config))
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkFailed(f"sink-setup {name}: {done.stderr.strip()}")


def _batches(site: Site, load: Repeated) -> Iterator[Outbound]:
    for piece in chain.from_iterable(repeated.portions() for repeated in load.again()):
        yield from flow_batches(parse(piece.segments), piece.partitions, site.topics.flows)


def flow_batches(parsed: Parsed, partitions: Sequence[int], topic: str) -> Iterator[Outbound]:
    """Yield what the parser writes; `partitions` has the partition of each segment."""
    for partition, part in encoded(parsed, partitions, ParserSettings().batch_bytes):
        headers = (*row_headers(FLOWS), ("rows", str(part.rows).encode()))
        yield Outbound(topic, part.data, headers=headers, partition=partition)


@contextlib.contextmanager
def _running(server: LocalServer) -> Iterator[LocalServer]:
    server.start()
    try:
        yield server
    finally:
        server.kill()
