"""Reading one blob: every way in which blobs grow, change and break, on an in-memory container."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from libs.common.azure.storage.api import BlobUnreadable, StorageUnavailable
from libs.common.messages.events import CheckpointStatus, Stream
from services.ingest.cutting.window import SizeLimits
from services.ingest.reading.content import MOST_UNDECIDED
from services.ingest.work import GenerationEnd, ReadingTask, Skip
from tests.blob_reading import Desk, assert_tiles, records_of, tuples_of

HEAD, TAIL = ("A0", b'{"records":['), ("Z0", b"]}")
SMALL = SizeLimits(segment=400, line=300, record=20_000)


def block(number: int, *, first: bool = False, category: str = "FlowLogFlowEvent") -> tuple[str, bytes]:
    """Return a data block with one record."""
    record = json.dumps({"time": number, "category": category, "x": "y" * 40}).encode()
    return f"D{number}", record if first else b"," + record


def blocks(count: int) -> list[tuple[str, bytes]]:
    """Return the blocks of a growing blob after `count` minutes, head and tail included."""
    return [HEAD, *(block(n, first=n == 0) for n in range(count)), TAIL]


def body(parts: list[tuple[str, bytes]]) -> bytes:
    """Return a document without its tail."""
    return b"".join(data for _, data in parts[:-1])


def text(desk: Desk, data: bytes, **more: Any) -> Desk:
    """Put one blob without blocks and read it."""
    desk.container.put(desk.name, data)
    desk.read(**more)
    return desk


def test_each_commit_gives_what_is_new_and_never_the_tail() -> None:
    """A blob that grows by a block a commit gives one segment a read, from the cursor to the end of the last data block."""
    desk = Desk()
    for count in range(4):
        desk.container.commit(desk.name, blocks(count))
        desk.read()
    assert_tiles(desk.segments)
    assert [s.data for s in desk.segments] == [HEAD[1] + block(0, first=True)[1], block(1)[1], block(2)[1]]
    assert {s.format.value for s in desk.segments} == {"vnet"}
    assert desk.checkpoint is not None
    assert (desk.checkpoint.blocks, desk.checkpoint.records, desk.checkpoint.status) == (4, 3, "open")
    assert len({c.generation for c in desk.completions}) == 1


@pytest.mark.parametrize(
    ("head", "tail"),
    [
        (b'{"records":[', b"]}"),
        (b'{\r\n  "records" : [\r\n', b"\r\n]\r\n}\r\n"),
        (b'\xef\xbb\xbf{"records":[', b"]}"),
        (b'\xef\xbb\xbf \n{ "records":[\n', b"\n]\n}"),
    ],
)
def test_head_and_tail_are_known_by_structure(head: bytes, tail: bytes) -> None:
    """Heads and tails of any size and layout are found, in blobs with blocks and without."""
    for with_blocks in (True, False):
        desk = Desk()
        for count in (0, 1, 3):
            parts = [("A", head), *(block(n, first=n == 0) for n in range(count)), ("Z", tail)]
            if with_blocks:
                desk.container.commit(desk.name, parts)
            else:
                desk.container.put(desk.name, b"".join(data for _, data in parts))
            desk.read()
        desk.read(closed=True)
        assert desk.text == head + b"".join(block(n, first=n == 0)[1] for n in range(3))
        assert (desk.checkpoint and desk.checkpoint.status) == "complete"
        assert desk.dead_letters == []


@pytest.mark.parametrize("parts", [[HEAD], [HEAD, TAIL], []])
def test_a_blob_without_records_waits_and_is_skipped_as_empty_when_it_is_closed(parts: list[tuple[str, bytes]]) -> None:
    """Nothing is published of a head, a head and a tail, or nothing at all."""
    desk = Desk()
    desk.container.commit(desk.name, parts)
    desk.read()
    desk.read(closed=True)
    assert (desk.segments, desk.dead_letters, desk.checkpoint) == ([], [], None)
    assert desk.skipped[-1] is Skip.EMPTY


def test_a_commit_between_look_and_read_starts_the_step_over() -> None:
    """A blob that changes between block list and read gives nothing of the mixed state (F14)."""
    desk = Desk()
    desk.container.commit(desk.name, blocks(1))
    desk.read()
    desk.container.commit(desk.name, blocks(2))
    left = [3]

    def grow(request: str) -> None:
        if request == "read" and left:
            desk.container.commit(desk.name, blocks(left.pop()))

    desk.container.before = grow
    desk.read()
    assert_tiles(desk.segments)
    assert desk.text == body(blocks(3))


def test_a_metadata_change_brings_nothing_new() -> None:
    """A new ETag over the same blocks, or the same text, is no new generation and no new segment (F18)."""
    for with_blocks in (True, False):
        desk = Desk()
        if with_blocks:
            desk.container.commit(desk.name, blocks(2))
        else:
            desk.container.put(desk.name, b"".join(data for _, data in blocks(2)))
        desk.read()
        before = desk.checkpoint
        desk.container.touch(desk.name)
        desk.read()
        assert len(desk.segments) == 1
        assert before is not None
        etag = desk.container.blobs[desk.name].etag
        assert desk.checkpoint == replace(before, etag=etag, seen_etag=etag)


@pytest.mark.parametrize("change", ["replaced", "shrunk", "recreated", "put"])
def test_other_content_is_a_new_generation_and_the_old_one_is_incomplete(change: str) -> None:
    """Replaced, shrunk and re-created blobs are read from their beginning; the old generation is incomplete (F15-F17)."""
    desk = Desk()
    desk.container.commit(desk.name, blocks(3))
    desk.read()
    new = [HEAD, block(7, first=True), block(8), block(9), block(10), TAIL]
    match change:
        case "replaced":
            desk.container.commit(desk.name, new)
        case "shrunk":
            desk.container.commit(desk.name, new := blocks(1))
        case "recreated":
            desk.container.recreate(desk.name, new)
        case "put":
            desk.container.put(desk.name, b"".join(data for _, data in new))
    steps = desk.read(closed=True)
    assert steps[0].ended is GenerationEnd.REPLACED
    old, fresh = dict.fromkeys(s.generation for s in desk.segments)
    assert desk.text == body(new)
    assert [s.ordinal for s in desk.segments if s.generation == fresh] == [0]
    assert [d.code for d in desk.dead_letters] == ["incomplete_blob"]
    assert [(c.generation, c.status) for c in desk.completions][1:] == [(old, "incomplete"), (fresh, "complete")]


def test_text_before_the_cursor_tells_a_replacement_where_no_block_ends_there() -> None:
    """A blob in one piece that was written again is noticed by its bytes, in the request that reads on."""
    desk = text(Desk(), b"".join(data for _, data in blocks(3)))
    desk.container.requests.clear()
    text(desk, b"".join(data for _, data in blocks(4)))
    assert len(desk.segments) == 2
    assert desk.container.requests == ["block_list", "read"]
    text(desk, b"".join(data for _, data in [HEAD, block(5, first=True), *blocks(5)[2:]]))
    assert [d.code for d in desk.dead_letters] == ["incomplete_blob"]
    assert len({s.generation for s in desk.segments}) == 2


@pytest.mark.parametrize("firsts", [(0, 0, 0), (0, 4, 0)])
def test_a_generation_never_gets_a_name_that_another_one_had(firsts: tuple[int, ...]) -> None:
    """Equal creation time and first block but other content below the cursor, at once or after something else: another name."""
    desk = Desk()
    names = []
    for last, first in enumerate(firsts, 1):
        desk.container.commit(desk.name, [HEAD, block(first, first=True), block(last), TAIL])
        desk.read(closed=True)
        assert desk.checkpoint is not None
        names.append(desk.checkpoint.generation)
    assert [name.partition(".")[2] for name in names] == ["", "2", "3"]
    assert names[2] == f"{names[0]}.3"
    assert desk.dead_letters == []  # complete generations have nothing to be sorry for


def test_reading_the_same_blob_again_names_it_the_same() -> None:
    """The generation follows from facts, with blocks and without, however the blob was read."""
    for with_blocks in (True, False):
        names = set()
        for allowance in (10, 100, 4_000_000):
            desk = Desk(allowance=allowance)
            if with_blocks:
                desk.container.commit(desk.name, blocks(5))
            else:
                desk.container.put(desk.name, b"".join(data for _, data in blocks(5)))
            desk.read()
            names.add(desk.checkpoint.generation if desk.checkpoint else "")
        assert len(names) == 1
        assert len(names.pop()) == 16


def test_a_vanished_blob_is_incomplete_unless_it_was_complete() -> None:
    """404 between listing and reading ends the generation, with a dead letter; a second look adds nothing."""
    for closed, expected in ((False, ["incomplete_blob"]), (True, [])):
        desk = Desk()
        desk.container.commit(desk.name, blocks(2))
        seen = desk.announce(closed=closed)
        desk.read(seen)
        del desk.container.blobs[desk.name]
        desk.read(replace(seen, etag="later"))
        desk.read(replace(seen, etag="later still"))
        assert [d.code for d in desk.dead_letters] == expected
        assert desk.skipped[-1] is Skip.VANISHED


def test_a_blob_that_vanishes_before_anything_was_read_is_named() -> None:
    """What was announced and cannot be had any more is in the errors, unless there was nothing to have."""
    for baseline, size, expected in ((None, 100, ["incomplete_blob"]), (100, 100, []), (None, 0, [])):
        desk = Desk()
        desk.container.commit(desk.name, blocks(2))
        seen = desk.announce(baseline=baseline, size=size)
        del desk.container.blobs[desk.name]
        desk.read(seen)
        assert [d.code for d in desk.dead_letters] == expected
        assert desk.skipped == [Skip.VANISHED]


def test_a_blob_that_comes_back_as_it_was_goes_on() -> None:
    """A blob that was gone for a while and is the same again continues its generation without a duplicate."""
    desk = Desk()
    desk.container.commit(desk.name, blocks(2))
    desk.read()
    seen = desk.announce()
    blob = desk.container.blobs.pop(desk.name)
    desk.read(replace(seen, etag="gone"))
    desk.container.blobs[desk.name] = blob
    desk.container.commit(desk.name, blocks(3))
    desk.read()
    assert_tiles(desk.segments)
    assert desk.text == body(blocks(3))


def test_a_record_across_commits_keeps_the_cursor_at_the_last_boundary() -> None:
    """A record whose blocks come one by one is published once, whole, when its last block is there."""
    desk = Desk()
    whole = block(1)[1]
    parts = [HEAD, block(0, first=True), ("D1a", whole[:20]), ("D1b", whole[20:])]
    for count in (3, 4):
        desk.container.commit(desk.name, parts[:count])
        desk.read()
    assert [s.data for s in desk.segments] == [HEAD[1] + block(0, first=True)[1], whole]


def test_an_over_long_record_is_cut_into_valid_pieces() -> None:
    """Pieces have the record's envelope, range and consecutive ordinals, and together its tuples in order."""
    tuples = [f"{n},10.0.0.1,10.0.0.2,1,2,6,O,C,NX,1,2,3,4" for n in range(60)]
    record = {
        "category": "NetworkSecurityGroupFlowEvent",
        "properties": {"flows": [{"rule": "a", "flowTuples": tuples[:25]}, {"rule": "b", "flowTuples": tuples[25:]}]},
    }
    desk = Desk(limits=SMALL)
    desk.container.commit(desk.name, [HEAD, ("D0", json.dumps(record).encode()), block(1), TAIL])
    desk.read(closed=True)
    assert_tiles(desk.segments)
    pieces = [s for s in desk.segments if s.piece]
    assert len(pieces) > 5
    assert all(len(s.data) <= SMALL.segment for s in pieces)
    assert {s.format.value for s in pieces} == {"nsg"}
    assert [s.piece.number for s in pieces if s.piece] == list(range(len(pieces)))
    (offset, joined), _ = records_of(desk.segments)
    assert (offset, tuples_of(joined)) == (12, tuples)
    assert desk.checkpoint is not None
    assert desk.checkpoint.records == 2


