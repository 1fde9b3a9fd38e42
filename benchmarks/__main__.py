"""``python -m benchmarks``: run all stages, print the table; ``--write`` keeps it in docs/benchmarks.md."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import click

from benchmarks import estates, ingesting, kernel, lasting, monitoring, parsing, pipeline, sinking, storage
from benchmarks.machine import describe, load
from benchmarks.measured import Measured
from benchmarks.report import document
from benchmarks.table import render
from libs.common.errors import BlobtideError
from libs.local.azurite import LocalAzurite
from libs.local.kafka import LocalKafka
from libs.local.process import LocalServer

_REPORT: Final = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: minutes of logs, quiet interfaces, how often the parser's input is repeated, repetitions."""

    busy_minutes: int
    quiet_minutes: int
    quiet_nics: int
    parser_times: int
    repeats: int
    lasting_seconds: float
    monitor: monitoring.Extent


_FULL: Final = Size(3, 2, 5_000, 5, 3, 60.0, monitoring.Extent(5_000, 100_000, 1_000_000, 120.0))
_QUICK: Final = Size(1, 1, 1_000, 4, 1, 0.0, monitoring.Extent(1_000, 20_000, 100_000, 60.0))

Stage = Callable[["Bench"], Iterator[Measured]]
_Server = TypeVar("_Server", bound=LocalServer)


@dataclass(frozen=True, slots=True)
class Bench:
    """What stages need."""

    size: Size
    data: tuple[estates.Data, ...]
    directory: Path


def _kernel(bench: Bench) -> Iterator[Measured]:
    for data in bench.data:
        yield from kernel.measure(data, bench.size.repeats)


def _parser(bench: Bench) -> Iterator[Measured]:
    with _running(LocalKafka, bench) as kafka:
        for data in bench.data:
            yield from parsing.measure(kafka, parsing.Repeated(data, bench.size.parser_times), bench.size.repeats)


def _storage(bench: Bench) -> Iterator[Measured]:
    """Measure all that reads from storage; both estates have the same container, so each gets an Azurite."""
    for data in bench.data:
        with _running(LocalKafka, bench) as kafka, _running(LocalAzurite, bench) as azurite:
            storage.upload(azurite, data)
            yield from storage.measure_reads(azurite, data, bench.size.repeats)
            yield ingesting.measure(kafka, azurite, data, bench.size.repeats)
            yield pipeline.measure(kafka, azurite, data, bench.size.repeats)
            if bench.size.lasting_seconds:
                yield lasting.ingest(kafka, azurite, data, bench.size.lasting_seconds)


def _monitor(bench: Bench) -> Iterator[Measured]:
    with _running(LocalKafka, bench) as kafka:
        yield from monitoring.measure(kafka, bench.size.monitor)


def _sinks(bench: Bench) -> Iterator[Measured]:
    with _running(LocalKafka, bench) as kafka:
        yield from sinking.measure(kafka, bench.directory, bench.data[0], bench.size.repeats)


def _lasting(bench: Bench) -> Iterator[Measured]:
    seconds, data = bench.size.lasting_seconds, bench.data[0]
    if not seconds:
        return
    with _running(LocalKafka, bench) as kafka:
        yield lasting.parser(kafka, data, seconds)
        for name in sinking.ENDS:
            with sinking.destination(name, bench.directory / "lasting") as options:
                if options is not None:
                    yield lasting.sink(kafka, name, options, data, seconds)


STAGES: Final[dict[str, Stage]] = {
    "kernel": _kernel,
    "parser": _parser,
    "storage": _storage,
    "monitor": _monitor,
    "sinks": _sinks,
    "lasting": _lasting,
}


@contextlib.contextmanager
def _running(kind: type[_Server], bench: Bench) -> Iterator[_Server]:
    """Run a server that forgets everything."""
    server = kind(Path(tempfile.mkdtemp(dir=bench.directory)) / kind.name)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@click.command()
@click.option("--quick", is_flag=True, help="One minute of logs, 1,000 quiet interfaces instead of 5,000: some minutes.")
@click.option("--only", "names", multiple=True, type=click.Choice(list(STAGES)), help="Only this stage; may be repeated.")
@click.option("--write", is_flag=True, help="Keep table and machine in docs/benchmarks.md.")
def main(*, quick: bool, names: tuple[str, ...], write: bool) -> None:
    """Measure what every stage costs on this machine, and print one table. It takes half an hour."""
    try:
        rows, busy = run(_QUICK if quick else _FULL, names or tuple(STAGES))
    except BlobtideError as error:
        raise click.ClickException(str(error)) from error
    print(render(rows))
    if write:
        _REPORT.write_text(document(rows, describe(), busy, quick=quick), encoding="utf-8")
        print(f"written to {_REPORT}", file=sys.stderr)


def run(size: Size, names: tuple[str, ...]) -> tuple[list[Measured], str]:
    """Run stages; return their rows, and how busy the machine was before and after them."""
    before = load()
    _say("generating logs")
    data = (estates.busy(size.busy_minutes), estates.quiet(size.quiet_minutes, size.quiet_nics))
    rows: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="blobtide-bench-") as directory:
        for name in names:
            for row in STAGES[name](Bench(size, data, Path(directory))):
                rows.append(row)
                _say(f"{row.stage}, {row.estate}")
    return rows, f"{before} before, {load()} after"


def _say(what: str) -> None:
    print(f"{what} (load {load()})", file=sys.stderr)


if __name__ == "__main__":
    main()
