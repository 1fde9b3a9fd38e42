"""The file sink in layout hive: folders by time, late rows, sequence numbers, and what happens to leftovers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from libs.common.errors import ConfigError
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from services.sinks.frame.contract import Outcome, Part
from services.sinks.frame.registry import configured_sink
from services.sinks.kinds.file.sink import FileSettings
from tests.dying import die_at
from tests.flows import START_MS, by_identity, rows
from tests.hive import HOUR_MS, NULL_FOLDER, files, folders, read_laid_out, rows_of_hours, with_times
from tests.hive_writer import parts

CONTENT = rows_of_hours(3)
NOON = "day=2026-05-01/hour=12"
ONE = "day=2026-05-01/hour=13"
TWO = "day=2026-05-01/hour=14"


@contextmanager
def opened(directory: Path, **options: Any) -> Iterator[Any]:
    """Open a file sink; layout hive unless told otherwise."""
    sink = configured_sink({"file": {"directory": str(directory), "layout": "hive", **options}}, "file").sink
    sink.open()
    try:
        yield sink
    finally:
        sink.close()


def journal(directory: Path) -> tuple[Any, ...]:
    """Return the sequence number and the recorded names of a shard that nobody has open."""
    with closing(sqlite3.connect(directory / ".blobtide" / "p001" / "state.db")) as database:
        row: tuple[Any, ...] = database.execute("SELECT sequence, final FROM journal").fetchone()
    return row


def test_a_rotation_makes_a_file_in_each_folder(tmp_path: Path) -> None:
    """Rows of three hours make three files, each with a number of its own, which hold the rows of their hour."""
    with opened(tmp_path) as sink:
        assert sink.write(parts(CONTENT)) == Outcome(len(CONTENT))
    assert [file.relative_to(tmp_path).as_posix() for file in files(tmp_path)] == [
        f"{NOON}/flows-p001-00000001.parquet",
        f"{ONE}/flows-p001-00000002.parquet",
        f"{TWO}/flows-p001-00000003.parquet",
    ]
    assert read_laid_out(tmp_path) == by_identity(CONTENT)


def test_limits_count_the_rows_of_all_folders(tmp_path: Path) -> None:
    """A rotation is due by the rows of a shard, whatever hours they are of."""
    with opened(tmp_path, rotate_rows=30, flush_on_close=False) as sink:
        sink.write(parts(CONTENT[:29]))
        assert files(tmp_path) == []
        sink.write(parts(CONTENT[29:30]))
        assert folders(tmp_path) == {NOON: 1, ONE: 1, TWO: 1}


def test_late_rows_get_a_new_file_in_their_old_folder(tmp_path: Path) -> None:
    """Rows of an hour that has files already come into another file beside them; no file changes."""
    late = with_times(CONTENT[60:], [START_MS] * len(CONTENT[60:]))
    with opened(tmp_path, rotate_rows=1) as sink:
        sink.write(parts(CONTENT[:60]))
        before = {file: file.read_bytes() for file in files(tmp_path)}
        sink.write(parts(late))
    assert folders(tmp_path) == {NOON: 2, ONE: 1, TWO: 1}
    assert {file: file.read_bytes() for file in before} == before
    assert read_laid_out(tmp_path) == by_identity([*CONTENT[:60], *late])


def test_days_alone_make_fewer_files(tmp_path: Path) -> None:
    """With partition_by day one folder takes the rows of a whole day."""
    with opened(tmp_path, partition_by="day") as sink:
        sink.write(parts(with_times(CONTENT[:3], [START_MS, START_MS + HOUR_MS, START_MS + 12 * HOUR_MS])))
    assert folders(tmp_path) == {"day=2026-05-01": 1, "day=2026-05-02": 1}


def test_rows_beyond_the_most_partitions_are_in_the_null_folder(tmp_path: Path) -> None:
    """A rotation with more hours than allowed writes every row, those of the smallest hours without a folder of their own."""
    times = [START_MS] * 5 + [START_MS + number * HOUR_MS for number in range(1, 20)]
    content = with_times(CONTENT[: len(times)], times)
    with opened(tmp_path, max_partitions=1) as sink:
        sink.write(parts(content))
    assert folders(tmp_path) == {NOON: 1, NULL_FOLDER: 1}
    assert read_laid_out(tmp_path, allowed_elsewhere=True) == by_identity(content)


@pytest.mark.parametrize("format", ["ndjson", "csv"])
def test_text_files_are_laid_out_too(tmp_path: Path, format: str) -> None:  # noqa: A002
    """Every format and compression can be in folders."""
    with opened(tmp_path, format=format, compression="gzip") as sink:
        sink.write(parts(CONTENT))
    assert sorted(file.relative_to(tmp_path).as_posix() for file in tmp_path.glob("day=*/*/*")) == [
        f"{folder}/flows-p001-{number:08}.{format}.gz" for number, folder in enumerate((NOON, ONE, TWO), start=1)
    ]


def test_rows_that_wait_when_the_layout_changes_get_the_new_one(tmp_path: Path) -> None:
    """Rows spooled in layout flat are divided when files are made in layout hive; files of before stay where they are."""
    with opened(tmp_path, layout="flat") as sink:
        sink.write(parts(CONTENT[:20]))
    with opened(tmp_path, layout="flat", flush_on_close=False) as sink:
        sink.write(parts(CONTENT[20:40]))
    with opened(tmp_path) as sink:
        assert sink.write(parts(CONTENT)) == Outcome(len(CONTENT) - 40, 40)
    assert folders(tmp_path) == {".": 1, NOON: 1, ONE: 1, TWO: 1}
    old = tmp_path / "flows-p001-00000001.parquet"
    old.unlink()
    assert read_laid_out(tmp_path) == by_identity(CONTENT[20:])


def test_going_back_to_flat_makes_one_file_of_what_waits(tmp_path: Path) -> None:
    """Rows spooled in layout hive are one file in layout flat, numbered on from the files in folders."""
    with opened(tmp_path) as sink:
        sink.write(parts(CONTENT[:20]))
    with opened(tmp_path, flush_on_close=False) as sink:
        sink.write(parts(CONTENT[20:40]))
    with opened(tmp_path, layout="flat") as sink:
        assert sink.write(parts(CONTENT)) == Outcome(len(CONTENT) - 40, 40)
    assert (tmp_path / "flows-p001-00000004.parquet").exists()
    assert folders(tmp_path) == {".": 1, NOON: 1, ONE: 1, TWO: 1}


def test_another_partition_by_holds_for_what_waits(tmp_path: Path) -> None:
    """Rows sorted by days when they came are divided by hours if that is set when files are made."""
    with opened(tmp_path, partition_by="day", flush_on_close=False) as sink:
        sink.write(parts(CONTENT[:40]))
    with opened(tmp_path) as sink:
        sink.write(parts(CONTENT))
    assert read_laid_out(tmp_path) == by_identity(CONTENT)


def test_a_name_that_is_taken_in_its_folder_is_stepped_over(tmp_path: Path) -> None:
    """A file of somebody else in a folder is not overwritten, and all numbers still differ."""
    (tmp_path / ONE).mkdir(parents=True)
    (tmp_path / ONE / "flows-p001-00000002.parquet").write_text("mine")
    with opened(tmp_path) as sink:
        sink.write(parts(CONTENT))
    assert (tmp_path / ONE / "flows-p001-00000002.parquet").read_text() == "mine"
    (tmp_path / ONE / "flows-p001-00000002.parquet").unlink()
    assert [file.name[-10:-8] for file in files(tmp_path)] == ["01", "03", "04"]
    assert read_laid_out(tmp_path) == by_identity(CONTENT)


def test_files_and_folders_that_a_reader_took_away_are_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash between two renames, a file that is gone with its folder was taken; the other one gets its folder."""
    die_at(monkeypatch, "sink.part-renamed", 2)
    with pytest.raises(KeyboardInterrupt), opened(tmp_path, rotate_rows=1) as sink:
        sink.write(parts(CONTENT))
    monkeypatch.undo()
    assert folders(tmp_path) == {NOON: 1, ONE: 1}
    taken = []
    for file in files(tmp_path):
        taken.append(file.name)
        file.unlink()
        file.parent.rmdir()
    with opened(tmp_path, rotate_rows=1) as sink:
        assert sink.write(parts(CONTENT)) == Outcome(0, len(CONTENT))
    assert taken == ["flows-p001-00000001.parquet", "flows-p001-00000002.parquet"]
    assert folders(tmp_path) == {TWO: 1}


