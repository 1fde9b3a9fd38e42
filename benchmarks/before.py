"""The same stages in another checkout, with its own code and command line, for a column of earlier costs.

Its stages alternate with ours, so that both run under the same conditions. The results are read from the table that it prints.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.errors import BenchmarkFailed
from benchmarks.measured import Measured

COST: Final = "CPU µs per tuple"
_EARLIER_COST: Final = "CPU µs a tuple"  # the heading of earlier revisions
_UNKNOWN_STAGE: Final = 2  # click's exit code for an unknown option or value

Costs = Mapping[tuple[str, str], float]


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checkout of another revision, with its environment in ``.venv``."""

    directory: Path

    def measure(self, stage: str, *, quick: bool) -> Costs:
        """Return the cost of each (stage, estate) there, in CPU microseconds per tuple; empty for a stage that it lacks.

        Raises:
            BenchmarkFailed: if its benchmarks end with an error.
        """
        argv = (
            self.directory / ".venv" / "bin" / "python",
            "-m",
            "benchmarks",
            "--only",
            stage,
            *(("--quick",) if quick else ()),
        )
        environ = {**os.environ, "PYTHONPATH": str(self.directory)}
        try:
            done = subprocess.run(argv, cwd=self.directory, env=environ, stdout=subprocess.PIPE, text=True, check=False)
        except OSError as error:
            raise BenchmarkFailed(f"cannot run {argv[0]}: {error.strerror}; create the checkout's .venv first") from error
        if done.returncode == _UNKNOWN_STAGE:
            print(f"no earlier costs of {stage}: {self.directory} has no such stage", file=sys.stderr)
            return {}
        if done.returncode:
            raise BenchmarkFailed(f"the benchmarks of {self.directory} failed with exit code {done.returncode}")
        return costs_of(done.stdout)

    def revision(self) -> str:
        """Return its abbreviated commit hash."""
        argv = ("git", "-C", str(self.directory), "rev-parse", "--short", "HEAD")
        found = subprocess.run(argv, capture_output=True, text=True, check=False)
        return found.stdout.strip() or str(self.directory)


def costs_of(table: str) -> Costs:
    """Read the costs from a table rendered by `benchmarks.table`."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| ")]
    if not lines:
        return {}
    rows: Iterable[dict[str, str]] = (dict(zip(lines[0], line, strict=True)) for line in lines[1:])
    costs = {(row["stage"], row["estate"]): row.get(COST, row.get(_EARLIER_COST, "")) for row in rows}
    return {stage: float(cost) for stage, cost in costs.items() if cost.replace(".", "").isdigit()}


def cost(row: Measured) -> float:
    """Return the CPU microseconds per tuple."""
    return 1_000_000 * row.cpu / row.work.tuples
