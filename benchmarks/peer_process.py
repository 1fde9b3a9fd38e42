"""``python -m benchmarks.peer_process KIND NUMBER ROWS OPTIONS``: let one peer of a sink write rows, and print what it took.

ROWS is a file of flows in the Arrow IPC format, OPTIONS are those of the sink as JSON. What the peer is given for each row is
ready before the clock runs, and so are the imports and first calls of its library: it has written some rows before.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from typing import Any, Final

import pyarrow as pa

from benchmarks.errors import BenchmarkFailed
from libs.common.rows.formats.encoders import encoder_for
from libs.common.rows.shape import Shape
from libs.common.rows.types.flows import FLOWS
from tests.contract.harness import benchmark_of
from tests.contract.peers import Peer, Takes

_WARM_UP: Final = 500  # rows


def main(argv: list[str]) -> None:
    """Write all rows, the first ones before the clock runs."""
    kind, number, file, options = argv
    benchmark = benchmark_of(kind)  # only of this kind, since each loads its own libraries
    if benchmark is None:
        raise BenchmarkFailed(f"{kind} has no benchmark")
    peer = benchmark.peers[int(number)]
    with pa.memory_map(file) as source:
        rows = prepared(peer, pa.ipc.open_file(source).read_all())
    print(json.dumps(measured(peer, rows, json.loads(options))))


def prepared(peer: Peer, flows: pa.Table) -> list[Any]:
    """Return what the peer gets for each row; of `Takes.JSON` the dictionaries."""
    if peer.takes is Takes.VALUES:
        place = flows.schema.get_field_index("record_time")
        shorter = flows.column(place).cast(pa.timestamp("us", "UTC"), safe=False)  # datetime has no nanoseconds
        values: list[Any] = flows.set_column(place, "record_time", shorter).to_pylist()
        return values
    documents = encoder_for(peer.form, FLOWS, Shape.of(FLOWS)).encode(flows)
    return list(documents) if peer.takes is Takes.BYTES else [json.loads(document) for document in documents]


def measured(peer: Peer, rows: list[Any], options: dict[str, Any]) -> dict[str, float]:
    """Let the peer write the rows; return how many, how many were acknowledged, and the CPU and wall-clock seconds for them."""
    first, rest = rows[:_WARM_UP], rows[_WARM_UP:]
    acknowledged = peer.write(options, _given(peer, first))
    cpu, began = time.process_time(), time.monotonic()
    acknowledged += peer.write(options, _given(peer, rest))
    cpu, wall = time.process_time() - cpu, time.monotonic() - began
    share = len(rows) / len(rest)  # the cost of all rows
    return {"rows": len(rows), "acknowledged": acknowledged, "cpu": cpu * share, "wall": wall * share}


def _given(peer: Peer, rows: list[Any]) -> Iterable[Any]:
    return (json.dumps(row).encode() for row in rows) if peer.takes is Takes.JSON else rows


if __name__ == "__main__":
    main(sys.argv[1:])