@pytest.mark.parametrize(
    "long", [b'{"category":"x","a":"' + b"z" * 500 + b'"}', b'{"records":[{"flowTuples":[' + b'"z",' * 500 + b'"z"]}]}']
)
def test_an_over_long_record_that_cannot_be_cut_goes_to_the_errors_by_reference(long: bytes) -> None:
    """A record without tuples, or one that holds records, is named by position and length; what follows goes on."""
    desk = Desk(limits=SMALL)
    desk.container.commit(desk.name, [HEAD, ("D0", long), block(1), TAIL])
    desk.read(closed=True)
    (letter,) = desk.dead_letters
    assert (letter.code, letter.record_offset, letter.source["length"]) == ("too_large", 0, str(12 + len(long)))
    assert letter.data == (HEAD[1] + long)[:256]
    assert dict(letter.headers())["source-omitted-bytes"] == str(12 + len(long) - 256).encode()
    assert [s.data for s in desk.segments] == [block(1)[1]]


def test_broken_json_costs_only_itself() -> None:
    """The smallest range that holds the breakage is dead-lettered with its bytes; records around it arrive."""
    desk = Desk()
    broken = b',{"time":"unclosed,"category":"FlowLogFlowEvent"}'
    desk.container.commit(desk.name, [HEAD, block(0, first=True), ("D1", broken), block(2), block(3), TAIL])
    desk.read(closed=True)
    (letter,) = desk.dead_letters
    assert letter.code == "bad_json"
    assert letter.data.rstrip(b",") == broken
    assert [json.loads(s.data.strip(b",").removeprefix(HEAD[1]))["time"] for s in desk.segments[:1]] == [0]
    assert b"".join(s.data for s in desk.segments[1:]).strip(b",") == block(2)[1].strip(b",") + block(3)[1]


