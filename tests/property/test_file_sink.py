"""Property: whatever happens to the file sink, its files hold every row once."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from services.sinks.kinds.file.sink import FileSettings
from tests.file_process import STEPS, Event, file_process
from tests.flows import by_identity, rows
from tests.flows import part as flow_part

CONTENT = rows(blobs=3, records=4, tuples=3)


def _settings(directory: Path, rotate_rows: int) -> FileSettings:
    return FileSettings(directory=directory, rotate_rows=rotate_rows, rotate_seconds=60)


@settings(max_examples=25)
@given(steps=STEPS, rotate_rows=st.integers(1, 20))
def test_files_hold_every_row_once(steps: Sequence[tuple[int, int, Event]], rotate_rows: int) -> None:
    """Any batches, replays, restarts and rotations give files with exactly the rows that were written."""
    with tempfile.TemporaryDirectory() as directory:
        process, reached = file_process(_settings(Path(directory), rotate_rows)), 0
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
