"""Dividing rows by time: which folders, how many files, how often the spool is read, how much memory it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from services.sinks.local_state.layout import ELSEWHERE, ByTime, FileLayout, Period
from services.sinks.local_state.spool import Spool

HOUR = 3_600_000
LAST = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z
FIRST = -62_135_596_800_000  # 0001-01-01
MIB = 1_048_576
BY_HOUR = ByTime("time")
NOWHERE = f"day={ELSEWHERE}/hour={ELSEWHERE}"


class Read:
    """Frames that count how often they are read."""

    def __init__(self, frames: Sequence[pa.Table]) -> None:
        self._frames = frames
        self.times = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._frames)

    def __getitem__(self, number: int) -> pa.Table:
        """Read one."""
        self.times += 1
        return self._frames[number]

    def __iter__(self) -> Iterator[pa.Table]:
        """Read all."""
        return (self[number] for number in range(len(self)))


def table(times: Sequence[int], unit: str = "ms") -> pa.Table:
    """Return rows with these times, numbered."""
    word = pa.array([f"w{time}" for time in times]).dictionary_encode()
    return pa.table({"time": pa.array(times, pa.timestamp(unit, "UTC")), "n": range(len(times)), "word": word})


def divided(layout: FileLayout, *batches: pa.Table) -> list[tuple[str, list[int]]]:
    """Spool batches, and return the folder and the numbers of the rows of each file."""
    frames = Read([frame for batch in batches for frame in layout.frames(batch)])
    return [
        (file.folder, [number for rows in file.tables for number in rows.column("n").to_pylist()])
        for file in layout.files(frames)
    ]


@pytest.mark.parametrize(
    ("time", "folder"),
    [
        (1_777_608_000_000, "day=2026-05-01/hour=04"),
        (1_777_611_599_999, "day=2026-05-01/hour=04"),
        (1_777_611_600_000, "day=2026-05-01/hour=05"),
        (0, "day=1970-01-01/hour=00"),
        (-1, "day=1969-12-31/hour=23"),
        (FIRST, "day=0001-01-01/hour=00"),
        (FIRST - 1, NOWHERE),
        (LAST, "day=9999-12-31/hour=23"),
        (LAST + 1, NOWHERE),
        (2**63 - 1, NOWHERE),
        (-(2**63), NOWHERE),
    ],
)
def test_a_time_has_one_folder(time: int, folder: str) -> None:
    """The folder says the UTC day and hour that a time lies in; years that calendars do not know share a folder."""
    assert divided(BY_HOUR, table([time])) == [(folder, [0])]
    by_day = ByTime("time", (Period.DAY,))
    assert divided(by_day, table([time])) == [(folder.partition("/")[0], [0])]


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_times_of_any_unit_are_understood(unit: str, factor: int) -> None:
    """A time column may count seconds, or thousandths, millionths or billionths of them."""
    rows = table([1_777_608_000 * factor - 1, 1_777_608_000 * factor], unit)
    assert divided(BY_HOUR, rows) == [("day=2026-05-01/hour=03", [0]), ("day=2026-05-01/hour=04", [1])]


def test_rows_of_a_file_stay_in_order() -> None:
    """Within a file rows have the order in which they came, over all batches."""
    first, second = table([HOUR, 0, HOUR + 1, 5]), table([3, HOUR, 1, 0])
    assert divided(BY_HOUR, first, second) == [
        ("day=1970-01-01/hour=00", [1, 3, 0, 2, 3]),
        ("day=1970-01-01/hour=01", [0, 2, 1]),
    ]


def test_too_many_partitions_leave_the_largest_their_folders() -> None:
    """Of more partitions than allowed the smallest share the folder that readers take for null; no row is lost."""
    times = [0, 0, 0, HOUR, HOUR, 2 * HOUR, 3 * HOUR, 3 * HOUR, LAST + 1]
    found = divided(ByTime("time", most=2), table(times))
    assert [(folder, sorted(numbers)) for folder, numbers in found] == [
        ("day=1970-01-01/hour=00", [0, 1, 2]),
        ("day=1970-01-01/hour=01", [3, 4]),
        (NOWHERE, [5, 6, 7, 8]),
    ]


def test_nonsense_for_times_makes_few_files() -> None:
    """Rows each of which has an hour of its own make no more files than allowed, and one."""
    times = [number * 7 * HOUR for number in range(20_000)]
    found = divided(ByTime("time", most=100), table(times[:9_000]), table(times[9_000:]))
    assert len(found) == 101
    assert sum(len(numbers) for _, numbers in found) == len(times)


def test_a_file_has_no_words_of_other_partitions() -> None:
    """Dictionaries hold the words of the file's own rows, whether rows were sorted when they came or not until now."""
    batch = table([0, HOUR, 1, 2 * HOUR])
    for frames in ([batch], list(BY_HOUR.frames(batch))):
        for file in BY_HOUR.files(Read(frames)):
            for rows in file.tables:
                for chunk in rows.column("word").chunks:
                    assert sorted(chunk.dictionary.to_pylist()) == sorted(set(chunk.to_pylist()))


def test_a_backlog_of_a_day_reads_the_spool_about_twice() -> None:
    """Frames are read once to count and once or little more to write, though every batch holds rows of 24 hours."""
    chance = np.random.default_rng(1)
    batches = [table(chance.integers(0, 24 * HOUR, 50_000).tolist()) for _ in range(4)]
    frames = Read([frame for batch in batches for frame in BY_HOUR.frames(batch)])
    assert [sum(rows.num_rows for rows in file.tables) > 0 for file in BY_HOUR.files(frames)] == [True] * 24
    assert frames.times < 2.5 * len(frames)


@pytest.mark.parametrize("spooled_by", [BY_HOUR, ByTime("time", (Period.DAY,))])
def test_a_backlog_of_a_day_takes_little_memory(tmp_path: Path, spooled_by: ByTime) -> None:
    """Rows of 24 hours, fifty megabytes in the spool, sorted when they came or not, are never in memory together."""
    chance, spool, end = np.random.default_rng(1), Spool(tmp_path / "spool"), 0
    for _ in range(10):
        times = pa.array(chance.integers(0, 24 * HOUR, 50_000), pa.timestamp("ms", "UTC"))
        text = pa.array([bytes(90)] * 50_000)
        end = spool.append(spooled_by.frames(pa.table({"time": times, "text": text})), end)
    assert end > 48 * MIB
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    before = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        rows = sum(rows.num_rows for file in BY_HOUR.files(spool.frames(end)) for rows in file.tables)
    finally:
        pa.set_memory_pool(before)
        spool.close()
    assert rows == 500_000
    assert pool.max_memory() < 24 * MIB
