"""The benchmarks' own arithmetic, their table, and a tiny run of the stages that need no server."""

from __future__ import annotations

import math
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from benchmarks import arm_lists, estates, gzipped, kernel, lister, peers, rollups
from benchmarks.before import Checkout, costs_of
from benchmarks.destinations import SINKS, Destination
from benchmarks.errors import BenchmarkFailed
from benchmarks.feeding import AHEAD, Feed
from benchmarks.lasting import FlowRounds
from benchmarks.measured import Mark, Measured, Memory, Sample, Work, memory_of, parts_of
from benchmarks.report import Page, document
from benchmarks.table import render
from libs.common.azure.storage.page import _read_lean, read_directories, read_page
from libs.common.rows.types.flows import FLOW_SCHEMA, FLOWS
from libs.common.rows.wire import decode_rows
from libs.common.settings.aggregator import Preset
from services.sinks.frame.kind import Kind, all_kinds
from services.sinks.frame.message_sink import PayloadSink
from tests.contract.harness import Benchmark, module_of
from tests.contract.peers import Takes
from tests.pipeline import plain

MIB = 1024 * 1024


def row(stage: str, *cpu: float, wall: float | None = None, blobs: int = 0, **more: Any) -> Measured:
    """Return a row of a million tuples and 100 MB."""
    work = Work(1_000_000, 100_000_000, blobs)
    return Measured(stage, "busy", work, tuple(Sample(one, wall) for one in cpu), "in memory", **more)


def cells(table: str, stage: str) -> dict[str, str]:
    """Return a row of the table by column."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return next(dict(zip(lines[0], line, strict=True)) for line in lines if line[0] == stage)


def test_a_row_shows_medians_rates_and_how_far_repetitions_lie_apart() -> None:
    """Rates follow from the median of the repetitions, and ± is half their distance."""
    found = cells(render([row("parse", 2.0, 2.2, 1.8, wall=4.0, blobs=50)]), "parse")
    assert found["CPU µs per tuple"] == "2.00"
    assert found["±"] == "10 %"
    assert (found["tuples/s per core"], found["tuples/s"]) == ("500,000", "250,000")
    assert (found["MB/s per core"], found["MB/s"]) == ("50.0", "25.0")
    assert (found["blobs/s per core"], found["blobs/s"]) == ("25", "12")


def test_what_was_not_measured_is_left_blank() -> None:
    """Without a clock, blobs, memory, repetitions or a peer there is no figure."""
    found = cells(render([row("encode", 1.0)]), "encode")
    for column in ("±", "tuples/s", "MB/s", "blobs/s per core", "blobs/s", "peak MiB", "MiB/min", "speed"):
        assert not found[column], column


def test_a_stage_without_tuples_shows_blobs_only() -> None:
    """The monitor handles no tuples: only rates of blobs make sense."""
    found = cells(render([Measured("list", "flat", Work(0, 0, 500), (Sample(2.0, 4.0),), "compared")]), "list")
    assert (found["blobs/s per core"], found["blobs/s"]) == ("250", "125")
    assert not any(found[column] for column in ("CPU µs per tuple", "tuples/s per core", "tuples/s", "MB/s per core", "MB/s"))


def test_the_lister_answers_as_storage_does() -> None:
    """Its pages are read in one pass, and hold the blobs that were asked for."""
    now = datetime.now(UTC)
    page = _read_lean(lister.flat("", 3_000), now)
    assert page is not None
    assert (len(page.blobs), page.marker) == (2_000, "2000")
    assert len(read_page(lister.flat("2000", 3_000), now).blobs) == 1_000
    directories, _ = read_directories(lister.hourly("", "/", 2))
    assert directories == [lister.resource(0), lister.resource(1)]
    (blob,) = read_page(lister.hourly(directories[1], "", 2), now).blobs
    assert blob.name.startswith(f"{directories[1]}y=")


def test_a_row_is_compared_with_the_row_of_its_own_estate() -> None:
    """The ratio is that of bytes a second of CPU, whatever stands in other estates."""
    other = Measured("plain", "quiet", Work(1, 1), (Sample(1.0),), "in memory")
    table = render([row("kernel", 2.0, against="plain"), other, row("plain", 9.0), row("slow", 4.0, against="kernel")])
    assert cells(table, "kernel")["speed"] == "4.5 x plain"
    assert cells(table, "slow")["speed"] == "0.50 x kernel"


def test_every_line_of_the_table_is_as_wide_as_the_others() -> None:
    """The table reads well without being rendered."""
    table = render([row("a", 1.0), row("a long name", 123_456.0, memory=Memory(256 * MIB, -0.04 * MIB))])
    assert len({len(line) for line in table.splitlines()}) == 1
    assert (cells(table, "a long name")["peak MiB"], cells(table, "a long name")["MiB/min"]) == ("256", "-0.0")


def test_growth_is_the_slope_behind_the_start() -> None:
    """What a process takes while it warms up is no growth; a run below 200 seconds tells nothing."""
    samples = [(float(second), (100 if second < 80 else 200 + second) * MIB) for second in range(241)]
    assert memory_of(samples, 300 * MIB).growth == pytest.approx(60 * MIB)
    assert memory_of(samples[:200], 300 * MIB).growth is None


def test_a_long_run_shows_how_far_its_parts_lie_apart() -> None:
    """The figure is that of the median part, and ± is half the distance between the cheapest and the dearest one."""
    marks = [Mark(0.0, 0.0, 100), Mark(1.0, 10.0, 350), Mark(1.0, 11.0, 350), Mark(3.2, 20.0, 850), Mark(4.4, 30.0, 1_100)]
    found = cells(render([Measured("long", "busy", Work(1_000_000, 1), parts_of(marks), "in memory")]), "long")
    assert found["CPU µs per tuple"] == "4.40"
    assert found["±"] == "9 %"


def test_what_a_stage_cost_before_stands_beside_it() -> None:
    """The column is read from the table of the other checkout, by stage and estate; a stage that it lacks has none."""
    blobs_only = Measured("list", "flat", Work(0, 0, 500), (Sample(2.0),), "compared")
    before = costs_of(f"some noise\n{render([row('parse', 2.5), blobs_only, row('gone', 9.0)])}\n")
    assert before == {("parse", "busy"): 2.5, ("gone", "busy"): 9.0}
    table = render([row("parse", 2.0), row("new", 1.0)], before)
    assert [cells(table, stage)["before"] for stage in ("parse", "new")] == ["2.50", ""]
    assert "before" not in cells(render([row("parse", 2.0)]), "parse")
    page = document([row("parse", 2.0)], before, Page("python -m benchmarks --write", "- Machine: any", "0.1", "f7f6997"))
    assert "revision f7f6997" in page


OTHER = """\
import sys
name = sys.argv[2]
print({table!r} if name == "kernel" else "")
sys.exit({{"kernel": 0, "new": 2}}.get(name, 1))
"""


def test_stages_of_another_checkout_are_run_by_its_own_code(tmp_path: Path) -> None:
    """Its own Python runs its own benchmarks, where it has the stage; one that fails is told, not left out."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__main__.py").write_text(OTHER.format(table=render([row("parse", 2.5)])))
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    checkout = Checkout(tmp_path)
    assert checkout.measure("kernel", quick=True) == {("parse", "busy"): 2.5}
    assert checkout.measure("new", quick=False) == {}
    with pytest.raises(BenchmarkFailed, match="failed with exit code 1"):
        checkout.measure("broken", quick=False)
    with pytest.raises(BenchmarkFailed, match=r"create the checkout's \.venv"):
        Checkout(tmp_path / "benchmarks").measure("kernel", quick=True)


