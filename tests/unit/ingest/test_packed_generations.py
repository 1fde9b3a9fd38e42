"""Compressed blobs that are read again: which bytes are another generation, and which are the same."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from libs.common.messages.events import BlobCheckpoint, decode_event
from services.ingest.reading.decoders import Decoders
from services.ingest.work import ReadingTask
from tests.blob_container import EPOCH
from tests.blob_reading import assert_tiles
from tests.packed import gzip_member
from tests.packed_desk import a_desk, codes, known, lines, put

GIVEN_UP = Path(__file__).parents[2] / "data" / "given_up_gzip.json"


@pytest.mark.parametrize("name", ["put", "blocks", "second"])
@pytest.mark.parametrize("closed", [True, False])
def test_a_blob_that_an_earlier_version_gave_up_is_read_from_its_start(name: str, *, closed: bool) -> None:
    """Also if it has not changed since; its generation has the name that it would have had."""
    kept = json.loads(GIVEN_UP.read_text())
    found = decode_event(bytes.fromhex(kept["checkpoints"][name]))
    assert isinstance(found, BlobCheckpoint)
    data = bytes.fromhex(kept["blob"])
    desks = [a_desk(checkpoint=found), a_desk()]
    for desk in desks:
        desk.container.commit(desk.name, [("D0", data)]) if name == "blocks" else desk.container.put(desk.name, data)
        desk.container.blobs[desk.name].etag = found.etag
        assert not ReadingTask(desk.announce(closed=closed), desk.checkpoint, desk.stream, 1).nothing_new
        desk.read(closed=closed)
        assert desk.text == b"first line\nsecond line\nthird line\n"
        assert desk.dead_letters == []
    assert {s.generation for s in desks[0].segments} == {s.generation for s in desks[1].segments}


CHANGES = ["shrunk", "recreated", "other start", "other end", "same blocks"]


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_other_bytes_below_what_was_read_are_another_generation(change: str, *, kept: bool) -> None:
    """Also inside the member that is being read, of which no boundary was passed yet."""
    desk = a_desk(decoders=Decoders(10_000_000 if kept else 0))
    old, new = (gzip_member(lines(begin, begin + 3_000), 6, (40_000, 60_000)) for begin in (0, 5_000))
    size = len(old) // 2
    half = len(old) // 4
    parts = [("A", old[:half]), ("B", old[half:size])]
    desk.container.commit(desk.name, parts)
    desk.read()
    match change:
        case "shrunk":
            desk.container.commit(desk.name, [("A", old[:half])])
        case "recreated":
            desk.container.recreate(desk.name, [("A", new[:half]), ("B", new[half:size])])
        case "other start":
            desk.container.commit(desk.name, [("C", new[:half]), ("B", old[half:size])])
        case "other end":
            desk.container.commit(desk.name, [("A", old[:half]), ("C", old[half : size - 1] + b"\x55")])
        case "same blocks":
            desk.container.commit(desk.name, [("A", new[:half]), ("B", new[half:size])])
    desk.read()
    generations = list(dict.fromkeys(c.generation for c in desk.completions))
    assert len(generations) == 2
    assert "incomplete_blob" in codes(desk)
    found = [s for s in desk.segments if s.generation == generations[1]]
    assert found == [] or found[0].start == 0
    if change in {"recreated", "same blocks"}:
        assert lines(5_000, 8_000).startswith(desk.text)
        assert len(desk.text) > 10_000


@pytest.mark.parametrize("kept", [True, False])
def test_the_same_bytes_in_another_form_continue_the_generation(*, kept: bool) -> None:
    """Metadata, other blocks, another creation time: nothing comes twice, and growth inside the member continues."""
    desk = a_desk(decoders=Decoders(10_000_000 if kept else 0))
    whole = gzip_member(lines(0, 3_000), 6, (20_000, 40_000, 60_000))
    quarter = len(whole) // 4
    desk.container.commit(desk.name, [("A", whole[:quarter])])
    desk.read()
    before = known(desk)
    desk.container.touch(desk.name)
    desk.read()
    assert replace(known(desk), etag=before.etag, seen_etag=before.etag) == before
    desk.container.commit(desk.name, [("B", whole[:100]), ("C", whole[100 : 2 * quarter])])
    desk.read()
    desk.container.put(desk.name, whole[: 3 * quarter], created=EPOCH + timedelta(hours=1))
    desk.read()
    desk.container.recreate(desk.name, [("D", whole)])
    desk.read(closed=True)
    assert (desk.text, desk.dead_letters) == (lines(0, 3_000), [])
    assert_tiles(desk.segments)
    assert len({s.generation for s in desk.segments}) == 1


def test_a_replay_gives_the_same_segments_again() -> None:
    """Also of a blob that is in the middle of a member."""
    desk = put(a_desk(), gzip_member(lines(0, 900), 6, (9_000,))[:-500])
    first = list(desk.segments)
    desk.read(replay_id="again")
    assert desk.segments == first * 2


def test_the_name_of_a_generation_does_not_depend_on_how_much_was_there() -> None:
    """It follows from the first line, or the first block, however much of the blob was written when it was read first."""
    for with_blocks in (True, False):
        names = set()
        for end in (60, 100, 500):
            desk = a_desk()
            data = gzip_member(b"the first line\n", 6) + gzip_member(lines(0, 50))
            desk.container.commit(desk.name, [("D0", data[:50]), ("D1", data[50:end])] if with_blocks else [])
            if not with_blocks:
                desk.container.put(desk.name, data[:end])
            desk.read()
            names.add(known(desk).generation)
        assert len(names) == 1
