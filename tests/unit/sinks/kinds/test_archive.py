"""The archive sink: what its zips are called and hold, and what becomes of leftovers and trouble."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from libs.common.errors import ConfigError, Retry
from services.sinks.frame.contract import Outcome
from services.sinks.frame.registry import configured_sink
from services.sinks.kinds.archive.names import file_safe
from services.sinks.kinds.archive.sink import ArchiveSettings, ArchiveSink
from services.sinks.local_state import used_names
from tests.clock import Clock
from tests.contract.harness import full_disk
from tests.dying import die_at
from tests.flows import START_MS
from tests.snapshots import archived, as_archived, part_of, snapshot, snapshots, zips

NOON = "2026_05_01_12-00-00"
WHERE = ("services.sinks.local_state.shard_store", "services.sinks.kinds.archive.zipping")
POINTS = (
    "sink.part-synced",
    "sink.part-recorded",
    "sink.zip-synced",
    "sink.zip-checked",
    "sink.part-removed",
    "sink.zip-renamed",
    "sink.published",
    "sink.rolled",
)


def make(directory: Path, clock: Clock | None = None, **options: Any) -> ArchiveSink:
    """Open an archive."""
    sink = ArchiveSink(ArchiveSettings.model_validate({"directory": directory, **options}), clock=clock or Clock(1_000_000.0))
    sink.open()
    return sink


def test_a_source_gets_a_zip_with_its_records_as_they_are(tmp_path: Path) -> None:
    """A file has the records of one source, byte by byte, in order, one a line; its name says since when; deflated."""
    odd = snapshot(9, record='{"timestamp":1777636809000,\r\n "flowinfo": [ 1.50, "\\n\u00e4" ]\n}')
    sink = make(tmp_path)
    assert sink.write(part_of([*snapshots(9), odd])) == Outcome(19)
    assert zips(tmp_path) == {}
    sink.close()
    assert zips(tmp_path) == {
        f"{NOON}_flowinfo_json.zip": [
            *(one["record"] for one in snapshots(9, ["flowinfo"])),
            '{"timestamp":1777636809000,   "flowinfo": [ 1.50, "\\n\u00e4" ] }',
        ],
        f"{NOON}_graphinfo_json.zip": [one["record"] for one in snapshots(9, ["graphinfo"])],
    }
    with zipfile.ZipFile(tmp_path / f"{NOON}_flowinfo_json.zip") as archive:
        (member,) = archive.infolist()
        deflate = zlib.compressobj(4, zlib.DEFLATED, -zlib.MAX_WBITS)
        size = len(deflate.compress(archive.read(member)) + deflate.flush())
    assert (member.compress_type, member.compress_size) == (zipfile.ZIP_DEFLATED, size)
    assert member.date_time == (2026, 5, 1, 12, 0, 0)


def test_a_file_is_complete_by_time_without_new_snapshots(tmp_path: Path) -> None:
    """An interval after the first snapshot there is a zip, although no more come."""
    clock = Clock(1_000_000.0)
    sink = make(tmp_path, clock, rotate_seconds=60)
    sink.write(part_of(snapshots(3)))
    clock.now += 59
    sink.tick()
    assert zips(tmp_path) == {}
    clock.now += 1
    sink.tick()
    assert archived(tmp_path) == as_archived(snapshots(3))
    sink.close()


def test_a_sink_that_was_behind_makes_the_files_of_the_intervals(tmp_path: Path) -> None:
    """Snapshots of half an hour that come at once are divided by source and interval, whatever else is between them."""
    content = [snapshot(30 * number, source) for number in range(61) for source in ("a", "b")]
    late = snapshot(900, "c")
    sink = make(tmp_path, rotate_seconds=600)
    sink.write(part_of([*content, late]))
    sink.close()
    found = zips(tmp_path)
    starts = [f"2026_05_01_12-{minute}" for minute in ("00-00", "10-00", "20-00")]
    assert list(found) == [
        *(f"{start}_{source}_json.zip" for start in starts[:2] for source in "ab"),
        "2026_05_01_12-15-00_c_json.zip",
        *(f"{starts[2]}_{source}_json.zip" for source in "ab"),
    ]
    assert [len(found[f"{start}_a_json.zip"]) for start in starts] == [21, 20, 20]
    assert archived(tmp_path) == as_archived([*content, late])


def test_times_that_make_no_sense_cost_neither_rows_nor_files(tmp_path: Path) -> None:
    """Times of a broken clock, out of every calendar, are written as well, in a few files."""
    times = [-(2**62), -62_135_596_800_001, 0, START_MS, 253_402_300_800_000, 2**62]
    content = [snapshot(number, time=time) for number, time in enumerate(times)]
    sink = make(tmp_path, rotate_seconds=1)
    sink.write(part_of(content))
    sink.close()
    assert archived(tmp_path) == as_archived(content)
    assert min(zips(tmp_path)).startswith("0001_01_01_00-00-00_")
    assert max(zips(tmp_path)).startswith("99")


def test_names_never_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of one second get the seconds after it: after a restart, beside another's file, and if a reader took them."""
    (tmp_path / "2026_05_01_12-00-01_flowinfo_json.zip").write_text("another's")
    for number in range(3):
        sink = make(tmp_path)
        sink.write(part_of([snapshot(number, time=START_MS + number)]))
        sink.close()
        (tmp_path / f"{NOON}_flowinfo_json.zip").unlink(missing_ok=True)
    assert sorted(file.name for file in tmp_path.glob("*.zip")) == [
        f"2026_05_01_12-00-0{second}_flowinfo_json.zip" for second in (1, 2, 3)
    ]
    assert (tmp_path / "2026_05_01_12-00-01_flowinfo_json.zip").read_text() == "another's"
    monkeypatch.setattr(used_names, "_REMEMBERED", 0)
    sink = make(tmp_path)
    for number in (4, 5):
        sink.write(part_of([snapshot(number, time=START_MS)]))
        sink.release([1])
    sink.close()
    assert len(list(tmp_path.glob("*.zip"))) == 5


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("flow-info_1.A", "flow-info_1.A"),
        ("../../etc/passwd", "..%2F..%2Fetc%2Fpasswd"),
        ("\0\n\\:*~%", "%00%0A%5C%3A%2A%7E%25"),
        ("", "~"),
        ("x" * 100, "x" * 100),
    ],
)
def test_a_source_never_chooses_a_path(source: str, name: str, tmp_path: Path) -> None:
    """Whatever a source is called, its file lies in the directory, under a name that shows what it is of."""
    sink = make(tmp_path / "archive")
    sink.write(part_of([snapshot(0, source)]))
    sink.close()
    assert list(zips(tmp_path / "archive")) == [f"{NOON}_{name}_json.zip"]
    assert list(tmp_path.iterdir()) == [tmp_path / "archive"]