@pytest.mark.parametrize("records", [0, 500])
def test_a_blob_whose_first_record_never_ends_is_read_on_behind_it(records: int) -> None:
    """Longer than a record may be looked at, it is named by reference; the records behind it arrive; reading ends."""
    desk = Desk(limits=SMALL, allowance=1000)
    unclosed = b'{"flows":[1' + (b"" if records else b"z" * 30_000)
    desk.container.commit(desk.name, [HEAD, ("D0", unclosed), *(block(n) for n in range(records)), TAIL])
    desk.read(closed=True)
    assert [(d.code, d.record_offset) for d in desk.dead_letters] == [("too_large", 0)]
    assert desk.completions[-1].status is CheckpointStatus.COMPLETE
    found = [value for _, value in records_of(desk.segments)]
    assert found == [json.loads(block(n)[1][1:]) for n in range(records)]


def test_a_closed_event_about_an_older_version_does_not_complete_the_blob() -> None:
    """A blob that has grown since it was announced as closed stays open."""
    desk = Desk()
    desk.container.commit(desk.name, blocks(1))
    stale = desk.announce(closed=True)
    desk.container.commit(desk.name, blocks(2))
    desk.read(stale)
    assert (desk.checkpoint and desk.checkpoint.status) == "open"
    assert desk.text == body(blocks(2))


