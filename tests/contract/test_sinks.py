"""The sink contract, checked on every registered sink at its real destination."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from libs.common.errors import ConfigError, Retry
from libs.common.process.crash import CRASH_VARIABLE
from libs.common.rows.select import Selection
from libs.common.rows.types import ROW_TYPES
from services.sinks.frame.contract import Outcome, Part, Sink
from services.sinks.frame.kind import Promise, all_kinds
from tests.contract.harness import (
    BASIC,
    CRASH_POINTS,
    ONCE,
    Case,
    Harness,
    LocalDiskHarness,
    Row,
    cases,
    module_of,
    promises_of,
)
from tests.contract.writer import WriterPlan
from tests.row_samples import position_of

ROOT = Path(__file__).parents[2]
OUTAGE_SECONDS = 90.0
CASES = tuple(cases())
# Each way of working, with one row type: for tests in which what is stored is of no matter.
WAYS = tuple({(case.kind, case.mode): case for case in reversed(CASES)}.values())


def _checked(some: Sequence[Case]) -> list[Any]:
    return [pytest.param(case, marks=(*_marks(case), *_repeats(case)), id=case.name) for case in some]


def _marks(case: Case) -> Sequence[pytest.MarkDecorator]:
    marks = getattr(module_of(case.kind), "MARKS", ())
    return marks if isinstance(marks, tuple) else (marks,)


def _repeats(case: Case) -> Sequence[pytest.MarkDecorator]:
    return () if case in WAYS else (pytest.mark.more_rows,)


def _made(case: Case, request: pytest.FixtureRequest, directory: Path) -> Any:
    module = module_of(case.kind)
    assert module is not None
    return module.harness(request, directory, case)


@pytest.fixture(params=_checked(CASES))
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    """Give a fresh destination of each case."""
    made: Harness = _made(request.param, request, tmp_path)
    return made


@pytest.fixture(params=_checked(WAYS))
def fragile(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    """Give a fresh destination of each kind and mode, to be broken."""
    made: Harness = _made(request.param, request, tmp_path)
    return made


of_one_row_type = pytest.mark.parametrize("harness", _checked(WAYS), indirect=True)


@contextmanager
def opened(harness: Harness) -> Iterator[Sink]:
    """Open a sink and close it."""
    sink = harness.sink()
    sink.open()
    try:
        yield sink
    finally:
        sink.close()


def write(harness: Harness, sink: Sink, content: Sequence[Row], size: int = 1_000_000) -> Outcome:
    """Write rows in batches of `size`, as often as the sink asks, and return what became of all of them."""
    outcomes = [_write_batch(sink, harness.case.parts(content[at : at + size])) for at in range(0, len(content), size)]
    return Outcome(
        sum(outcome.written for outcome in outcomes),
        sum(outcome.already_there for outcome in outcomes),
        tuple(row for outcome in outcomes for row in outcome.rejected),
    )


def _write_batch(sink: Sink, parts: Sequence[Part]) -> Outcome:
    deadline = time.monotonic() + OUTAGE_SECONDS
    while True:
        try:
            return sink.write(parts)
        except Retry as error:
            if time.monotonic() > deadline:
                raise
            time.sleep(min(error.after, 0.5))


def test_every_row_arrives_with_its_values(harness: Harness) -> None:
    """Rows of two shards in one write are all there, with their values."""
    content = harness.case.rows()
    with opened(harness) as sink:
        assert write(harness, sink, content) == Outcome(len(content))
    assert harness.read() == harness.expected(content)


def test_written_twice_is_once(harness: Harness) -> None:
    """The same rows again, in the same and in other batches, change nothing and are not counted as written."""
    content = harness.case.rows()
    with opened(harness) as sink:
        first = [write(harness, sink, content, 10), write(harness, sink, content, 10), write(harness, sink, content, 7)]
    assert harness.read() == harness.expected(content)
    if sink.promise is Promise.EFFECTIVELY_ONCE:
        assert first == [Outcome(len(content)), Outcome(0, len(content)), Outcome(0, len(content))]


@of_one_row_type
@pytest.mark.parametrize("seed", range(3))
def test_interleaved_replays_are_once(harness: Harness, seed: int) -> None:
    """Batches that begin anywhere in what was written and go beyond it leave each row once."""
    content, chance = harness.case.rows(), random.Random(seed)
    reached = 0
    with opened(harness) as sink:
        while reached < len(content):
            start, end = chance.randint(0, reached), reached + chance.randint(0, 8)
            write(harness, sink, content[start:end] + content[chance.randint(0, reached) : end])
            reached = min(end, len(content))
    assert harness.read() == harness.expected(content)


def test_rows_are_told_apart_by_their_position_alone(harness: Harness) -> None:
    """Rows that differ in nothing but source, generation, offset or index are all there, each once however often it comes."""
    content = _equal_rows(harness)
    with opened(harness) as sink:
        write(harness, sink, content, 5)
        write(harness, sink, content, 7)
    assert harness.read() == harness.expected(content)


def _equal_rows(harness: Harness) -> list[Row]:
    usual, names = harness.case.rows(), harness.case.row_type.position.names
    sources = list(dict.fromkeys(row[names[0]] for row in usual))
    places = [
        (source, generation, offset, index)
        for generation in ("g0", "g1")
        for offset in (20, 1_020)
        for source in sources
        for index in (0, 1)
    ]
    return [{**usual[0], **dict(zip(names, place, strict=True))} for place in places]


@of_one_row_type
def test_rows_of_a_source_stay_in_order(harness: Harness) -> None:
    """Where readers see an order, the rows of a source stand in theirs, over the borders of writes."""
    if not harness.is_ordered:
        pytest.skip(f"{harness.case.name} has no order")
    content = harness.case.rows()
    with opened(harness) as sink:
        write(harness, sink, content, 7)
    found: dict[object, list[object]] = {}
    for *generation, offset, index in harness.read():
        found.setdefault(tuple(generation), []).append((offset, index))
    assert [places for places in found.values() if places != sorted(places)] == []  # type: ignore[type-var]


def test_a_sample_arrives_with_its_weight(harness: Harness) -> None:
    """What a sampled sink gets has a column more, which is at the destination with every row."""
    harness.more = {"sample": 0.5}
    try:
        selection = harness.configured().selection
    except ConfigError:
        pytest.skip(f"{harness.case.name} takes no samples")
    content, row_type = harness.case.rows(), harness.case.row_type
    chosen = [replace(part, rows=rows, ends=(len(rows),)) for part, rows in _selected(harness, selection, content)]
    harness.sink().setup()
    with opened(harness) as sink:
        assert _write_batch(sink, chosen).written == sum(len(part.rows) for part in chosen)
    places = {position_of(row_type, row) for part in chosen for row in part.rows.to_pylist()}
    found = harness.read()
    assert 0 < len(places) < len(content)
    assert found.keys() == harness.expected([row for row in content if position_of(row_type, row) in places]).keys()
    assert harness.weights(found) == len(places)


def _selected(harness: Harness, selection: Selection, content: Sequence[Row]) -> Iterator[tuple[Part, pa.Table]]:
    for part in harness.case.parts(content):
        if len(rows := selection.select(part.rows).rows):
            yield part, rows


@of_one_row_type
def test_a_restart_between_write_and_commit_is_once(harness: Harness) -> None:
    """A new process that gets the rows of its predecessor's last, uncommitted batch again leaves each row once."""
    content = harness.case.rows()
    with opened(harness) as sink:
        write(harness, sink, content[:20], 9)
    with opened(harness) as sink:
        write(harness, sink, content[9:], 11)
    assert harness.read() == harness.expected(content)


