"""The destinations of sinks: each runs while it is needed, and gives every writer a place of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.errors import BenchmarkFailed
from benchmarks.site import Site, wait_until
from libs.local.errors import ServerMissing
from libs.local.process import LocalServer
from tests.contract.harness import Benchmark, benchmarks

SINKS: Final = benchmarks()
"""What to measure, by kind: each kind's harness says how."""

_COUNT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a sink writes to.

    Attributes:
        name: the kind of the sink.
        server: its server, if it needs one.
    """

    name: str
    server: LocalServer | None

    @property
    def benchmark(self) -> Benchmark:
        """What its harness says."""
        return SINKS[self.name]

    def options(self, site: Site, more: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a writer at `site`, with a place of its own, and prepare the place."""
        benchmark = self.benchmark
        place = str(site.directory / self.name) if benchmark.is_directory else site.kafka.group_prefix
        own = {} if benchmark.own is None else {benchmark.own: place}
        options = {**benchmark.options(self.server), **own, **more}
        site.extra["sinks"] = {self.name: options}
        if benchmark.needs_setup:
            _set_up(site, self.name)
        return options

    def rows(self, options: Mapping[str, Any]) -> int | None:
        """Return how many rows are at a place; None if the destination cannot say."""
        count = self.benchmark.count
        return None if count is None else count(self.server, options)

    def check(self, options: Mapping[str, Any], before: int | None, rows: int) -> None:
        """Check that a place has so many rows more than before. Raises `BenchmarkFailed`."""
        if before is not None:
            wait_until(lambda: self.rows(options) == before + rows, f"{self.name} has {rows} rows more", _COUNT_SECONDS)


@contextlib.contextmanager
def destination(name: str, directory: Path) -> Iterator[Destination | None]:
    """Run the destination of sink `name`; if its server is missing, print why and yield None."""
    make = SINKS[name].server
    with contextlib.ExitStack() as stack:
        found: Destination | None = None
        try:
            found = Destination(name, None if make is None else stack.enter_context(_running(make(directory / name))))
        except ServerMissing as error:
            print(f"no row for {name}: {error}", file=sys.stderr)
        yield found


def _set_up(site: Site, name: str) -> None:
    argv = (sys.executable, "-m", "services.cli.main", "sink-setup", name, "--config", str(site.config))
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkFailed(f"sink-setup {name}: {done.stderr.strip()}")


@contextlib.contextmanager
def _running(server: LocalServer) -> Iterator[LocalServer]:
    server.start()
    try:
        yield server
    finally:
        server.kill()
