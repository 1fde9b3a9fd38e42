"""Make docs/benchmarks.md: the table, what it was measured on, and how to read it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.before import Costs
from benchmarks.measured import Measured
from benchmarks.table import render

_TEXT = """\
# Benchmarks

Made by `{command}`; every figure is measured in one run. Run it on your own machine: absolute figures do not
travel, the ratios between rows do.

{machine}
- Load average of the machine (all its processes): {load}
{before}
{table}

## Reading the table

- *busy*: 20 interfaces that log 8,000 tuples a minute each. *quiet*: 5,000 interfaces (1,000 with `--quick`) that log 28
  tuples a minute each; a segment has a few kilobytes there. Virtual network flow logs, version 4.
- Processes run against a real Kafka (one broker) and a real Azurite on the same machine, with default settings and exactly-once
  on. CPU is that of the named processes, user and system, after start-up; brokers and Azurite come on top in the wall figures
  (*tuples/s*, *MB/s*, *blobs/s*), so those say what this machine does, not what a process can do.
- *a core*: per second of CPU. *±*: half the distance between the cheapest and the dearest repetition; the figure is the median.
  A *lasting* run (`--long`) takes four minutes; its five parts are compared like repetitions.
- *MB* are bytes of the logs, before parsing, of 1,000,000.
- *peak MiB*: resident memory of the process, or of the largest one. *MiB/min*: its growth, fitted to what comes behind the
  first third of a lasting run. Over less than 200 seconds it is noise, and left blank.
- *speed*: bytes of logs a second of CPU, compared with another row of the same estate. `json, split, dict` is a parser in plain
  Python that makes one dictionary a tuple; the Kafka copy is the parser's own loop without parsing; range reads fetch the same
  bytes and throw them away. With `--peer` there are also a parser in Go (`encoding/json`; the CPU of its garbage collector is
  in it) and DuckDB (`read_json` into a table, one thread): columns in memory, without identities and dead letters.
- *monitor*: against a server that answers listings and does nothing else, with default intervals. Growing scopes have a blob
  each that changes every minute; the flat prefix does not change.
- *start*: blobs of hours that are over, one in fifty of them open. *monitor start* reads their state and finds nothing in
  storage; *monitor, a known blob* lists what is current meanwhile, and its peak is taken when every scope has been listed in
  full. *ingest start* reads their checkpoints; the start of the process, one to two seconds, is part of its CPU. With `--long`
  also 3,600,000 blobs: what 5,000 interfaces write in thirty days.
- *ends when*: what is durable when the clock stops. Each stage then counts that everything has arrived, once.
"""


@dataclass(frozen=True, slots=True)
class Page:
    """The text around the table; `before` is the revision shown in the column of that name."""

    command: str
    machine: str
    load: str
    before: str | None = None


def document(rows: Sequence[Measured], before: Costs | None, page: Page) -> str:
    """Return the page."""
    before_is = f"- *before*: CPU µs a tuple at revision {page.before}, measured in the same run, in turn with each stage\n"
    return _TEXT.format(
        command=page.command,
        machine=page.machine,
        load=page.load,
        before=before_is if page.before else "",
        table=render(rows, before),
    )