def test_a_baseline_begins_at_a_block_boundary_and_names_the_same_generation() -> None:
    """What was there at a fresh start counts as read, the tail of then does not; the name is that of a full read."""
    full, desk = Desk(), Desk()
    desk.container.commit(desk.name, blocks(3))
    baseline = len(desk.container.blobs[desk.name].data)
    desk.read(baseline=baseline)
    assert desk.segments == []
    for container in (desk.container, full.container):
        container.commit(desk.name, blocks(5))
    desk.read(baseline=baseline)
    full.read()
    assert b"".join(s.data for s in desk.segments) == block(3)[1] + block(4)[1]
    assert {s.generation for s in desk.segments} == {s.generation for s in full.segments}


def test_a_baseline_in_a_line_blob_begins_at_the_next_line() -> None:
    """The line that was begun at the baseline counts as read."""
    for data, baseline, expected in ((b"a\nbb\ncc\n", 3, b"cc\n"), (b"a\nbb\ncc\n", 2, b"bb\ncc\n"), (b"a\nbb", 3, b"")):
        desk = text(Desk(), data, baseline=baseline)
        assert desk.text == expected


def test_a_replay_reads_again_from_the_beginning_once() -> None:
    """The same segments with the same identity come again, and a second announcement of the replay brings nothing."""
    desk = Desk()
    desk.container.commit(desk.name, blocks(3))
    desk.read()
    first = list(desk.segments)
    desk.read(replay_id="again")
    assert desk.segments == first * 2
    assert ReadingTask(desk.announce(replay_id="again"), desk.checkpoint, Stream.FLOW_LOGS, 1).nothing_new
    desk.read(replay_id="again")
    assert len(desk.segments) == 2 * len(first)


