"""The peers of sinks, as their harnesses name them: each in a process of its own, at the server of the sink, on its rows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from benchmarks.destinations import Destination
from benchmarks.errors import BenchmarkFailed
from benchmarks.estates import Data
from benchmarks.measured import Measured, Sample, Work
from benchmarks.site import Site
from services.parser.flows.kernel import parse
from tests.contract.peers import Peer, Takes

_SECONDS: Final = 900.0
_OFFSETS: Final = ", offsets committed"


def stages(place: Destination) -> list[str]:
    """Return the rows of the table with which the sink is compared."""
    return [_stage(place, peer) for peer in place.benchmark.peers if peer.takes is not Takes.BYTES]


def measure(site: Site, place: Destination, data: Data, repeats: int) -> Iterator[Measured]:
    """Measure the peers of a sink."""
    for number, peer in enumerate(place.benchmark.peers):
        rows = _rows(data, peer.rows)
        file = site.directory / f"{place.name}-{number}.arrow"
        with pa.ipc.new_file(file, rows.schema) as out:
            out.write_table(rows)
        samples = tuple(_sample(site.again(), place, number, file) for _ in range(repeats))
        work = Work(rows.num_rows, rows.num_rows * data.segment_bytes // data.tuples)
        against = f"sink {place.name}" if peer.takes is Takes.BYTES else None
        ends = peer.ends or place.benchmark.ends.removesuffix(_OFFSETS)
        yield Measured(_stage(place, peer), data.name, work, samples, ends, against)


def _stage(place: Destination, peer: Peer) -> str:
    return f"{place.name}: {peer.name}"


def _rows(data: Data, count: int) -> pa.Table:
    """Return the first flows of the logs."""
    batches: list[pa.RecordBatch] = []
    for piece in data.portions():
        batches.append(parse(piece.segments).batch)
        if sum(batch.num_rows for batch in batches) >= count:
            break
    return pa.Table.from_batches(batches).unify_dictionaries().slice(0, count)


def _sample(site: Site, place: Destination, number: int, file: Path) -> Sample:
    """Let a peer write the rows once; return the cost."""
    peer = place.benchmark.peers[number]
    options = place.options(site, peer.options)
    present = place.rows(options)
    found = _run(place.name, number, file, options)
    if found["acknowledged"] != found["rows"]:
        raise BenchmarkFailed(f"{_stage(place, peer)}: {found['acknowledged']} of {found['rows']} rows were acknowledged")
    place.check(options, present, found["rows"])
    return Sample(found["cpu"], found["wall"])


def _run(kind: str, number: int, file: Path, options: dict[str, Any]) -> dict[str, Any]:
    argv = (sys.executable, "-m", "benchmarks.peer_process", kind, str(number), str(file), json.dumps(options))
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_SECONDS)
    if done.returncode:
        raise BenchmarkFailed(f"the peer of {kind} failed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
