"""Demo data on a real Azurite."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from libs.common.azure.retry import RetryPolicy
from libs.common.azure.storage.api import BlobChanged, BlobGone, Container, StorageError
from libs.common.azure.storage.blobs import open_container
from libs.common.azure.storage.writer import BlobWriter, Target
from libs.common.process.service import Stop
from libs.common.settings.storage import StorageAccount
from libs.demo.applogs.appends import Appends
from libs.demo.applogs.fleet import Fleet, MemberAppend
from libs.demo.applogs.fleet import collect as collect_members
from libs.demo.applogs.spec import LogSpec
from libs.demo.commits import Action, Logs, MinuteCommit, collect
from libs.demo.estate import Estate
from libs.demo.player import BlockLists, PlaybackPace, Played, Player
from libs.demo.spec import EstateSpec
from libs.local.azurite import LocalAzurite
from services.cli.demo.command import command
from tests.flows import values_of

pytestmark = pytest.mark.azurite

SPEC = EstateSpec(nics=5, tuples_per_minute=20, minutes=8)


def account(azurite: LocalAzurite) -> StorageAccount:
    """Return Azurite's account as settings."""
    return StorageAccount(connection_string=SecretStr(azurite.connection_string))


def into(container: str, commits: list[MinuteCommit]) -> list[MinuteCommit]:
    """Return the commits with all blobs in one container."""
    return [replace(commit, blob=replace(commit.blob, container=container)) for commit in commits]


def content(reader: Container, logs: Logs) -> dict[str, bytes]:
    """Return what storage has of the blobs of `logs`."""
    infos = {blob.name: reader.info(blob.name) for blob in logs.blobs}
    return {name: reader.read(name, 0, info.size, info.etag) for name, info in infos.items()}


def test_storage_shows_the_blocks_that_azure_would(azurite: LocalAzurite, container: str) -> None:
    """The committed block list is head, one block a minute, tail, with Azure's ids; the content is the generator's."""
    commits = into(container, list(Estate(SPEC).commits()))
    writer = BlobWriter(account(azurite), "demo.local")
    Player(BlockLists(writer), PlaybackPace(0)).play(commits, Stop())
    reader, logs = open_container(account(azurite), "demo.local", container), collect(commits)
    assert content(reader, logs) == {blob.name: data for blob, data in logs.blobs.items()}
    for blob, data in logs.blobs.items():
        listed = reader.block_list(blob.name)
        head, *blocks, tail = [base64.b64decode(block.id).decode() for block in listed.blocks]
        assert (head, tail) == ("A" + "0" * 32, "Z" + "0" * 32)
        assert len(blocks) == SPEC.minutes
        assert all(block[0] == "D" and len(block) == 33 for block in blocks)
        assert listed.size == len(data) == sum(block.size for block in listed.blocks)
        assert (listed.blocks[0].size, listed.blocks[-1].size) == (12, 2)
    writer.close()
    reader.close()


def test_a_run_goes_on_after_an_outage(azurite: LocalAzurite, container: str) -> None:
    """Storage that goes away in the middle is waited for, and nothing is missing or double afterwards."""
    commits = into(container, list(Estate(SPEC).commits()))
    writer = BlobWriter(account(azurite), "demo.local", RetryPolicy(deadline=60.0))

    def interrupt(_commit: MinuteCommit, played: Played) -> None:
        if played.commits == len(commits) // 2:
            azurite.stop()
            azurite.start()

    Player(BlockLists(writer), PlaybackPace(0), interrupt).play(commits, Stop())
    logs = collect(commits)
    reader = open_container(account(azurite), "demo.local", container)
    assert content(reader, logs) == {blob.name: data for blob, data in logs.blobs.items()}
    writer.close()
    reader.close()


def test_a_commit_repeated_changes_no_byte(azurite: LocalAzurite, container: str) -> None:
    """A commit whose answer was lost can be done again, with or without its blocks."""
    writer = BlobWriter(account(azurite), "demo.local")
    reader = open_container(account(azurite), "demo.local", container)
    commits = [commit for commit in into(container, list(Estate(SPEC).commits())) if commit.nic == 0]
    target = Target(container, commits[0].blob.name)
    for commit in commits:
        for _ in range(2):
            for block in commit.staged:
                writer.stage_block(target, block.id, block.data)
            writer.commit_blocks(target, commit.block_ids)
            writer.commit_blocks(target, commit.block_ids)
        assert writer.block_ids(target) == commit.block_ids
    logs = collect(commits)
    assert content(reader, logs) == {blob.name: data for blob, data in logs.blobs.items()}
    assert commits[-1].action is Action.APPEND
    writer.close()
    reader.close()