@pytest.mark.parametrize("with_blocks", [True, False])
def test_lines_are_kept_as_they_are_and_the_last_one_waits_for_its_end(*, with_blocks: bool) -> None:
    """CRLF, NUL, bad UTF-8 and a byte-order mark pass through; a partial line comes with its newline or with the close."""
    desk = Desk(stream=Stream.APPLICATION_LOGS)
    data = b"\xef\xbb\xbfone\r\ntwo\x00\xff\n\nthr"
    for end in (2, 6, len(data)):
        if with_blocks:
            desk.container.commit(desk.name, [(f"{n}", data[n : n + 1]) for n in range(end)])
        else:
            desk.container.put(desk.name, data[:end], kind="AppendBlob")
        desk.read()
    assert desk.text == data[: data.rindex(b"\n") + 1]
    desk.read(closed=True)
    assert desk.text == data
    assert_tiles(desk.segments)
    assert {s.format.value for s in desk.segments} == {"lines"}
    assert (desk.checkpoint and desk.checkpoint.records) == 4


def test_an_over_long_line_is_skipped_without_holding_it_and_named_once() -> None:
    """A line over many windows is named by position, length and first bytes; the lines around it arrive."""
    desk = Desk(limits=SizeLimits(segment=50, line=100, record=1000), allowance=64)
    line = b"x" * 5000
    for end in (10, 500, 3000, 5020):
        desk.container.put(desk.name, (b"a\n" + line + b"\nb\n")[:end], kind="AppendBlob")
        desk.read()
    (letter,) = desk.dead_letters
    assert (letter.code, letter.record_offset, letter.source["length"]) == ("too_large", 2, "5001")
    assert letter.data == line[:256]
    assert [s.data for s in desk.segments] == [b"a\n", b"b\n"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"a":1}\n{"a":2}\n', "jsonl"),
        (b'{"records":[{"a":1}]}\n{"records":[{"a":2}]}\n', "jsonl"),
        (b'{"records":7}\n', "jsonl"),
        (b"records\n", "lines"),
        (b'{"records":[{"category":"other"}]}', "records"),
        (b'{"records":[{"a":1}]}\n', "records"),
    ],
)
def test_content_decides_not_the_name(data: bytes, expected: str) -> None:
    """The same file name may hold an envelope, JSON lines or plain lines."""
    desk = text(Desk(), data, closed=True)
    assert {s.format.value for s in desk.segments} == {expected}
    assert desk.dead_letters == []


def test_page_blobs_are_named_and_not_read() -> None:
    """They are no logs: one dead letter for the announcement, none for a close that comes alone, and no segment."""
    desk = Desk()
    desk.container.put(desk.name, b"line\n" * 100, kind="PageBlob")
    desk.read()
    desk.read(closed=True, blob_type="", creation_etag="", creation_time=None)
    assert [d.code for d in desk.dead_letters] == ["unsupported_blob"]
    assert desk.skipped == [Skip.UNREADABLE] * 2
    assert desk.segments == []


def test_an_unreadable_blob_is_skipped_and_named() -> None:
    """An archived blob is counted and dead-lettered by reference."""
    desk = Desk()
    desk.container.commit(desk.name, blocks(1))

    def archived(request: str) -> None:
        if request == "read":
            raise BlobUnreadable("is in the archive tier")

    desk.container.before = archived
    desk.read()
    assert desk.skipped == [Skip.UNREADABLE]
    assert [d.code for d in desk.dead_letters] == ["unsupported_blob"]


def test_storage_that_does_not_answer_is_for_the_caller() -> None:
    """Nothing has happened then."""
    desk = Desk()
    desk.container.commit(desk.name, blocks(1))

    def away(_: str) -> None:
        raise StorageUnavailable("away")

    desk.container.before = away
    with pytest.raises(StorageUnavailable):
        desk.read()
    assert desk.checkpoint is None


def test_a_known_version_costs_no_request_and_growth_costs_two() -> None:
    """The price of a quiet blob: block list and one range."""
    desk = Desk()
    desk.container.commit(desk.name, blocks(1))
    desk.read()
    assert ReadingTask(desk.announce(), desk.checkpoint, Stream.FLOW_LOGS, 1).nothing_new
    desk.container.commit(desk.name, blocks(2))
    desk.container.requests.clear()
    desk.read()
    assert desk.container.requests == ["block_list", "read"]


def test_a_megabyte_of_white_space_is_empty_lines() -> None:
    """What begins with so much is read as lines while the blob is open, and is not read again from its start at each look."""
    desk = Desk(stream=Stream.APPLICATION_LOGS)
    text = b"\n" * MOST_UNDECIDED
    desk.container.put(desk.name, text, kind="AppendBlob")
    desk.read()
    assert desk.text == text
