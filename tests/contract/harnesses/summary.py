"""The summary sink's destination: a directory of NDJSON files, added up by minute and socket."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from libs.common.rows.types.flows import FLOWS
from services.sinks.kinds.summary.fold import COUNTS, MINUTE_MS, SOCKET
from services.sinks.kinds.summary.sink import SummarySettings, SummarySink
from tests.contract.harness import Benchmark, Case, Content, Harness, LocalDiskHarness, Row
from tests.contract.peers import Options, Peer


class SummaryHarness(LocalDiskHarness):
    """Minutes close at once by silence, when the files are read."""

    def options(self) -> dict[str, Any]:
        """Print nothing; close minutes a minute late."""
        return {"directory": str(self.directory), "lateness_seconds": 60, "print_seconds": 0, "udp_timeout_seconds": 30}

    def read(self) -> Content:
        """Let the minutes close by silence, and add up all files."""
        for hours in (1, 2):  # one for the minutes, one for the file they go to
            later = SummarySink(SummarySettings.model_validate(self.options()), FLOWS, clock=partial(_hence, hours))
            later.open()
            later.close()
        sums: defaultdict[Any, list[int]] = defaultdict(lambda: [0] * len(COUNTS))
        for file in sorted(self.directory.glob("*.ndjson")):
            for line in file.read_text().splitlines():
                values = json.loads(line)
                minute = int(datetime.fromisoformat(values["minute"]).timestamp() * 1_000)
                _add(sums[minute, *(values[name] for name in SOCKET)], [values[name] for name in COUNTS])
        return dict(sums)

    def expected(self, rows: Sequence[Row]) -> Content:
        """Add up row by row."""
        sums: defaultdict[Any, list[int]] = defaultdict(lambda: [0] * len(COUNTS))
        for row in rows:
            inbound = row["direction"] == "inbound"
            local, remote = ("dst", "src") if inbound else ("src", "dst")
            socket = (row["protocol"], row[f"{local}_ip"], row[f"{remote}_ip"], row["dst_port"], row["direction"])
            came, left = ("sent", "received") if inbound else ("received", "sent")
            counts = [
                1,
                row["state"] == "begin" and row["protocol"] == 6 and row["action"] != "deny",
                row["action"] == "deny",
                *(row[f"{unit}_{way}"] or 0 for unit in ("packets", "bytes") for way in (came, left)),
            ]
            _add(sums[row["time"] // MINUTE_MS * MINUTE_MS, *socket], counts)
        return dict(sums)


def _hence(hours: int) -> float:
    return time.time() + hours * 3_600


def _add(sums: list[int], counts: list[int]) -> None:
    sums[:] = [a + b for a, b in zip(sums, counts, strict=True)]


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give an empty directory."""
    return SummaryHarness(case, tmp_path / "summary")


def _add_up(_: Options, rows: Iterable[dict[str, Any]]) -> int:
    """Add up row by row, without sessions and without a disk."""
    sums: defaultdict[Any, list[int]] = defaultdict(lambda: [0] * (len(COUNTS) - 2))
    for row in rows:
        local, remote = ("dst", "src") if row["direction"] == "inbound" else ("src", "dst")
        socket = (row["protocol"], row[f"{local}_ip"], row[f"{remote}_ip"], row["dst_port"], row["direction"])
        counters = (row.get(f"{unit}_{way}", 0) for unit in ("packets", "bytes") for way in ("sent", "received"))
        _add(sums[row["time"][:16], socket], [1, *counters])
    return sum(one[0] for one in sums.values())


BENCHMARK = Benchmark(
    "sums synced to disk, offsets committed",
    own="directory",
    is_directory=True,
    times=5,
    options=lambda _: {"print_seconds": 0},
    peers=(Peer("sums in a dictionary", _add_up, ends="sums in memory"),),
)