def test_peers_find_every_tuple(tmp_path: Path) -> None:
    """Go, where it is installed, and DuckDB parse what the kernel parses, and count as many tuples."""
    data = estates.busy(1)
    found = {one.stage for one in peers.measure(data, tmp_path, repeats=1)}
    assert found == {peers.DUCKDB, *([peers.GO] if shutil.which("go") else [])}


@pytest.mark.parametrize("rounds_a_second", [0.01, 1.0, 15.0])
def test_input_lasts_as_long_as_the_time_whatever_the_speed(rounds_a_second: float) -> None:
    """A process finds input all the time, and little more is written than it reads."""
    process = Process(rounds_a_second * ROUND)
    feed = Feed(process.write, lambda: math.ceil(process.waiting), ROUND)
    feed.prepare()
    count = feed.keep_up(60.0, lambda: process.now, process.work)
    assert process.now >= 60.0
    assert process.idle == 0.0
    assert process.numbers == list(range(count))
    assert process.waiting <= (AHEAD + 1) * ROUND


ROUND = 60


class Process:
    """A process that reads records while its clock moves, which it does when somebody writes or sleeps."""

    def __init__(self, records_a_second: float) -> None:
        self.speed = records_a_second
        self.now = 0.0
        self.idle = 0.0
        self.waiting = 0.0
        self.numbers: list[int] = []

    def write(self, number: int) -> None:
        """Take a round; the process, once it runs, reads half of one meanwhile."""
        self.waiting += ROUND
        self.numbers.append(number)
        if number >= AHEAD:
            self.work(ROUND / self.speed / 2)

    def work(self, seconds: float) -> None:
        """Read what there is."""
        self.now += seconds
        left = self.waiting - seconds * self.speed
        self.waiting = max(0.0, left)
        self.idle += max(0.0, -left) / self.speed


