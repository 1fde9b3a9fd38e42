"""Service processes to measure: start them from a settings file, monitor CPU time and resident memory, stop them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import psutil

from benchmarks.errors import BenchmarkFailed
from benchmarks.measured import Memory, memory_of
from benchmarks.site import Site, wait_until
from libs.local import guard
from libs.local.ports import free_port
from services.cli.probe import is_ready, metrics_of, total
from services.cli.up.supervisor import last_line, stop_process

_START_SECONDS: Final = 300.0  # ingest reads its state first
_SAMPLE_SECONDS: Final = 0.25
SERVICE: Final = ("-m", "services.cli.main", "run")


class Worker:
    """One process. `words` are the arguments of Python before ``--config FILE``."""

    def __init__(self, words: tuple[str, ...], site: Site) -> None:
        self.name = " ".join(words[len(SERVICE) :] or words)
        self._words = words
        self._site = site
        self._port = free_port()
        self._log: Path = site.directory / f"{self.name.replace(' ', '-')}.log"
        self._guard: subprocess.Popen[bytes] | None = None
        self._process: psutil.Process | None = None
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._resident: list[tuple[float, int]] = []
        self._peak = 0

    def start(self) -> None:
        """Start, and return when the process is ready, that is, has its partitions.

        Raises:
            BenchmarkFailed: if it ended, or is not ready after several minutes.
        """
        argv = (sys.executable, *self._words, "--config", str(self._site.config))
        environ = {**os.environ, "BLOBTIDE_HTTP__PORT": str(self._port), "BLOBTIDE_LOG__FORMAT": "json"}
        with self._log.open("wb") as log:
            self._guard = subprocess.Popen(
                (sys.executable, "-I", "-S", guard.__file__, *argv),
                env=environ, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_until(self._is_ready, f"{self.name} is ready", _START_SECONDS)

    def check(self) -> None:
        """Raise BenchmarkFailed if the process has ended."""
        if self._guard is not None and self._guard.poll() is not None:
            raise BenchmarkFailed(f"{self.name} ended: {last_line(self._log)}")

    def cpu(self) -> float:
        """Return the CPU seconds (user and system) that the process has used so far."""
        if self._process is None:
            raise BenchmarkFailed(f"{self.name} is not running")
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def metric(self, name: str, wanted: Mapping[str, str] | None = None) -> float:
        """Return the current sum of a metric over all samples with the `wanted` labels."""
        return total(metrics_of(self._port), name, wanted)

    def stop(self) -> None:
        """End the process. Idempotent."""
        self._ended.set()
        if self._sampler.is_alive():
            self._sampler.join()
        stop_process(self._guard)

    def memory(self) -> Memory:
        """Return the memory that the process has used since it was started."""
        return memory_of(self._resident, self._peak)

    def _watch(self) -> None:
        """Find the process that the guard has started, and start sampling it."""
        if self._guard is not None and self._process is None and (found := psutil.Process(self._guard.pid).children()):
            self._process = found[0]
            self._sampler.start()

    def _is_ready(self) -> bool:
        self.check()
        self._watch()
        return is_ready(self._port)

    def _sample(self) -> None:
        while not self._ended.is_set() and self._process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                resident = int(self._process.memory_info().rss)
                self._resident.append((time.monotonic(), resident))
                self._peak = max(self._peak, resident)
            self._ended.wait(_SAMPLE_SECONDS)


@contextlib.contextmanager
def running(*workers: Worker) -> Iterator[None]:
    """Run processes; inside, all are ready, and afterwards, none is left."""
    try:
        for worker in workers:
            worker.start()
        yield
    finally:
        for worker in workers:
            worker.stop()
