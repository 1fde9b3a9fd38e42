"""All processes together, from blobs in Azurite to rows in Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow.dataset as ds

from benchmarks.errors import BenchmarkFailed
from benchmarks.estates import Data
from benchmarks.measured import Measured, Memory, Sample, Work
from benchmarks.site import Site, storage_settings, wait_until
from benchmarks.storage import container_of
from benchmarks.worker import SERVICE, Worker, running
from libs.local.azurite import LocalAzurite
from libs.local.kafka import LocalKafka

PIPELINE: Final = "blob to Parquet, four processes"
_ENDS: Final = "last row in a complete file"


def measure(kafka: LocalKafka, azurite: LocalAzurite, data: Data, repeats: int) -> Measured:
    """Start everything, the monitor last; the clock runs from the first announcement to the last file."""
    results = [_arrived(kafka, azurite, data) for _ in range(repeats)]
    work = Work(data.tuples, data.blob_bytes, len(data.blobs))
    memory = max((found for _, found in results), key=lambda one: one.peak)
    return Measured(PIPELINE, data.name, work, tuple(sample for sample, _ in results), _ENDS, memory=memory)


def _arrived(kafka: LocalKafka, azurite: LocalAzurite, data: Data) -> tuple[Sample, Memory]:
    site = Site.make(kafka, storage_settings(azurite, container_of(data)))
    files = site.directory / "flows"
    site.extra["sinks"] = {"file": {"directory": str(files), "rotate_seconds": 1}}
    workers = [Worker((*SERVICE, *words.split()), site) for words in ("ingest", "parser", "sink file", "blob-monitor")]
    with running(*workers):
        # Before it was ready, the monitor did nothing but start up and, at most, send its first request.
        before = sum(worker.cpu() for worker in workers)

        def done() -> bool:
            for worker in workers:
                worker.check()
            return row_count(files) >= data.tuples

        wait_until(done, f"{data.tuples} rows are in files")
        cpu = sum(worker.cpu() for worker in workers) - before
    if (rows := row_count(files)) != data.tuples:
        raise BenchmarkFailed(f"{data.tuples} tuples became {rows} rows")
    last = max(file.stat().st_mtime for file in files.glob("*.parquet"))
    memory = max((worker.memory() for worker in workers), key=lambda one: one.peak)
    return Sample(cpu, last - site.first_time(site.topics.blobs)), memory


def row_count(directory: Path) -> int:
    """Count the rows of all Parquet files from their footers."""
    return sum(ds.dataset(file, format="parquet").count_rows() for file in directory.glob("*.parquet"))
