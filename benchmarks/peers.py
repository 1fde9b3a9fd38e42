"""Peers that are not Python, on the kernel's own segments: Go with only its standard library, and DuckDB.

Both parse records to columns in memory, like the kernel before it encodes. Neither produces identities or dead letters, or
validates its input.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks import kernel
from benchmarks.errors import BenchmarkFailed
from benchmarks.estates import Data
from benchmarks.measured import Measured, Sample, Work
from benchmarks.plain import records_text

GO: Final = "Go, encoding/json"
DUCKDB: Final = "DuckDB, read_json"
_SOURCE: Final = Path(__file__).resolve().parent / "peer" / "main.go"
_ENDS: Final = "in memory"

# One thread, since CPU is compared. Records are read with the types given here, without detection.
_QUERY: Final = """
create or replace temp table flows as
with records as (
  select unnest(records) as record
  from read_json($file, format = 'newline_delimited', maximum_object_size = 100000000, columns = {
    records: 'struct(time varchar, flowLogGUID varchar, macAddress varchar, category varchar, flowLogResourceID varchar,
      targetResourceID varchar, flowRecords struct(flows struct(aclID varchar, flowGroups struct(rule varchar,
      flowTuples varchar[])[])[]))[]'})
), flows as (select record, unnest(record.flowRecords.flows) as flow from records
), groups as (select record, flow.aclID as acl, unnest(flow.flowGroups) as of_rule from flows
), tuples as (select record, acl, of_rule.rule as rule, string_split(unnest(of_rule.flowTuples), ',') as f from groups)
select f[1]::bigint as time, f[2] as src_ip, f[3] as dst_ip, f[4]::usmallint as src_port, f[5]::usmallint as dst_port,
  f[6]::utinyint as protocol, f[7] as direction, f[8] as state, f[9] as encryption, try_cast(f[10] as bigint) as packets_sent,
  try_cast(f[11] as bigint) as bytes_sent, try_cast(f[12] as bigint) as packets_received,
  try_cast(f[13] as bigint) as bytes_received, rule, acl, record.time as record_time, record.macAddress as mac,
  record.flowLogGUID as flow_log_id, record.category as category, record.flowLogResourceID as resource_id,
  record.targetResourceID as target_id
from tuples
"""


def measure(data: Data, directory: Path, repeats: int) -> Iterator[Measured]:
    """Measure the installed peers, and report those that are missing."""
    work = Work(data.tuples, data.segment_bytes)
    texts = [records_text(segment) for segment in data.segments]
    arrays, objects = directory / f"{data.name}.arrays", directory / f"{data.name}.objects"
    arrays.write_bytes(b"".join(text + b"\n" for text in texts))
    objects.write_bytes(b"".join(b'{"records":' + text + b"}\n" for text in texts))
    if shutil.which("go"):
        yield Measured(GO, data.name, work, tuple(_go(arrays, directory / "peer", data, repeats)), _ENDS, kernel.WHOLE)
    else:
        print("no row for Go: there is no go on PATH", file=sys.stderr)
    if importlib.util.find_spec("duckdb"):
        yield Measured(DUCKDB, data.name, work, tuple(_duckdb(objects, data, repeats)), _ENDS, kernel.WHOLE)
    else:
        print("no row for DuckDB: the package duckdb is not installed", file=sys.stderr)


def _go(file: Path, binary: Path, data: Data, repeats: int) -> Iterator[Sample]:
    built = subprocess.run(("go", "build", "-o", binary, _SOURCE), capture_output=True, text=True, check=False)
    if built.returncode:
        raise BenchmarkFailed(f"go build: {built.stderr.strip()}")
    found = subprocess.run((binary, file, str(repeats)), capture_output=True, text=True, check=False)
    if found.returncode:
        raise BenchmarkFailed(f"the Go peer ended: {found.stderr.strip()[:300]}")
    for line in found.stdout.splitlines():
        tuples, seconds = line.split()
        _check(GO, int(tuples), data)
        yield Sample(float(seconds))


def _duckdb(file: Path, data: Data, repeats: int) -> Iterator[Sample]:
    import duckdb

    with duckdb.connect() as database:
        database.execute("set threads = 1")
        for _ in range(repeats):
            began = time.process_time()
            database.execute(_QUERY, {"file": str(file)})
            seconds = time.process_time() - began
            counted: Any = database.execute("select count(*) from flows").fetchone()
            _check(DUCKDB, counted[0], data)
            yield Sample(seconds)


def _check(peer: str, tuples: int, data: Data) -> None:
    if tuples != data.tuples:
        raise BenchmarkFailed(f"{peer} found {tuples} of {data.tuples} tuples")