def test_the_writer_makes_the_other_kinds_of_blobs(azurite: LocalAzurite, container: str) -> None:
    """Whole blobs have no block list, append blobs grow, metadata changes only the ETag, deleted blobs are gone."""
    writer = BlobWriter(account(azurite), "demo.local")
    reader = open_container(account(azurite), "demo.local", container)
    writer.create_container(container)
    whole, growing = Target(container, "a b/whole.json"), Target(container, "growing.log")
    writer.put(whole, b"one")
    writer.put(whole, b"three")
    before = reader.info(whole.name)
    assert reader.block_list(whole.name).blocks == ()
    writer.set_metadata(whole, {"seen": "yes"})
    after = reader.info(whole.name)
    assert after.etag != before.etag
    assert reader.read(whole.name, 0, after.size, after.etag) == b"three"
    writer.create_append_blob(growing)
    writer.append(growing, b"x\n")
    writer.append(growing, b"y\n")
    info = reader.info(growing.name)
    assert (info.blob_type, reader.read(growing.name, 0, 4, info.etag)) == ("AppendBlob", b"x\ny\n")
    writer.delete(whole)
    with pytest.raises(BlobGone):
        reader.info(whole.name)
    with pytest.raises(BlobGone):
        writer.delete(whole)
    assert writer.block_ids(whole) == ()
    writer.close()
    reader.close()


def test_the_command_creates_containers_and_tells_the_truth(azurite: LocalAzurite, tmp_path: Path) -> None:
    """`blobtide demo generate` twice: all is there once, and the truth file names every tuple both times."""
    truth = tmp_path / "truth.parquet"
    words = ["generate", "--connection-string", azurite.connection_string, "--truth", str(truth), "--seed", "99"]
    words += ["--nics", "4", "--minutes", "3", "--start", "2026-05-01T12:00:00Z", "--tuples-per-minute", "10"]
    spec = EstateSpec(seed=99, nics=4, minutes=3, tuples_per_minute=10)
    commits = list(Estate(spec).commits())
    logs, count = collect(commits), len(commits)
    for said in (f"{count} commits: ", f"{count} commits, {count} of them already written: "):
        result = CliRunner().invoke(command, words, catch_exceptions=False)
        assert result.output.startswith(said)
        assert f"{logs.truth.num_rows:,} tuples" in result.output
        rows = values_of(pq.read_table(truth))
        key = lambda row: (row["blob"], row["record_offset"], row["tuple_index"])  # noqa: E731
        assert sorted(rows, key=key) == sorted(values_of(logs.truth), key=key)
    for container in {blob.container for blob in logs.blobs}:
        reader = open_container(account(azurite), "demo.local", container)
        mine = Logs({blob: data for blob, data in logs.blobs.items() if blob.container == container}, logs.truth)
        assert content(reader, mine) == {blob.name: data for blob, data in mine.blobs.items()}
        reader.close()


def test_append_blobs_grow_where_they_end(azurite: LocalAzurite, container: str) -> None:
    """An append that is repeated adds nothing; one at another offset is refused, and so is one to another kind of blob."""
    writer = BlobWriter(account(azurite), "demo.local")
    reader = open_container(account(azurite), "demo.local", container)
    target, other = Target(container, "a.gz"), Target(container, "b.gz")
    assert writer.size(target) == 0
    for offset, data in ((0, b"one"), (0, b"one"), (3, b"two"), (3, b"two")):
        writer.append_at(target, offset, data)
    info = reader.info(target.name)
    assert (info.blob_type, writer.size(target), reader.read(target.name, 0, 6, info.etag)) == ("AppendBlob", 6, b"onetwo")
    for offset in (0, 1, 7):
        with pytest.raises(BlobChanged):
            writer.append_at(target, offset, b"x")
    writer.put(other, b"whole")
    with pytest.raises(StorageError):
        writer.append_at(other, 5, b"x")
    assert (writer.size(target), writer.size(other)) == (6, 5)
    writer.close()
    reader.close()


def test_application_logs_go_on_after_an_outage(azurite: LocalAzurite, container: str) -> None:
    """Storage that goes away in the middle is waited for, and no member is missing or double afterwards."""
    commits = list(Fleet(LogSpec(pods=9, minutes=8, container=container)).appends())
    writer = BlobWriter(account(azurite), "demo.local", RetryPolicy(deadline=60.0))

    def interrupt(_commit: MemberAppend, played: Played) -> None:
        if played.commits == len(commits) // 2:
            azurite.stop()
            azurite.start()

    Player(Appends(writer), PlaybackPace(0), interrupt).play(commits, Stop())
    reader, logs = open_container(account(azurite), "demo.local", container), collect_members(commits)
    assert content(reader, logs) == {blob.name: data for blob, data in logs.blobs.items()}
    writer.close()
    reader.close()


def test_the_command_writes_application_logs(azurite: LocalAzurite) -> None:
    """`blobtide demo generate --kind applogs` twice: all is there once, in a container that it creates."""
    words = ["generate", "--kind", "applogs", "--connection-string", azurite.connection_string, "--seed", "98", "--pods", "4"]
    words += ["--minutes", "3", "--start", "2026-05-01T12:00:00Z"]
    logs = collect_members(Fleet(LogSpec(seed=98, pods=4, minutes=3)).appends())
    for said in ("12 commits: ", "12 commits, 12 of them already written: "):
        result = CliRunner().invoke(command, words, catch_exceptions=False)
        assert result.output.startswith(said)
    reader = open_container(account(azurite), "demo.local", LogSpec().container)
    assert content(reader, logs) == {blob.name: data for blob, data in logs.blobs.items()}
    reader.close()
