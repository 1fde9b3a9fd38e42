"""The sink contract, checked on every registered sink at its real destination."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from libs.common.errors import Retry
from libs.common.process.crash import CRASH_VARIABLE
from services.sinks.frame.contract import Outcome, Sink
from services.sinks.frame.kind import Promise, all_kinds
from tests.contract.harness import CRASH_POINTS, Harness, LocalDiskHarness, Row, parts, shard_of
from tests.flows import rows

KINDS = all_kinds()
ROOT = Path(__file__).parents[2]
OUTAGE_SECONDS = 90.0


def _module(kind: str) -> ModuleType:
    return importlib.import_module(f"tests.contract.harnesses.{kind}")


def _has_harness(kind: str) -> bool:
    return importlib.util.find_spec(f"tests.contract.harnesses.{kind}") is not None


CHECKED = [pytest.param(kind, marks=getattr(_module(kind), "MARKS", ())) for kind in KINDS if _has_harness(kind)]


@pytest.fixture(params=CHECKED)
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    """Give a fresh destination of each kind."""
    made: Harness = _module(request.param).harness(request, tmp_path)
    return made


@contextmanager
def opened(harness: Harness) -> Iterator[Sink]:
    """Open a sink and close it."""
    sink = harness.sink()
    sink.open()
    try:
        yield sink
    finally:
        sink.close()


def write(sink: Sink, content: Sequence[Row], size: int = 1_000_000) -> Outcome:
    """Write rows in batches of `size`, as often as the sink asks, and return what became of all of them."""
    outcomes = [_write_batch(sink, content[at : at + size]) for at in range(0, len(content), size)]
    return Outcome(
        sum(outcome.written for outcome in outcomes),
        sum(outcome.already_there for outcome in outcomes),
        tuple(row for outcome in outcomes for row in outcome.rejected),
    )


def _write_batch(sink: Sink, content: Sequence[Row]) -> Outcome:
    deadline = time.monotonic() + OUTAGE_SECONDS
    while True:
        try:
            return sink.write(parts(content))
        except Retry as error:
            if time.monotonic() > deadline:
                raise
            time.sleep(min(error.after, 0.5))


def test_every_row_arrives_with_its_values(harness: Harness) -> None:
    """Rows of two shards in one write are all there, with their values."""
    content = rows()
    with opened(harness) as sink:
        assert write(sink, content) == Outcome(len(content))
    assert harness.read() == harness.expected(content)


def test_written_twice_is_once(harness: Harness) -> None:
    """The same rows again, in the same and in other batches, change nothing and are not counted as written."""
    content = rows()
    with opened(harness) as sink:
        first = [write(sink, content, 10), write(sink, content, 10), write(sink, content, 7)]
    assert harness.read() == harness.expected(content)
    if KINDS[harness.kind].promises == (Promise.EFFECTIVELY_ONCE,):
        assert first == [Outcome(len(content)), Outcome(0, len(content)), Outcome(0, len(content))]


@pytest.mark.parametrize("seed", range(3))
def test_interleaved_replays_are_once(harness: Harness, seed: int) -> None:
    """Batches that begin anywhere in what was written and go beyond it leave each row once."""
    content, chance = rows(), random.Random(seed)
    reached = 0
    with opened(harness) as sink:
        while reached < len(content):
            start, end = chance.randint(0, reached), reached + chance.randint(0, 8)
            write(sink, content[start:end] + content[chance.randint(0, reached) : end])
            reached = min(end, len(content))
    assert harness.read() == harness.expected(content)


def test_a_restart_between_write_and_commit_is_once(harness: Harness) -> None:
    """A new process that gets the rows of its predecessor's last, uncommitted batch again leaves each row once."""
    content = rows()
    with opened(harness) as sink:
        write(sink, content[:20], 9)
    with opened(harness) as sink:
        write(sink, content[9:], 11)
    assert harness.read() == harness.expected(content)


def test_another_process_takes_over_a_released_shard(harness: Harness) -> None:
    """After release another instance goes on with the shard while the first keeps the others."""
    content = rows()
    mine, yours = ([row for row in content if shard_of(row) == shard] for shard in (0, 1))
    assert mine
    assert yours
    with opened(harness) as first, opened(harness) as second:
        write(first, content[:20])
        first.release({1})
        write(second, yours)
        write(first, mine)
    assert harness.read() == harness.expected(content)


def test_an_outage_is_a_retry_and_loses_nothing(harness: Harness) -> None:
    """While the destination is down a write raises Retry; when it is back the same rows are written once."""
    content = rows(blobs=4, records=10, tuples=30)
    with opened(harness) as sink:
        write(sink, content[:40])
        with harness.outage(), pytest.raises(Retry):
            sink.write(parts(content))
        write(sink, content)
    assert harness.read() == harness.expected(content)


def test_a_destination_that_refuses_everything_costs_no_row(harness: Harness) -> None:
    """What a destination refuses for a reason of its own is a Retry, never a rejected row; later all rows are there once."""
    content = rows(blobs=4, records=10, tuples=30)
    with opened(harness) as sink:
        write(sink, content[:40])
        with harness.refusal():
            for _ in range(2):
                with pytest.raises(Retry):
                    sink.write(parts(content))
        write(sink, content)
    assert harness.read() == harness.expected(content)


def test_refused_rows_are_named_and_all_others_written(harness: Harness) -> None:
    """A row that the destination refuses for good is named by part and row; its neighbours are there."""
    refused = harness.refused()
    if refused is None:
        pytest.skip(f"{harness.kind} refuses no row")
    content = rows()
    batch = [*content[:5], refused, *content[5:]]
    with opened(harness) as sink:
        outcome = write(sink, batch)
    named = [(bad.part, bad.row) for bad in outcome.rejected]
    shards = [[row for row in batch if shard_of(row) == part.shard] for part in parts(batch)]
    assert [shards[part][row] for part, row in named] == [refused]
    assert outcome.written == len(content)
    assert harness.read() == harness.expected(content)


def test_close_is_idempotent(harness: Harness) -> None:
    """A sink may be closed twice, and without rows."""
    with opened(harness) as sink:
        sink.release({0})
        sink.close()


@pytest.mark.parametrize(
    ("kind", "point"),
    [*(("file", point) for point in CRASH_POINTS), *(("summary", point) for point in CRASH_POINTS[1:5])],
)
def test_a_kill_at_any_step_is_once(kind: str, point: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """SIGKILL at each step of a sink with local state, then the same rows again in other batches, leaves each row once."""
    harness: LocalDiskHarness = _module(kind).harness(request, tmp_path)
    killed = _run_writer(harness, f"{point}@2" if point != "sink.part-renamed" else point)
    assert killed == -signal.SIGKILL, f"{point} is never reached"
    content = rows()
    with opened(harness) as sink:
        write(sink, content, 8)
    assert harness.read() == harness.expected(content)


def _run_writer(harness: Harness, point: str) -> int:
    command = [sys.executable, "-m", "tests.contract.writer", harness.kind, json.dumps(harness.options()), "12"]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {CRASH_VARIABLE: point}, check=False).returncode


def test_every_sink_has_a_harness() -> None:
    """A sink that is registered is checked by this suite."""
    assert [kind for kind in KINDS if not _has_harness(kind)] == []
