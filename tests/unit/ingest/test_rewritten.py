"""Blobs that are written anew as a whole: what is the same is not read again, what is not is another generation."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from libs.common.messages.events import BlobCheckpoint
from services.ingest.work import GenerationEnd
from tests.blob_container import EPOCH
from tests.blob_reading import LIMITS, Desk, assert_tiles

Parts = list[tuple[str, bytes]]
HEAD, TAIL = ("A0", b'{"records":['), ("Z0", b"]}")
SMALL = replace(LIMITS, compare=65_536)  # larger comparisons go in pieces


def parts(count: int, size: int = 40) -> Parts:
    """Return head, `count` blocks with a record each, and tail."""
    records = [json.dumps({"time": n, "category": "FlowLogFlowEvent", "x": "y" * size}).encode() for n in range(count)]
    return [HEAD, *((f"D{n}", (b"," if n else b"") + record) for n, record in enumerate(records)), TAIL]


def joined(blocks: Parts) -> bytes:
    """Return the whole document."""
    return b"".join(data for _, data in blocks)


def new_ids(desk: Desk, blocks: Parts) -> None:
    """Commit a block list of which no id was there before."""
    desk.container.commit(desk.name, [(f"{len(blocks)}-{n}", data) for n, (_, data) in enumerate(blocks)])


def one_block(desk: Desk, blocks: Parts) -> None:
    """Commit everything as one block, always of the same id."""
    desk.container.commit(desk.name, [("only", joined(blocks))])


def put(desk: Desk, blocks: Parts) -> None:
    """Put Blob."""
    desk.container.put(desk.name, joined(blocks))


def put_later(desk: Desk, blocks: Parts) -> None:
    """Put Blob that makes the blob a new one."""
    desk.container.put(desk.name, joined(blocks), created=EPOCH + timedelta(hours=len(blocks)))


def recreate(desk: Desk, blocks: Parts) -> None:
    """Delete it, and write it with the same block ids."""
    desk.container.commit(desk.name, blocks, created=EPOCH + timedelta(hours=len(blocks)))


def empty_first(desk: Desk, blocks: Parts) -> None:
    """Write nothing first, which is seen, then everything."""
    desk.container.put(desk.name, b"")
    desk.read()
    put(desk, blocks)


Rewrite = Callable[[Desk, Parts], None]
REWRITES: list[Rewrite] = [new_ids, one_block, put, put_later, recreate]


@pytest.mark.parametrize("size", [40, 30_000, 300_000])
@pytest.mark.parametrize("rewrite", REWRITES)
def test_a_blob_that_is_written_anew_with_one_more_record_each_time_grows(rewrite: Rewrite, size: int) -> None:
    """Every record comes once, in one generation, and nothing is an error."""
    desk = Desk(limits=SMALL, allowance=65_536)
    for count in range(1, 5):
        rewrite(desk, parts(count, size))
        desk.read()
    desk.read(closed=True)
    assert desk.text == joined(parts(4, size))[: -len(TAIL[1])]
    assert_tiles(desk.segments)
    assert desk.dead_letters == []
    assert desk.checkpoint is not None
    assert (desk.checkpoint.records, desk.checkpoint.status) == (4, "complete")


def test_a_copier_that_empties_a_blob_before_it_fills_it_doubles_nothing() -> None:
    """The generation ends with the blob, and goes on when its bytes are there again."""
    desk = Desk()
    for count in range(1, 4):
        empty_first(desk, parts(count))
        desk.read()
    assert desk.text == joined(parts(3))[: -len(TAIL[1])]
    assert_tiles(desk.segments)


@pytest.mark.parametrize("size", [40, 30_000])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("rewrite", REWRITES)
def test_other_bytes_anywhere_below_the_cursor_are_another_generation(rewrite: Rewrite, place: int, size: int) -> None:
    """One digit in any record, first or last, makes all of it new."""
    desk = Desk(limits=SMALL, allowance=65_536)
    rewrite(desk, parts(3, size))
    desk.read()
    changed = [(i, data.replace(b'"time": %d' % place, b'"time": 9')) for i, data in parts(4, size)]
    rewrite(desk, changed)
    desk.read()
    assert desk.text == joined(changed)[: -len(TAIL[1])]
    assert len({s.generation for s in desk.segments}) == 2
    assert [d.code for d in desk.dead_letters] == ["incomplete_blob"]
    assert "all 3 known records or lines were read" in desk.dead_letters[0].reason


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("place", [0, 2])
def test_other_bytes_in_blocks_of_the_same_ids_and_sizes_are_another_generation(place: int, *, closed: bool) -> None:
    """Only the ETag tells that there is something to compare; no other request than for growth."""
    desk = Desk()
    desk.container.commit(desk.name, parts(3))
    desk.read(closed=closed)
    changed = [(i, data.replace(b'"time": %d' % place, b'"time": 9')) for i, data in parts(3)]
    desk.container.commit(desk.name, changed)
    desk.container.requests.clear()
    first, *_ = desk.read()
    assert first.ended is (None if closed else GenerationEnd.REPLACED)
    assert desk.container.requests[:2] == ["block_list", "read"]
    assert desk.text == joined(changed)[: -len(TAIL[1])]
    assert len({s.generation for s in desk.segments}) == 2
    assert len(desk.dead_letters) == (0 if closed else 1)


def test_the_last_bytes_of_a_larger_blob_are_compared() -> None:
    """Of more than is read at once the price of a metadata change stays one small range; it still finds another last record."""
    desk = Desk(limits=SMALL, allowance=65_536)
    desk.container.commit(desk.name, parts(3, 60_000))
    desk.read()
    desk.container.touch(desk.name)
    desk.container.bytes_read = 0
    desk.read()
    assert 0 < desk.container.bytes_read < 2_000
    assert len({s.generation for s in desk.segments}) == 1
    last = parts(3, 60_000)
    last[3] = (last[3][0], last[3][1][:-3] + b'z"}')
    desk.container.commit(desk.name, last)
    desk.read()
    assert len({s.generation for s in desk.segments}) == 2


def test_growth_and_metadata_changes_cost_what_they_did() -> None:
    """A block list and one range, with blocks and without."""
    for write in (lambda desk, blocks: desk.container.commit(desk.name, blocks), put):
        desk = Desk()
        for count in (1, 2):
            write(desk, parts(count))
            desk.container.requests.clear()
            desk.read()
            assert desk.container.requests == ["block_list", "read"]
        desk.container.touch(desk.name)
        desk.container.requests.clear()
        desk.read()
        assert desk.container.requests == ["block_list", "read"]
        assert len(desk.segments) == 2


def test_a_large_blob_is_compared_once_a_version_not_once_a_step() -> None:
    """A blob without blocks that takes many steps is read once, and twice if it is written anew meanwhile."""
    desk = Desk(limits=SMALL, allowance=65_536)
    put(desk, parts(10, 30_000))
    steps = 0
    while not steps or desk.checkpoint is None or not desk.checkpoint.etag:
        desk.step(desk.announce())
        steps += 1
        if steps == 4:
            put_later(desk, parts(11, 30_000))
    reads = desk.container.requests.count("read")
    assert reads <= 12 + 4
    assert_tiles(desk.segments)
    assert desk.text == joined(parts(11, 30_000))[: -len(TAIL[1])]


def as_version_2(checkpoint: BlobCheckpoint, *, with_blocks: bool) -> BlobCheckpoint:
    """Return a checkpoint as it was written before there were checksums."""
    digest, blocks = (checkpoint.digest, checkpoint.blocks) if with_blocks else (f"t:{checkpoint.before}", 0)
    return replace(
        checkpoint, digest=digest, blocks=blocks, seen_etag="", before="", checksum=None, checksum_from=0, unread=None
    )


@pytest.mark.parametrize("with_blocks", [True, False])
def test_a_checkpoint_without_a_checksum_proves_what_it_did(*, with_blocks: bool) -> None:
    """Growth goes on; other content below the cursor, as far as such a checkpoint knows it, is another generation."""
    for grown in (True, False):
        desk = Desk()
        desk.container.commit(desk.name, parts(2)) if with_blocks else put(desk, parts(2))
        desk.read()
        assert desk.checkpoint is not None
        desk.checkpoint = as_version_2(desk.checkpoint, with_blocks=with_blocks)
        new = parts(3)
        if not grown:
            new[2] = ("D1b", new[2][1].replace(b"y", b"z"))
        desk.container.commit(desk.name, new) if with_blocks else put(desk, new)
        desk.read()
        assert len({s.generation for s in desk.segments}) == (1 if grown else 2)
        assert len(desk.dead_letters) == (0 if grown else 1)
    assert desk.checkpoint is not None
    assert desk.checkpoint.checksum is not None


def test_what_was_seen_and_not_read_is_counted_in_records() -> None:
    """A record without its end counts as one; brackets and white space count as none."""
    for rest, expected in (
        (b"\n ]\n}\n", "all 2 known records or lines were read"),
        (b',{"time":', "2 records or lines were read; 1 was incomplete and was not"),
    ):
        desk = Desk()
        desk.container.put(desk.name, joined(parts(2)[:-1]) + rest)
        desk.read()
        seen = desk.announce(etag="later")
        del desk.container.blobs[desk.name]
        desk.read(seen)
        assert [d.code for d in desk.dead_letters] == ["incomplete_blob"]
        assert expected in desk.dead_letters[0].reason


def test_of_a_blob_that_was_not_read_to_its_end_bytes_are_told() -> None:
    """Nobody knows how many records they were."""
    desk = Desk(limits=SMALL, allowance=65_536)
    desk.container.commit(desk.name, parts(5, 30_000))
    desk.step(desk.announce())
    desk.container.commit(desk.name, parts(1))
    desk.read()
    assert "60117 of 150278 known bytes were read" in desk.dead_letters[0].reason
