"""Property: whatever happens to the archive sink, its zips hold every snapshot once, those of a source in order."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from services.sinks.kinds.archive.sink import ArchiveSettings, ArchiveSink
from tests.file_process import STEPS, Event, FileProcess
from tests.flows import START_MS
from tests.snapshots import archived, as_archived, part_of, snapshot

COUNT = 30
TIMES = st.lists(st.integers(-(2**40), 2**42) | st.integers(START_MS, START_MS + 600_000), min_size=COUNT, max_size=COUNT)


@settings(max_examples=20)
@given(steps=STEPS, times=TIMES, rotate_rows=st.integers(1, 20))
def test_every_snapshot_is_there_once(steps: Sequence[tuple[int, int, Event]], times: list[int], rotate_rows: int) -> None:
    """Any batches, replays, restarts, times and rotations give zips with each record once."""
    content = [snapshot(number, "abc"[number % 3], time=time) for number, time in enumerate(times)]
    with tempfile.TemporaryDirectory() as name:
        directory, reached = Path(name), 0
        own = ArchiveSettings(directory=directory, rotate_rows=rotate_rows, rotate_seconds=60)
        process = FileProcess(lambda clock: ArchiveSink(own, clock=clock))
        for back, more, event in steps:
            process.sink.write(part_of(content[max(0, reached - back) : reached + more]))
            reached = min(COUNT, reached + more)
            process.happens(event)
        process.happens(Event.TIME)
        process.sink.close()
        assert archived(directory) == as_archived(content[:reached])