def test_long_names_are_cut_and_stay_apart() -> None:
    """Sources whose names differ only far behind have different names, which every file system takes."""
    names = [file_safe("\u00e4" * 1_000 + end) for end in ("a", "b", "")]
    assert len(set(names)) == 3
    assert all(re.fullmatch(r"[A-Za-z0-9%~]{1,100}", name) for name in names)


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_at_any_step_leaves_each_record_once(point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an end at any step of a rotation of two files, the zips hold each record once, and nothing is left over."""
    for times in (1, 2):
        directory = tmp_path / str(times)
        die_at(monkeypatch, point, times, WHERE)
        sink = make(directory, rotate_rows=10, zip_threads=1)
        try:
            for at in range(0, 40, 5):
                sink.write(part_of(snapshots(20)[at : at + 5]))
            pytest.fail(f"{point} is not reached {times} times")
        except KeyboardInterrupt:
            monkeypatch.undo()
        assert archived(directory) <= as_archived(snapshots(20))
        again = make(directory)
        again.write(part_of(snapshots(20)))
        again.close()
        assert archived(directory) == as_archived(snapshots(20))
        assert sorted(file.name for file in (directory / ".blobtide" / "p001").iterdir()) == ["lock", "spool", "state.db"]


def test_no_zip_replaces_one_of_another_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that has moved to another shard does not get the name that the crashed one has chosen, nor one of before."""
    first, second = make(tmp_path), make(tmp_path)
    first.write(part_of([snapshot(0)], shard=1))
    die_at(monkeypatch, "sink.part-recorded", modules=WHERE)
    with pytest.raises(KeyboardInterrupt):
        first.close()
    monkeypatch.undo()
    second.write(part_of([snapshot(1, time=START_MS)], shard=2))
    second.close()
    third = make(tmp_path)
    third.write(part_of([snapshot(2, time=START_MS)], shard=3))
    third.close()
    assert archived(tmp_path).total() == 3
    assert len(zips(tmp_path)) == 3


def test_a_zip_does_not_replace_a_file_that_was_put_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that appears under the name of a zip while that is made stays; the zip waits until it is moved away."""
    sink, place = make(tmp_path), tmp_path / f"{NOON}_flowinfo_json.zip"
    sink.write(part_of([snapshot(0)]))
    die_at(monkeypatch, "sink.part-removed", modules=WHERE)
    with pytest.raises(KeyboardInterrupt):
        sink.close()
    monkeypatch.undo()
    place.write_text("another's")
    again = make(tmp_path)
    with pytest.raises(Retry, match="move it away"):
        again.write(part_of([snapshot(1)]))
    place.rename(tmp_path / "another")
    again.write(part_of([snapshot(1)]))
    again.close()
    (tmp_path / "another").unlink()
    assert archived(tmp_path) == as_archived([snapshot(0), snapshot(1)])


def test_a_zip_that_a_reader_took_away_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash between the rename and its record, a zip that is gone was taken: its records do not come twice."""
    die_at(monkeypatch, "sink.zip-renamed", modules=WHERE)
    sink = make(tmp_path, rotate_rows=10)
    with pytest.raises(KeyboardInterrupt):
        sink.write(part_of(snapshots(10, ["flowinfo"])))
    monkeypatch.undo()
    (tmp_path / f"{NOON}_flowinfo_json.zip").unlink()
    again = make(tmp_path)
    again.write(part_of(snapshots(12, ["flowinfo"])))
    again.close()
    assert archived(tmp_path) == as_archived(snapshots(2, ["flowinfo"], first=10))


def test_a_directory_that_is_removed_is_noticed_before_more_is_written(tmp_path: Path) -> None:
    """Rows are not committed to files that have no name any more: the write fails, and the next one begins anew."""
    sink = make(tmp_path)
    for first in (0, 10):
        sink.write(part_of(snapshots(10, first=first)))
        (tmp_path / ".blobtide").rename(tmp_path / f"away-{first}")
        if first:
            make(tmp_path).write(part_of(snapshots(1)))
        with pytest.raises(Retry, match="No such file" if not first else "replaced while"):
            sink.write(part_of(snapshots(10, first=first + 10)))
    sink.close()


@pytest.mark.parametrize("damage", ["content", "other", "end"])
def test_a_zip_that_does_not_hold_the_file_is_noticed(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zip that the disk has changed is no zip: the file stays, the sink waits, and the next one is sound."""
    home = tmp_path / ".blobtide" / "p001"

    def spoil(name: str) -> None:
        target = home / "next.part.zip"
        if name == "sink.zip-synced" and damage == "other":
            with zipfile.ZipFile(target, "w") as archive:
                archive.writestr("other.json", "{}\n")
        elif name == "sink.zip-synced":
            data = bytearray(target.read_bytes())
            data[70 if damage == "content" else -20] ^= 255
            target.write_bytes(data)

    monkeypatch.setattr("services.sinks.kinds.archive.zipping.crash_point", spoil)
    sink = make(tmp_path, rotate_rows=10)
    with pytest.raises(Retry, match=r"cannot write under .*p001: the zip that was written"):
        sink.write(part_of(snapshots(10, ["flowinfo"])))
    assert (home / "next.part").exists()
    assert zips(tmp_path) == {}
    monkeypatch.undo()
    assert sink.write(part_of(snapshots(10, ["flowinfo"]))) == Outcome(0, 10)
    sink.close()
    assert archived(tmp_path) == as_archived(snapshots(10, ["flowinfo"]))


def test_a_disk_that_is_full_while_files_are_made_costs_nothing(tmp_path: Path) -> None:
    """Rows that are committed stay where they are until there is room for their files."""
    content = [snapshot(number, record=f'{{"n":{number},"pad":"{"x" * 10_000}"}}') for number in range(10)]
    sink = make(tmp_path, rotate_bytes=1_000_000)
    for one in content[:9]:
        sink.write(part_of([one]))
    with full_disk(50_000):
        sink.release([1])
        assert zips(tmp_path) == {}
        with pytest.raises(Retry, match="File too large"):
            sink.write(part_of(content))
    assert sink.write(part_of(content)) == Outcome(1, 9)
    sink.close()
    assert archived(tmp_path) == as_archived(content)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rows": "flows"}, "rows: the archive sink supports snapshots, not flows"),
        ({"columns": "record"}, "columns has no effect on records"),
        ({"rename": {"time": "t"}}, "rename has no effect on records"),
        ({"sample": 0.5}, "sample has no effect on records"),
        ({"rotate_seconds": 0}, "rotate_seconds"),
        ({"zip_threads": 0}, "zip_threads"),
    ],
)
def test_options_that_cannot_be_are_refused(wrong: dict[str, Any], message: str, tmp_path: Path) -> None:
    """What would have no effect, or none that anybody wants, is named at the start."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        configured_sink({"archive": {"directory": str(tmp_path), **wrong}}, "archive")


def test_a_directory_of_another_kind_is_refused(tmp_path: Path) -> None:
    """Its positions would be mistaken for those of snapshots."""
    other = configured_sink({"file": {"directory": str(tmp_path), "rows": "snapshots"}}, "file").sink
    other.open()
    other.close()
    with pytest.raises(ConfigError, match="belongs to a file of snapshots sink: give the archive sink its own directory"):
        make(tmp_path)