def test_a_folder_that_is_removed_before_its_file_comes_costs_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a rename fails because somebody removes empty folders, the part stays and its file comes at the next try."""
    rename = Path.rename

    def after_removal(path: Path, target: Path) -> Path:
        if target.parent == tmp_path / ONE:
            monkeypatch.setattr(Path, "rename", rename)
            target.parent.rmdir()
        return rename(path, target)

    with opened(tmp_path, flush_on_close=False) as sink:
        sink.write(parts(CONTENT))
        monkeypatch.setattr(Path, "rename", after_removal)
        sink.release([1])
    with opened(tmp_path, rotate_rows=1) as sink:
        sink.tick()
    with opened(tmp_path, rotate_rows=1) as sink:
        sink.write(parts(CONTENT))
    assert read_laid_out(tmp_path) == by_identity(CONTENT)


def test_one_recorded_name_is_stored_as_the_versions_before_stored_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal of layout flat can be read by a version that knows one name, and its journal by this one."""
    die_at(monkeypatch, "sink.part-recorded")
    with pytest.raises(KeyboardInterrupt), opened(tmp_path, layout="flat", rotate_rows=1) as sink:
        sink.write(parts(rows()))
    monkeypatch.undo()
    assert journal(tmp_path) == (1, "flows-p001-00000001.parquet")
    assert (tmp_path / ".blobtide" / "p001" / "next.part").exists()
    with opened(tmp_path) as sink:
        assert sink.write(parts(rows())) == Outcome(0, len(rows()))
    assert folders(tmp_path) == {".": 1}
    assert journal(tmp_path) == (2, None)


