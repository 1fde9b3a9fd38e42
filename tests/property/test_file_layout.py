"""Property: whatever happens to the file sink in layout hive, its files hold every row once, each in the folder of its time."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.sinks.kinds.file.layout import LayoutChoice
from services.sinks.kinds.file.sink import FileSettings
from tests.file_process import STEPS, Event, FileProcess, file_process
from tests.flows import START_MS, by_identity, rows
from tests.hive import HOUR_MS, files, folder_of, read_laid_out, with_times
from tests.hive_writer import parts

CONTENT = rows(blobs=3, records=4, tuples=3)
NEAR = st.integers(-3 * HOUR_MS, 3 * HOUR_MS).map(lambda offset: START_MS + offset)
FAR = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, -1, -62_135_596_800_000, -62_135_596_800_001, 253_402_300_799_999, 253_402_300_800_000]),
)
TIMES = st.lists(st.one_of(NEAR, NEAR, NEAR, FAR), min_size=len(CONTENT), max_size=len(CONTENT))


def _process(directory: Path, rotate_rows: int, most: int) -> FileProcess:
    return file_process(
        FileSettings(
            directory=directory, layout=LayoutChoice.HIVE, rotate_rows=rotate_rows, rotate_seconds=60, max_partitions=most
        )
    )


def _written(
    directory: Path, content: Sequence[dict[str, Any]], steps: Sequence[tuple[int, int, Event]], process: FileProcess
) -> int:
    """Write as the steps say; return how many rows."""
    reached = 0
    for back, more, event in steps:
        process.sink.write(parts(content[max(0, reached - back) : reached + more]))
        reached = min(len(content), reached + more)
        process.happens(event)
    process.happens(Event.TIME)
    process.sink.close()
    return reached


@settings(max_examples=25)
@given(steps=STEPS, times=TIMES, rotate_rows=st.integers(1, 20))
def test_every_row_is_once_in_the_folder_of_its_time(
    steps: Sequence[tuple[int, int, Event]], times: list[int], rotate_rows: int
) -> None:
    """Any rows in any batches, replays, restarts and rotations give files that hold the rows of their folder, and all rows."""
    content = with_times(CONTENT, times)
    with tempfile.TemporaryDirectory() as directory:
        reached = _written(Path(directory), content, steps, _process(Path(directory), rotate_rows, 1_000))
        assert read_laid_out(Path(directory)) == by_identity(content[:reached])


@settings(max_examples=15)
@given(steps=STEPS, times=TIMES, most=st.integers(1, 3))
def test_few_partitions_lose_no_row(steps: Sequence[tuple[int, int, Event]], times: list[int], most: int) -> None:
    """Where more hours come than have folders, all rows are there once, and one rotation makes no more files than allowed."""
    content = with_times(CONTENT, times)
    with tempfile.TemporaryDirectory() as directory:
        reached = _written(Path(directory), content, steps, _process(Path(directory), len(content), most))
        assert read_laid_out(Path(directory), allowed_elsewhere=True) == by_identity(content[:reached])
        rotations = sum(event is not Event.NOTHING and event is not Event.DEATH for *_, event in steps) + 1
        assert len(files(Path(directory))) <= rotations * (most + 1)


@given(times=st.lists(FAR, max_size=30))
def test_folders_are_named_as_python_names_times(times: list[int]) -> None:
    """The calendar of the layout is Python's, over all times that a column can hold."""
    with tempfile.TemporaryDirectory() as directory:
        content = with_times(CONTENT[: len(times)], times[: len(CONTENT)])
        process = _process(Path(directory), 1_000, 1_000)
        process.sink.write(parts(content) if content else [])
        process.sink.close()
        found = {file.parent.relative_to(directory).as_posix() for file in files(Path(directory))}
    assert found == {folder_of(row["time"]) for row in content}