@of_one_row_type
def test_another_process_takes_over_a_released_shard(harness: Harness) -> None:
    """After release another instance goes on with the shard while the first keeps the others, and gets it back later."""
    content = harness.case.rows()
    mine, yours = ([row for row in content if harness.case.shard_of(row) == shard] for shard in (0, 1))
    assert mine
    assert yours
    with opened(harness) as first, opened(harness) as second:
        write(harness, first, content[:20])
        first.release({1})
        write(harness, second, yours)
        write(harness, first, mine)
        second.release({1})
        write(harness, first, yours)  # it knows nothing any more of what it wrote before
    assert harness.read() == harness.expected(content)


def test_an_outage_is_a_retry_and_loses_nothing(fragile: Harness) -> None:
    """While the destination is down a write raises Retry; when it is back the same rows are written once."""
    content = fragile.case.rows(4, 10, 30)
    with opened(fragile) as sink:
        write(fragile, sink, content[:40])
        with fragile.outage(), pytest.raises(Retry):
            sink.write(fragile.case.parts(content))
        write(fragile, sink, content)
    assert fragile.read() == fragile.expected(content)


def test_a_destination_that_refuses_everything_costs_no_row(fragile: Harness) -> None:
    """What a destination refuses for a reason of its own is a Retry, never a rejected row; later all rows are there once."""
    if type(fragile).refusal is Harness.refusal:
        pytest.skip(f"{fragile.case.name} refuses everything only by being away, which another test shows")
    content = fragile.case.rows(4, 10, 30)
    with opened(fragile) as sink:
        write(fragile, sink, content[:40])
        with fragile.refusal():
            for _ in range(2):
                with pytest.raises(Retry):
                    sink.write(fragile.case.parts(content))
        write(fragile, sink, content)
    assert fragile.read() == fragile.expected(content)


