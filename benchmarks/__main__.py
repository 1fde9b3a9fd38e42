"""``python -m benchmarks``: run all stages and print the table; ``--write`` also writes docs/benchmarks.md."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import click

from benchmarks import estates
from benchmarks.before import Checkout
from benchmarks.destinations import SINKS
from benchmarks.machine import describe, load
from benchmarks.measured import Measured
from benchmarks.report import Page, document
from benchmarks.stages import FULL, LONG, QUICK, STAGES, Bench
from benchmarks.table import render
from libs.common.errors import BlobtideError

_REPORT: Final = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


@dataclass(frozen=True, slots=True)
class Run:
    """What to measure, how much and how often: stages by name, kinds of sinks; another checkout, for its costs."""

    quick: bool
    repeats: int | None
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    with_peers: bool
    against: Checkout | None


@dataclass(slots=True)
class Found:
    """What was measured; `before` is the cost of each (stage, estate) in the other checkout, None if there is none."""

    rows: list[Measured] = field(default_factory=list)
    before: dict[tuple[str, str], float] | None = None


@click.command()
@click.option("--quick", is_flag=True, help="One minute of logs, 1,000 quiet interfaces instead of 5,000; takes some minutes.")
@click.option(
    "--repeats", type=click.IntRange(1, 100), help="How often to measure each stage. Default: 3, or once with --quick."
)
@click.option("--only", "names", multiple=True, type=click.Choice([*STAGES, *LONG]), help="Only this stage; may be repeated.")
@click.option(
    "--sink",
    "kinds",
    multiple=True,
    type=click.Choice([*SINKS]),
    help="Only this kind of sink; may be repeated. Without --only, only the stage sinks.",
)
@click.option(
    "--long", is_flag=True, help="Also run each process for four minutes, and with the blobs of a month: does memory grow?"
)
@click.option(
    "--peer",
    is_flag=True,
    help="Also run peers: a parser in Go, and DuckDB, if installed; for each sink, the client library that one would use.",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
    metavar="DIRECTORY",
    help="Also run each stage in this checkout of another revision (with its .venv), and show its costs.",
)
@click.option("--write", is_flag=True, help="Write the results to docs/benchmarks.md.")
def main(**given: Any) -> None:
    """Measure the cost of every stage on this machine, and print a table.

    This takes half an hour, and an hour with --against, --long or --peer.
    """
    names, kinds, against = given["names"], given["kinds"], given["against"]
    stages = (*(names or (("sinks",) if kinds else STAGES)), *(LONG if given["long"] else ()))
    checkout = Checkout(against) if against else None
    try:
        found, busy = run(Run(given["quick"], given["repeats"], stages, kinds or tuple(SINKS), given["peer"], checkout))
    except BlobtideError as error:
        raise click.ClickException(str(error)) from error
    print(render(found.rows, found.before))
    if given["write"]:
        page = Page(_command(given), describe(), busy, checkout.revision() if checkout else None)
        _REPORT.write_text(document(found.rows, found.before, page), encoding="utf-8")
        print(f"written to {_REPORT}", file=sys.stderr)


def _command(given: Mapping[str, Any]) -> str:
    """Return the command line, as the page states it."""
    chosen = [f"--only {name}" for name in given["names"]] + [f"--sink {kind}" for kind in given["kinds"]]
    flags = [f"--{name}" for name in ("quick", "long", "peer") if given[name]]
    flags += [f"--repeats {given['repeats']}"] if given["repeats"] else []
    other = ["--against DIRECTORY"] if given["against"] else []
    return " ".join(["python -m benchmarks", *chosen, *flags, *other, "--write"])


def run(what: Run) -> tuple[Found, str]:
    """Run stages; return the results, and how busy the machine was before and after."""
    before = load()
    size = QUICK if what.quick else FULL
    size = replace(size, repeats=what.repeats or size.repeats)
    _say("generating logs")
    data = (estates.busy(size.busy_minutes), estates.quiet(size.quiet_minutes, size.quiet_nics))
    found = Found(before={} if what.against else None)
    with tempfile.TemporaryDirectory(prefix="blobtide-bench-") as directory:
        bench = Bench(size, data, Path(directory), what.kinds, what.with_peers)
        for name in what.names:
            for row in (STAGES | LONG)[name](bench):
                found.rows.append(row)
                _say(f"{row.stage}, {row.estate}")
            if what.against and found.before is not None and name in STAGES:
                _say(f"{name}, before")
                found.before |= what.against.measure(name, quick=what.quick)
    return found, f"{before} before, {load()} after"


def _say(what: str) -> None:
    print(f"{what} (load {load()})", file=sys.stderr)


if __name__ == "__main__":
    main()
