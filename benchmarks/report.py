"""Make docs/benchmarks.md: the table, what it was measured on, and how to read it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.before import Costs
from benchmarks.measured import Measured
from benchmarks.table import render

_TEXT = """\
# Benchmarks

Written by `{command}`. All figures come from one run. Measure on your own machine: the figures of two machines
cannot be compared, but the ratios between rows can.

{machine}
- Load average of the machine (all its processes): {load}
{before}
{table}

## How to read the table

- **Estates.** *busy*: 20 interfaces, each of which logs 8,000 tuples per minute. *quiet*: 5,000 interfaces (1,000 with
  `--quick`), each of which logs 28 tuples per minute, so that a segment has only a few kilobytes. Both are virtual
  network flow logs, version 4.
- **Conditions.** Processes run with default settings and exactly-once delivery against a real Kafka (one broker) and a
  real Azurite on the same machine. CPU time is the user and system time of the measured processes after start-up.
  Wall-clock rates (*tuples/s*, *MB/s*, *blobs/s*) also include the work of the broker and of Azurite, so they describe
  this machine rather than the process.
- ***per core***: per second of CPU time. ***±***: half the difference between the cheapest and the most expensive
  repetition; the figure itself is the median. A *lasting* run (`--long`) takes four minutes, and its five parts are
  compared as if they were repetitions.
- ***MB***: 1,000,000 bytes of the original logs.
- ***peak MiB***: peak resident memory of the process, or of the largest one. ***MiB/min***: its growth, a line fitted to
  the last two thirds of a lasting run. In runs of less than 200 seconds growth cannot be told from noise, so the column
  is blank.
- ***speed***: bytes of logs per second of CPU time, relative to another row of the same estate. `json, split, dict` is a
  parser in plain Python that creates a dictionary for each tuple. The Kafka copy is the parser's own loop without the
  parsing. Range reads fetch the same bytes and discard them. `--peer` adds a parser in Go (`encoding/json`, including the
  CPU time of its garbage collector) and DuckDB (`read_json` into a table, one thread); both produce columns in memory,
  without identities or dead letters.
- **sinks**: each reads flow batches from Kafka and writes every row, against a real server or a local disk; `http`, `otlp`,
  `zeromq` and `fluent` write to receivers that only acknowledge. `--peer` adds what one would use instead, *kind: library*: it
  gets the same rows as dictionaries that are in memory already, so it has neither to read Kafka nor to make rows from columns.
  It writes to the same server, in a process of its own, whose imports and first calls are not counted. Afterwards, the
  destination is asked whether all rows are there; where it cannot say, acknowledgements are counted. *prepared bytes* is
  what the library alone needs for messages that are ready to be sent, as its most basic call sends them: its *speed* is
  relative to the sink.
- **rollups**: batches of flows become batches of rollups of each preset, with windows of a minute, as in the aggregator but
  without Kafka. Its peer makes rows of the same columns and adds them up in a dictionary.
- **gzip**: sixteen blobs in flight, each with members of a megabyte of JSON lines; *tuples* are lines, and *MB* are of text.
  *gzip lines to segments* performs ingest's own steps on blobs in memory. Its peer decompresses the same bytes with the
  standard library and cuts the text at newlines, without positions, checksums of what was read, or bounds for what may come.
- **archive**: *tuples* are snapshots, *MB* are of the answers. *snapshots to zips* performs the steps of the sink alone.
  Its peer does what the Network State Recorder does: each answer is decoded, encoded anew with json.dumps, and written to a
  file, which then becomes a zip; nothing is synced, read again or remembered.
- **arm**: *tuples* are resources, *blobs* pages of lists of Azure Resource Manager. The client only counts them; its peer,
  Microsoft's, makes an object of each.
- **monitor**: against a server that only answers listings, with default intervals. Each growing scope has one blob, which
  changes every minute. The flat prefix does not change.
- **start**: the known blobs belong to past hours, and few are still open. *monitor start* reads their state and
  finds an empty storage account. *monitor, per known blob* also lists the current hours; its peak memory is taken after
  every scope has been listed in full. *ingest start* reads the checkpoints, and its CPU time includes one to two seconds
  for starting the process. `--long` adds a run with 3,600,000 blobs, which 5,000 interfaces write in thirty days.
- **ends when**: what is durable when the clock stops. Each stage then checks that everything has arrived exactly once.
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
    before_is = (
        f"- *before*: CPU µs per tuple of revision {page.before}, measured in the same run, alternating with each stage\n"
    )
    return _TEXT.format(
        command=page.command,
        machine=page.machine,
        load=page.load,
        before=before_is if page.before else "",
        table=render(rows, before),
    )
