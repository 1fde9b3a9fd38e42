"""Application logs: what a fleet consists of, how its blobs grow, and how they reach a storage or a directory."""

from __future__ import annotations

import gzip
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from libs.common.azure.storage.api import BlobChanged
from libs.common.azure.storage.writer import Target
from libs.common.errors import ConfigError
from libs.common.messages.blobs import BlobId
from libs.common.process.service import Stop
from libs.common.settings.selectors import PRESETS
from libs.demo.applogs.appends import Appends, Directory
from libs.demo.applogs.fleet import Fleet, collect
from libs.demo.applogs.pods import SERVICES, LineShape
from libs.demo.applogs.spec import LogSpec
from libs.demo.applogs.truth import LineKind, SkipReason
from libs.demo.player import PlaybackPace, Player
from services.blob_monitor.sources import Atlas
from services.cli.demo.command import command
from tests import log_text
from tests.unit.blob_monitor.test_sources import of

SPEC = LogSpec(pods=16, lines_per_minute=20, minutes=8)


def test_every_preset_takes_the_blobs_of_its_service() -> None:
    """Each service has pods, and its blobs are those that the selector of this name follows; nobody follows one service."""
    territories = of({"container": SPEC.container, "layout": "kubernetes", "selectors": list(PRESETS)})
    atlas, logs = Atlas(territories), collect(Fleet(SPEC).appends())
    services = dict(zip(logs.truth["blob"].to_pylist(), logs.truth["service"].to_pylist(), strict=True))
    for blob, service in services.items():
        found = atlas.find(blob.replace(SPEC.account, "sub.dev", 1))
        assert (found[0].territory.selector if found else None) == service
    assert set(services.values()) == {*PRESETS, None} == {service.name or None for service in SERVICES}


def test_a_small_fleet_shows_everything() -> None:
    """All shapes, rows and reasons to skip a line; members that end within a line, both spellings, and restarted containers."""
    spec = LogSpec(pods=16, lines_per_minute=60, minutes=100)
    logs = collect(Fleet(spec).appends())
    assert set(logs.truth["shape"].to_pylist()) == set(LineShape)
    assert set(logs.truth["row_type"].to_pylist()) == {*LineKind, None}
    assert set(logs.truth["skipped"].to_pylist()) == {*SkipReason, None}
    texts = {blob: log_text.members(data) for blob, data in logs.blobs.items()}
    torn = {blob for blob, members in texts.items() if any(not member.endswith(b"\n") for member in members)}
    assert 0 < len(torn) < len(texts)
    assert all(members[-1].endswith(b"\n") for members in texts.values())
    assert 0 < sum(b'"Logs"' in b"".join(members) for members in texts.values()) < len(texts)
    pods = Counter(blob.name.partition("_")[0] for blob in texts)
    assert set(pods.values()) >= {1, 2}


def test_a_blob_has_the_lines_of_one_day() -> None:
    """At midnight (UTC) every container goes on in another blob, without an unfinished line in the one before."""
    logs = collect(Fleet(LogSpec(pods=8, minutes=4, start=datetime(2026, 5, 1, 23, 58, tzinfo=UTC))).appends())
    ids = {blob.name.rpartition("-")[2] for blob in logs.blobs}
    assert (len(logs.blobs), len(ids)) == (16, 8)
    for blob, data in logs.blobs.items():
        day = blob.name.partition("/")[2][:8]
        times = {row["observed_time"] for row in log_text.rows(str(blob), data) if "observed_time" in row}
        assert min(times).strftime("%Y%m%d") == day


def test_containers_begin_with_the_fleet() -> None:
    """A fleet that begins later writes the same lines to other blobs; those of containers that begin in both are the same."""
    early = collect(Fleet(LogSpec(minutes=3)).appends())
    late = collect(Fleet(LogSpec(minutes=2, start=datetime(2026, 5, 1, 12, 1, tzinfo=UTC))).appends())
    shared = early.blobs.keys() & late.blobs.keys()
    assert len(shared) < len(late.blobs) / 4
    assert all(early.blobs[blob] == late.blobs[blob] for blob in shared)
    said = [Counter(filter(None, logs.truth["body"].to_pylist())) for logs in (late, early)]
    assert said[0].total() > 100
    assert not said[0] - said[1]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"pods": 0}, "demo: pods is 0; it must be between 1 and 10000"),
        ({"lines_per_minute": 1e9}, "demo: lines_per_minute"),
        ({"seed": -1}, "demo: seed"),
        ({"minutes": 0}, "demo: minutes"),
        ({"start": datetime(2026, 5, 1)}, "no time zone"),  # noqa: DTZ001 - that is what the test is about
    ],
)
def test_a_fleet_that_cannot_be_is_refused(values: dict[str, Any], says: str) -> None:
    """Each value is named with its bounds."""
    with pytest.raises(ConfigError, match=says):
        LogSpec(**values)


