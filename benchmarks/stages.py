"""The stages by name: what each one starts and measures. A new stage is a function and a line in `STAGES`."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from benchmarks import (
    archiving,
    arm_lists,
    estates,
    gzipped,
    ingesting,
    kernel,
    lasting,
    log_estates,
    log_kernel,
    monitoring,
    parsing,
    peers,
    pipeline,
    rollups,
    sinking,
    starting,
    storage,
)
from benchmarks.destinations import SINKS, destination
from benchmarks.measured import Measured
from libs.local.azurite import LocalAzurite
from libs.local.kafka import LocalKafka
from libs.local.process import LocalServer

_Server = TypeVar("_Server", bound=LocalServer)


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure: `parser_times` copies of its input, `gzip_text` bytes in a blob, `snapshots` of each source."""

    busy_minutes: int
    quiet_minutes: int
    quiet_nics: int
    parser_times: int
    log_lines: int
    gzip_text: int
    snapshots: int
    arm_pages: int
    repeats: int
    monitor: monitoring.Extent
    start: starting.Extent


FULL: Final = Size(
    busy_minutes=3,
    quiet_minutes=2,
    quiet_nics=5_000,
    parser_times=5,
    log_lines=100_000,
    gzip_text=32_000_000,
    snapshots=3_000,
    arm_pages=200,
    repeats=3,
    monitor=monitoring.Extent(5_000, 100_000, 120.0),
    start=starting.Extent(5_000, 1_000_000, 20_000),
)
QUICK: Final = Size(
    busy_minutes=1,
    quiet_minutes=1,
    quiet_nics=1_000,
    parser_times=4,
    log_lines=40_000,
    gzip_text=8_000_000,
    snapshots=500,
    arm_pages=40,
    repeats=1,
    monitor=monitoring.Extent(1_000, 20_000, 60.0),
    start=starting.Extent(1_000, 100_000, 2_000),
)
MONTH: Final = starting.Extent(5_000, 3_600_000, 20_000)
"""The blobs of 5,000 interfaces in thirty days, one per hour each; as many open ones as without `--long`."""
LASTING_SECONDS: Final = 240.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What stages need: how much, the logs, a directory, the kinds of sinks, and whether peers are measured as well."""

    size: Size
    data: tuple[estates.Data, ...]
    directory: Path
    kinds: tuple[str, ...] = tuple(SINKS)
    with_peers: bool = False


Stage = Callable[[Bench], Iterator[Measured]]


def _kernel(bench: Bench) -> Iterator[Measured]:
    for data in bench.data:
        yield from kernel.measure(data, bench.size.repeats)
        if bench.with_peers:
            yield from peers.measure(data, bench.directory, bench.size.repeats)


def _parser(bench: Bench) -> Iterator[Measured]:
    with _running(LocalKafka, bench) as kafka:
        for data in bench.data:
            yield from parsing.measure(kafka, parsing.Repeated(data, bench.size.parser_times), bench.size.repeats)


def _logs(bench: Bench) -> Iterator[Measured]:
    lines = bench.size.log_lines
    estates_and_rows = ((log_estates.application(lines), "application"), (log_estates.proxy(lines), "proxy"))
    for data in (*(data for data, _ in estates_and_rows), log_estates.followed(lines)):
        yield from log_kernel.measure(data, bench.size.repeats)
    with _running(LocalKafka, bench) as kafka:
        for data, rows in estates_and_rows:
            route = parsing.Route(f"raw_{rows}_logs", rows)
            yield from parsing.measure(kafka, parsing.Repeated(data, bench.size.parser_times), bench.size.repeats, route)


def _rollups(bench: Bench) -> Iterator[Measured]:
    for data in bench.data:
        yield from rollups.measure(data, bench.size.repeats)


def _storage(bench: Bench) -> Iterator[Measured]:
    """Measure everything that reads from storage; both estates use the same container, so each gets its own Azurite."""
    for data in bench.data:
        with _running(LocalKafka, bench) as kafka, _running(LocalAzurite, bench) as azurite:
            storage.upload(azurite, data)
            yield from storage.measure_reads(azurite, data, bench.size.repeats)
            yield ingesting.measure(kafka, azurite, data, bench.size.repeats)
            yield pipeline.measure(kafka, azurite, data, bench.size.repeats)


def _gzip(bench: Bench) -> Iterator[Measured]:
    estate = gzipped.Estate(bench.size.gzip_text)
    yield from gzipped.measure(estate, bench.size.repeats)
    with _running(LocalKafka, bench) as kafka, _running(LocalAzurite, bench) as azurite:
        yield gzipped.measure_process(kafka, azurite, estate, bench.size.repeats)


def _archive(bench: Bench) -> Iterator[Measured]:
    yield from archiving.measure(bench.size.snapshots, bench.directory, bench.size.repeats)


def _arm(bench: Bench) -> Iterator[Measured]:
    yield from arm_lists.measure(bench.size.arm_pages, bench.size.repeats)


def _monitor(bench: Bench) -> Iterator[Measured]:
    with _running(LocalKafka, bench) as kafka:
        yield from monitoring.measure(kafka, bench.size.monitor)


def _start(bench: Bench) -> Iterator[Measured]:
    with _running(LocalKafka, bench) as kafka:
        yield from starting.measure(kafka, bench.size.start)


def _sinks(bench: Bench) -> Iterator[Measured]:
    with _running(LocalKafka, bench) as kafka:
        extent = sinking.Extent(bench.kinds, bench.size.repeats, bench.with_peers)
        yield from sinking.measure(kafka, bench.directory, bench.data[0], extent)


def _lasting(bench: Bench) -> Iterator[Measured]:
    data = bench.data[0]
    with _running(LocalKafka, bench) as kafka:
        yield lasting.parser(kafka, data, LASTING_SECONDS)
        for name in bench.kinds:
            with destination(name, bench.directory / "lasting") as place:
                if place is not None:
                    yield lasting.sink(kafka, place, data, LASTING_SECONDS)
    for data in bench.data:
        with _running(LocalKafka, bench) as kafka, _running(LocalAzurite, bench) as azurite:
            storage.upload(azurite, data)
            yield lasting.ingest(kafka, azurite, data, LASTING_SECONDS)


def _month(bench: Bench) -> Iterator[Measured]:
    with _running(LocalKafka, bench) as kafka:
        yield from starting.measure(kafka, MONTH)


STAGES: Final[dict[str, Stage]] = {
    "kernel": _kernel,
    "parser": _parser,
    "logs": _logs,
    "rollups": _rollups,
    "storage": _storage,
    "gzip": _gzip,
    "archive": _archive,
    "arm": _arm,
    "monitor": _monitor,
    "start": _start,
    "sinks": _sinks,
}
LONG: Final[dict[str, Stage]] = {"lasting": _lasting, "month": _month}
"""Run only on request: they take half an hour, and show whether memory grows."""


@contextlib.contextmanager
def _running(kind: type[_Server], bench: Bench) -> Iterator[_Server]:
    """Run a server that forgets everything."""
    server = kind(Path(tempfile.mkdtemp(dir=bench.directory)) / kind.name)
    server.start()
    try:
        yield server
    finally:
        server.kill()
