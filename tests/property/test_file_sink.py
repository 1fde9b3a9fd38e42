"""Property: whatever happens to the file sink, its files hold every row once."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.rows.types.flows import FLOWS
from services.sinks.kinds.file.sink import FileSettings, FileSink
from tests.flows import by_identity, rows
from tests.flows import part as flow_part

CONTENT = rows(blobs=3, records=4, tuples=3)


class Event(Enum):
    """What happens after a write."""

    NOTHING = 0
    TIME = 1  # the file is complete by time
    STOP = 2  # a clean stop and a new start
    DEATH = 3  # the process is gone without closing, and starts anew


# (how far back the next batch begins, how many new rows it brings, what happens then)
STEPS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9), st.sampled_from(Event)), max_size=10)


class _Process:
    """The file sink with a clock of its own, and ways to end it."""

    def __init__(self, directory: Path, rotate_rows: int) -> None:
        self._settings = FileSettings(directory=directory, rotate_rows=rotate_rows, rotate_seconds=60)
        self._now = 1_000_000.0
        self._start()

    def _start(self) -> None:
        self.sink = FileSink(self._settings, FLOWS, clock=lambda: self._now)
        self.sink.open()

    def happens(self, event: Event) -> None:
        if event is Event.TIME:
            self._now += 61
            self.sink.tick()
        elif event is Event.STOP:
            self.sink.close()
            self._start()
        elif event is Event.DEATH:
            for store in self.sink._shards._open.values():
                store.close()  # what the kernel does with a dead process's locks
            self._start()


@settings(max_examples=25)
@given(steps=STEPS, rotate_rows=st.integers(1, 20))
def test_files_hold_every_row_once(steps: Sequence[tuple[int, int, Event]], rotate_rows: int) -> None:
    """Any batches, replays, restarts and rotations give files with exactly the rows that were written."""
    with tempfile.TemporaryDirectory() as directory:
        process, reached = _Process(Path(directory), rotate_rows), 0
        for back, more, event in steps:
            batch = CONTENT[max(0, reached - back) : reached + more]
            reached = min(len(CONTENT), reached + more)
            process.sink.write([flow_part(1, batch)])
            process.happens(event)
        process.happens(Event.TIME)
        process.sink.close()
        tables = [pq.read_table(file) for file in Path(directory).glob("*.parquet")]
        found = by_identity(pa.concat_tables(tables)) if tables else {}
    assert found == by_identity(CONTENT[:reached])