@dataclass
class Shelf:
    """Append blobs in memory."""

    blobs: dict[Target, bytes] = field(default_factory=dict)
    appends: int = 0
    closed: bool = False

    def size(self, target: Target) -> int:
        """Return the size of a blob."""
        return len(self.blobs.get(target, b""))

    def append_at(self, target: Target, offset: int, data: bytes) -> None:
        """Append where the blob ends."""
        if self.size(target) != offset:
            raise BlobChanged("another size")
        self.appends += 1
        self.blobs[target] = self.blobs.get(target, b"") + data

    def close(self) -> None:
        """Note it."""
        self.closed = True

    def content(self) -> dict[BlobId, bytes]:
        """Return all blobs by their ids."""
        return {BlobId(SPEC.account, target.container, target.name): data for target, data in self.blobs.items()}


def test_a_run_that_was_stopped_is_continued() -> None:
    """A second run appends what is missing, tells all of it, and a third one appends nothing."""
    shelf, commits = Shelf(), list(Fleet(SPEC).appends())
    before = len(commits) // 2
    Player(Appends(shelf), PlaybackPace(0)).play(commits[:before], Stop())
    assert shelf.appends == before
    for expected in (before, len(commits)):
        played = Player(Appends(shelf), PlaybackPace(0)).play(commits, Stop())
        assert (played.commits, played.already_there) == (len(commits), expected)
        assert shelf.content() == collect(commits).blobs
    assert played.rows == collect(commits).truth.num_rows


def test_a_blob_of_somebody_else_is_not_appended_to(tmp_path: Path) -> None:
    """What is there with another size was not written by this demo."""
    (commit, *_) = Fleet(SPEC).appends()
    target = Target(commit.blob.container, commit.blob.name)
    shelf = Shelf({target: b"x"})
    with pytest.raises(BlobChanged):
        Player(Appends(shelf), PlaybackPace(0)).play([commit], Stop())
    directory = Directory(tmp_path)
    directory.append_at(target, 0, b"x")
    with pytest.raises(BlobChanged, match="delete it, or choose another directory"):
        Appends(directory).write(commit)
    assert (tmp_path / target.container / target.name).read_bytes() == b"x"
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot write"):
        Directory(tmp_path / "file").append_at(Target("logs", "a"), 0, b"x")


def in_order(truth: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a truth, by position."""
    return sorted(log_text.stated(truth), key=lambda row: (row["blob"], row["line_offset"]))


def test_the_command_writes_files_and_tells_the_truth(tmp_path: Path) -> None:
    """`blobtide demo generate --kind applogs --directory` twice: all is there once, and every line is told both times."""
    truth = tmp_path / "truth.parquet"
    words = ["generate", "--kind", "applogs", "--directory", str(tmp_path / "logs"), "--truth", str(truth), "--seed", "9"]
    words += ["--pods", "5", "--minutes", "3", "--start", "2026-05-01T12:00:00Z", "--lines-per-minute", "10"]
    logs = collect(Fleet(LogSpec(seed=9, pods=5, minutes=3, lines_per_minute=10)).appends())
    for said in ("15 commits: ", "15 commits, 15 of them already written: "):
        result = CliRunner().invoke(command, words, catch_exceptions=False)
        assert result.output.startswith(said)
        assert f"{logs.truth.num_rows:,} lines" in result.output
        assert in_order(pq.read_table(truth)) == in_order(logs.truth)
    files = {file: file.read_bytes() for file in (tmp_path / "logs").rglob("*.gz")}
    assert {str(file.relative_to(tmp_path / "logs")): data for file, data in files.items()} == {
        f"{blob.container}/{blob.name}": data for blob, data in logs.blobs.items()
    }
    assert all(gzip.decompress(data) for data in files.values())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--kind", "applogs", "--nics", "3"), "--nics requires a --kind of flow log"),
        (("--kind", "applogs", "--pretty"), "--pretty requires a --kind of flow log"),
        (("--kind", "vnet", "--directory", "x"), "--directory requires --kind applogs"),
        (("--lines-per-minute", "3"), "--lines-per-minute requires --kind applogs"),
    ],
)
def test_options_of_other_logs_are_refused(words: tuple[str, ...], says: str) -> None:
    """An option that would have no effect is named."""
    result = CliRunner().invoke(command, ["generate", *words])
    assert result.exit_code == 2
    assert says in result.output