def test_each_round_is_another_generation_of_all_rows() -> None:
    """What a sink is fed with has every row of the logs in each round, under an identity of its own: none is a replay."""
    data = estates.busy(1)
    rounds = FlowRounds(data, "Flows")
    tables = [pa.concat_tables(decode_rows(FLOWS, one.value or b"") for one in rounds(number)) for number in range(2)]
    assert [flows.num_rows for flows in tables] == [data.tuples] * 2
    names = [set(flows.unify_dictionaries()["generation"].unique().to_pylist()) for flows in tables]
    assert names[0].isdisjoint(names[1])
    same = [name for name in FLOW_SCHEMA.names if name != "generation"]
    assert plain(tables[0].select(same)).equals(plain(tables[1].select(same)))


def test_stages_without_servers_run() -> None:
    """Decoding, columns, encoding and their peers give a row each for both estates, and lose no tuple."""
    for data in (estates.busy(1), estates.quiet(1, nics=200)):
        rows = list(kernel.measure(data, repeats=1))
        assert [one.stage for one in rows][:4] == ["decode", "columns", "encode", "decode, columns, encode"]
        assert all(one.work.tuples > 0 for one in rows)
        assert all(one.cpu > 0 for one in rows if one.stage != "columns"), "columns are what a difference leaves"
        assert sum(len(segment.data) for segment in data.segments) == data.blob_bytes - len(b"]}") * len(data.blobs)


def test_rollups_and_their_peer_lose_no_tuple() -> None:
    """Each preset and the dictionary sum up all tuples, or the benchmark fails."""
    rows = list(rollups.measure(estates.quiet(1, nics=50), repeats=1))
    assert [one.stage for one in rows][-1] == rollups.PEER
    assert len(rows) == len(Preset) + 1
    assert all(one.cpu > 0 for one in rows)


def test_compressed_lines_are_unpacked_by_ingest_and_by_its_peer() -> None:
    """Both give the whole text of all blobs, or the benchmark fails."""
    estate = gzipped.Estate(1)
    steps, peer = gzipped.measure(estate, repeats=1)
    assert (steps.against, steps.work) == (peer.stage, peer.work)
    assert steps.work.bytes > 10 * 16 * len(estate.packed)
    assert [blob.size for blob in estate.data().blobs] == [len(estate.packed)] * 16
    assert min(steps.cpu, peer.cpu) > 0


def takes_flows(kind: Kind) -> bool:
    """Return whether a kind takes the rows that sinks are measured with."""
    return not kind.is_installed or "flows" in kind.load(kind.sink).row_types


@pytest.mark.parametrize(
    "kind", [name for name, kind in all_kinds().items() if module_of(name) is not None and takes_flows(kind)]
)
def test_every_kind_of_sink_has_a_peer(kind: str) -> None:
    """A sink is compared with what one would use instead; one that sends a message per row also with its client alone."""
    takes = [peer.takes for peer in SINKS[kind].peers]
    assert takes, f"tests/contract/harnesses/{kind}.py: BENCHMARK has no peers"
    assert takes[0] is not Takes.BYTES
    found = all_kinds()[kind]
    sends_messages = found.is_installed and issubclass(found.load(found.sink), PayloadSink)
    assert Takes.BYTES in takes or not sends_messages


def test_rows_that_did_not_arrive_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer whose rows are not at the destination is no result; a destination that cannot say is believed."""
    monkeypatch.setattr("benchmarks.destinations._COUNT_SECONDS", 0.0)
    monkeypatch.setitem(SINKS, "file", Benchmark("never", own=None, count=lambda _, options: int(options["there"])))
    place = Destination("file", None)
    place.check({"there": 12}, 10, 2)
    with pytest.raises(BenchmarkFailed, match="file has 3 rows more"):
        place.check({"there": 12}, 10, 3)
    monkeypatch.setitem(SINKS, "file", Benchmark("never", own=None))
    assert place.rows({}) is None
    place.check({}, None, 3)


def test_lists_of_azure_are_read_by_both_clients() -> None:
    """All resources are counted, which is checked, and one is compared with the other."""
    own, sdk = arm_lists.measure(pages=2, repeats=1)
    assert (own.stage, own.against, sdk.stage) == (arm_lists.OWN, arm_lists.SDK, arm_lists.SDK)
    assert own.work.tuples == sdk.work.tuples == 1_000