def test_dead_letters_are_laid_out_by_their_own_time(tmp_path: Path) -> None:
    """Rows of another type are divided by the time column of that type."""
    content = DEAD_LETTERS.example_table.combine_chunks()
    hour = content.column("time")[0].as_py().strftime("day=%Y-%m-%d/hour=%H")
    with opened(tmp_path, rows="dead_letters") as sink:
        assert sink.write([Part(1, DEAD_LETTERS, content, (1,))]) == Outcome(1)
    assert [file.relative_to(tmp_path).as_posix() for file in tmp_path.glob("day=*/*/*")] == [
        f"{hour}/dead_letters-p001-00000001.parquet"
    ]


@pytest.mark.parametrize("name", ["day", "hour", "hour.of"])
def test_a_column_cannot_have_the_name_of_a_folder(tmp_path: Path, name: str) -> None:
    """A column that is renamed to what readers make of the folders is refused, but for layout flat."""
    with (
        pytest.raises(ConfigError, match=f"rename: {name} is the name of a folder"),
        opened(tmp_path, rename={"rule": name}),
    ):
        pass
    with opened(tmp_path, layout="flat", rename={"rule": name}):
        pass


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"partition_by": "hour"}, "by day, or by day and hour"),
        ({"partition_by": "hour,day"}, "by day, or by day and hour"),
        ({"partition_by": "minute"}, "'day' or 'hour'"),
        ({"partition_by": []}, "by day, or by day and hour"),
        ({"max_partitions": 0}, "greater than or equal to 1"),
        ({"layout": "tree"}, "'flat' or 'hive'"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    """Options that cannot work are refused with a sentence."""
    with pytest.raises(ValidationError, match=message):
        FileSettings.model_validate({"directory": tmp_path, "layout": "hive", **wrong})
