"""Sinks as processes: flow batches in Kafka to rows in each destination. Those whose server is missing have no row."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.errors import BenchmarkFailed
from benchmarks.estates import Data
from benchmarks.measured import Measured, Memory, Sample, Work
from benchmarks.site import Site, wait_until
from benchmarks.worker import SERVICE, Worker, running
from libs.common.blobs import partition_of
from libs.common.flows.wire import FLOW_BATCH_HEADERS
from libs.common.kafka.admin import partition_count
from libs.common.kafka.records import Outbound
from libs.common.settings.services import ParserSettings
from libs.local.errors import ServerMissing
from libs.local.kafka import LocalKafka
from libs.local.opensearch import LocalOpenSearch
from libs.local.redis import LocalRedis
from services.parser.app import slices
from services.parser.kernel import parse

_ENDS: Final = {
    "file": "rows synced to disk, offsets committed",
    "redis": "commands answered, offsets committed",
    "elasticsearch": "documents answered, offsets committed",
}


def measure(kafka: LocalKafka, directory: Path, data: Data, repeats: int) -> Iterator[Measured]:
    """Preload flow batches, then let each sink work them off with a group and a destination of its own."""
    site = Site.make(kafka)
    site.write(_batches(site, data))
    for name, options in (("file", _file), ("redis", _redis), ("elasticsearch", _opensearch)):
        try:
            with options(directory / name) as common:
                results = [_worked_off(site, name, common) for _ in range(repeats)]
        except ServerMissing as error:
            print(f"no row for {name}: {error}", file=sys.stderr)
            continue
        samples = tuple(sample for sample, _ in results)
        memory = max((found for _, found in results), key=lambda one: one.peak)
        yield Measured(f"sink {name}", data.name, Work(data.tuples, data.segment_bytes), samples, _ENDS[name], None, memory)


def _worked_off(site: Site, name: str, common: dict[str, Any]) -> tuple[Sample, Memory]:
    again = site.again()
    own = {"file": "directory", "redis": "prefix", "elasticsearch": "index_prefix"}[name]
    place = str(again.directory / "flows") if name == "file" else again.kafka.group_prefix
    again.extra["sinks"] = {name: {**common, own: place}}
    if name == "elasticsearch":
        _set_up(again, name)
    worker = Worker((*SERVICE, "sink", name), again)
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


def _batches(site: Site, data: Data) -> Iterable[Outbound]:
    """Yield what the parser writes."""
    partitions = partition_count(site.kafka, site.topics.flows)
    for piece in data.polls():
        number = partition_of(piece[0].blob.encode(), partitions)
        for part in slices(parse(piece).batch, ParserSettings().batch_bytes):
            headers = (*FLOW_BATCH_HEADERS, ("rows", str(part.rows).encode()))
            yield Outbound(site.topics.flows, part.data, headers=headers, partition=number)


@contextlib.contextmanager
def _file(_: Path) -> Iterator[dict[str, Any]]:
    yield {}


@contextlib.contextmanager
def _redis(directory: Path) -> Iterator[dict[str, Any]]:
    server = LocalRedis(directory)
    server.start()
    try:
        yield {"url": server.url}
    finally:
        server.kill()


@contextlib.contextmanager
def _opensearch(directory: Path) -> Iterator[dict[str, Any]]:
    server = LocalOpenSearch(directory)
    server.start()
    try:
        yield {"hosts": [server.url]}
    finally:
        server.kill()