def test_refused_rows_are_named_and_all_others_written(harness: Harness) -> None:
    """Rows that the destination refuses for good are named by part and row, also when they come again; all others are there."""
    refused = harness.refused()
    if refused is None:
        pytest.skip(f"{harness.case.name} refuses no row")
    content, case = harness.case.rows(), harness.case
    source = case.row_type.position.source
    other = {**refused, source: refused[source] + "a"}
    assert case.shard_of(other) != case.shard_of(refused)
    batch = [*content[:5], refused, *content[5:25], other, *content[25:]]
    for written in (len(content), 0):  # the second time by another process: the first may have ended before it told
        with opened(harness) as sink:
            outcome = write(harness, sink, batch)
        assert _named(case, batch, outcome) == sorted([refused, other], key=case.shard_of)
        if written or (sink.promise is Promise.EFFECTIVELY_ONCE and not harness.overwrites):
            assert (outcome.written, outcome.already_there) == (written, len(content) - written)
    assert harness.read() == harness.expected(content)


def _named(case: Case, batch: Sequence[Row], outcome: Outcome) -> list[Row]:
    """Return the rows that an outcome names."""
    shards = [[row for row in batch if case.shard_of(row) == part.shard] for part in case.parts(batch)]
    return [shards[bad.part][bad.row] for bad in sorted(outcome.rejected, key=lambda bad: (bad.part, bad.row))]


@of_one_row_type
def test_a_refused_row_is_named_until_it_is_a_dead_letter(harness: Harness) -> None:
    """Whoever gets a batch again because its dead letters were not written names the refused rows again, however it is cut."""
    refused = harness.refused()
    if refused is None:
        pytest.skip(f"{harness.case.name} refuses no row")
    content = harness.case.rows()
    batch = [*content[:5], refused, *content[5:]]
    with opened(harness) as sink:
        assert len(write(harness, sink, batch).rejected) == 1
    with opened(harness) as sink:
        assert len(write(harness, sink, batch[:20], 4).rejected) == 1
    with opened(harness) as sink:
        assert len(write(harness, sink, batch).rejected) == 1
    assert harness.read() == harness.expected(content)


@of_one_row_type
def test_close_is_idempotent(harness: Harness) -> None:
    """A sink may be closed twice, and without rows."""
    with opened(harness) as sink:
        sink.release({0})
        sink.close()


@of_one_row_type
def test_a_sink_promises_what_its_kind_says(harness: Harness) -> None:
    """What a sink promises with its settings is one of the things that `blobtide sinks` says of its kind."""
    assert harness.sink().promise in promises_of(harness.case)


@pytest.mark.parametrize(
    ("kind", "rows", "point"),
    [
        *(("file", "flows", point) for point in CRASH_POINTS),
        *(("file", "dead_letters", point) for point in CRASH_POINTS[2:4]),
        *(("summary", "flows", point) for point in CRASH_POINTS[1:5]),
        *(("archive", "snapshots", point) for point in ("sink.zip-synced", "sink.part-removed", "sink.published")),
    ],
)
def test_a_kill_at_any_step_is_once(kind: str, rows: str, point: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """SIGKILL at each step of a sink with local state, then the same rows again in other batches, leaves each row once."""
    harness: LocalDiskHarness = _made(Case(kind, "", ROW_TYPES[rows]), request, tmp_path)
    killed = _run_writer(harness, f"{point}@2" if point != "sink.part-renamed" else point)
    assert killed == -signal.SIGKILL, f"{point} is never reached"
    content = harness.case.rows()
    with opened(harness) as sink:
        write(harness, sink, content, 8)
    assert harness.read() == harness.expected(content)


def test_what_a_write_has_returned_for_survives_a_kill(fragile: Harness) -> None:
    """Rows are durable when a write returns: a process that is killed right then leaves all of them at the destination."""
    if fragile.sink().promise is Promise.TO_WHO_IS_THERE:
        pytest.skip("a write returns before anybody has confirmed the rows")
    assert _run_writer(fragile, is_killed=True) == -signal.SIGKILL
    fragile.recover()
    assert fragile.read() == fragile.expected(fragile.case.rows())


def _run_writer(harness: Harness, point: str = "", *, is_killed: bool = False) -> int:
    pipeline = harness.pipeline()
    joined = {} if pipeline is None else pipeline.model_dump(mode="json", exclude_unset=True)
    case = harness.case
    plan = WriterPlan(case.kind, case.row_type.name, harness.all_options(), joined, is_killed=is_killed)
    with harness.standard_output() as out:
        environ = os.environ | ({CRASH_VARIABLE: point} if point else {})
        return subprocess.run(plan.command, cwd=ROOT, env=environ, stdout=out, check=False).returncode


def test_every_sink_has_a_harness() -> None:
    """A kind that is there is checked by this suite, with every row type that it takes and the suite tries, or with one."""
    assert [kind for kind in all_kinds() if module_of(kind) is None] == []
    tried: dict[str, set[str]] = {}
    for case in CASES:
        tried.setdefault(case.kind, set()).add(case.row_type.name)
    taken = {name: kind.load(kind.sink).row_types for name, kind in all_kinds().items()}
    assert tried == {name: {*BASIC, *ONCE} & {*rows} or {rows[0]} for name, rows in taken.items()}
