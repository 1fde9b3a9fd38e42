"""Compressed blobs: how they grow, change and break, what that costs, and what is reported."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace

import pytest
import zstandard

from libs.common.azure.storage.api import BlobChanged, StorageUnavailable
from libs.common.messages.events import CheckpointStatus
from libs.common.unpacking import unpacker as unpacker_module
from services.ingest.cutting.window import SizeLimits
from services.ingest.reading.content import MOST_UNDECIDED
from services.ingest.reading.decoders import Decoders
from services.ingest.work import GenerationEnd, ReadingTask, Skip
from tests.blob_reading import assert_tiles
from tests.packed import gzip_member, zstd_frame
from tests.packed_desk import a_desk, codes, known, lines, put

MAGIC = b"\x1f\x8b\x08\0\0\0\0\0\0\x03"
PACKS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstandard.compress}
packs = pytest.mark.parametrize("packing", PACKS)


@packs
def test_a_blob_that_grows_by_members_is_resumed_at_their_boundaries(packing: str) -> None:
    """Each read decodes only what is new; the checkpoint says where, in bytes of the blob and of its text."""
    pack = PACKS[packing]
    desk = a_desk(decoders=Decoders(0))
    parts = [pack(lines(10 * n, 10 * n + 10)) for n in range(3)]
    for count in (1, 2, 3):
        desk.container.bytes_read = 0
        put(desk, b"".join(parts[:count]))
        assert desk.container.bytes_read <= len(parts[count - 1]) + 1_024
        at = known(desk)
        assert (at.encoding, at.content, at.next_offset, at.read_to) == (packing, "lines", at.size, at.size)
        assert at.decoded_offset == at.decoded_start == len(lines(0, 10 * count))
    put(desk, b"".join(parts), closed=True)
    assert_tiles(desk.segments)
    assert desk.text == lines(0, 30)
    assert {(s.encoding, s.format.value) for s in desk.segments} == {(packing, "lines")}
    assert [(c.from_offset, c.to_offset, c.decoded_from, c.decoded_to, c.records) for c in desk.completions[:1]] == [
        (0, len(parts[0]), 0, len(lines(0, 10)), 10)
    ]
    assert (known(desk).status, desk.dead_letters) == (CheckpointStatus.COMPLETE, [])


@pytest.mark.parametrize("kept", [True, False])
@packs
def test_growth_inside_a_member_costs_what_is_new_while_its_decoder_is_kept(packing: str, *, kept: bool) -> None:
    """Without one, the member is read and decoded again from its start, with the same result."""
    text = lines(0, 3_000)
    flushes = tuple(len(lines(0, n)) + 5 for n in (1_000, 2_000))
    whole = (gzip_member if packing == "gzip" else zstd_frame)(text, 6, flushes)
    desk = a_desk(decoders=Decoders(10_000_000 if kept else 0))
    ends = [len(whole) // 3, 2 * len(whole) // 3, len(whole)]
    for begin, end in zip([0, *ends], ends, strict=False):
        desk.container.bytes_read = 0
        desk.container.requests.clear()
        put(desk, whole[:end])
        assert desk.container.bytes_read <= (end - begin if kept else end) + 2 * 1_024
        if kept:
            assert desk.container.requests == ["info", "read"]
    assert desk.text == text
    assert known(desk).next_offset == len(whole)
    assert_tiles(desk.segments)


def test_the_checkpoint_of_an_incomplete_member_is_its_start() -> None:
    """The next offset is where decoding can begin again; the read offset is where reading continues."""
    first, second = gzip_member(lines(0, 5)), gzip_member(lines(5, 900))
    at = known(put(a_desk(), first + second[:-200]))
    assert (at.next_offset, at.decoded_start) == (len(first), len(lines(0, 5)))
    assert (at.read_to, at.size) == (len(first + second) - 200, len(first + second) - 200)
    assert at.decoded_offset is not None
    assert at.decoded_offset > at.decoded_start


def test_a_line_over_several_members_begins_where_its_first_member_does() -> None:
    """Decoding begins again at the member in which the unpublished text begins, not at the last one."""
    parts = [gzip_member(part) for part in (b"one\ntw", b"", b"o and mo", b"re\nthree\n")]
    desk = a_desk(decoders=Decoders(0))
    for count in range(1, 5):
        put(desk, b"".join(parts[:count]))
        assert known(desk).next_offset == (0 if count < 4 else len(b"".join(parts)))
    assert desk.text == b"one\ntwo and more\nthree\n"


def test_text_is_kept_as_it_is() -> None:
    """CRLF, a lone CR, NUL, bad UTF-8, a byte-order mark and an empty line pass through; JSON lines are named as such."""
    text = b"\xef\xbb\xbfone\r\ntwo\rstill two\x00\xff\n\nthree"
    desk = put(a_desk(), gzip_member(text))
    assert desk.text == text[: text.rindex(b"\n") + 1]
    put(desk, gzip_member(text), closed=True)
    assert (desk.text, known(desk).records) == (text, 4)
    desk = put(a_desk(), gzip_member(b'{"a":1}\n{"a":2}\n'))
    assert {s.format.value for s in desk.segments} == {"jsonl"}


@pytest.mark.parametrize("kept", [True, False])
def test_an_over_long_line_is_named_by_decoded_position_length_and_first_bytes(*, kept: bool) -> None:
    """It is not held in memory, however often reading stops in it."""
    text = b"a\n" + bytes(range(48, 112)) * 200 + b"\nb\n"
    whole = gzip_member(text, 0, tuple(range(100, 12_000, 1_000)))
    desk = a_desk(limits=SizeLimits(300, 400, 10_000), allowance=500, decoders=Decoders(10_000_000 if kept else 0))
    for end in range(1_000, len(whole) + 1_000, 1_000):
        put(desk, whole[:end])
        assert len(known(desk).before) < 100
    (letter,) = desk.dead_letters
    assert (letter.code, letter.record_offset) == ("too_large", 2)
    assert letter.source == {"length": str(64 * 200 + 1), "omitted-bytes": str(64 * 200 + 1 - 256), "encoding": "gzip"}
    assert letter.data == text[2:258]
    assert [s.data for s in desk.segments] == [b"a\n", b"b\n"]


@packs
def test_a_cut_member_waits_and_is_reported_when_the_blob_is_closed(packing: str) -> None:
    """Its complete lines come at once; the rest of its text and the fact go to the errors; if it reopens, reading continues."""
    whole = (gzip_member if packing == "gzip" else zstd_frame)(b"one\ntwo\nthr" + b"ee\n", 6, (11,))
    end = next(n for n in range(len(whole)) if put(a_desk(), whole[:n]).text == b"one\ntwo\n")
    desk = put(a_desk(), whole[: end + 1])
    assert (codes(desk), known(desk).status) == ([], CheckpointStatus.OPEN)
    put(desk, whole[: end + 1], closed=True)
    line, member = desk.dead_letters
    assert (line.code, line.record_offset, line.source["encoding"]) == ("cut_file", 8, packing)
    assert line.data in {b"t", b"th", b"thr"}
    assert (member.code, member.record_offset, member.source["length"]) == ("cut_file", 0, str(end + 1))
    assert member.data == whole[: end + 1]
    assert f"{packing} member truncated at the end of the blob: {end + 1} bytes at offset 0" in member.reason
    assert desk.completions[-1].status is known(desk).status is CheckpointStatus.INCOMPLETE
    assert (desk.completions[-1].to_offset, desk.completions[-1].decoded_to) == (end + 1, 8)
    put(desk, whole)
    assert desk.text == b"one\ntwo\nthree\n"
    put(desk, whole, closed=True)
    assert (known(desk).status, len(desk.dead_letters)) == (CheckpointStatus.COMPLETE, 2)


@pytest.mark.parametrize("data", [MAGIC[:2], MAGIC[:5], MAGIC, gzip_member(b"one\n") + MAGIC[:1], gzip_member(b"") + MAGIC[:4]])
def test_a_cut_header_is_not_lost_without_a_word(data: bytes) -> None:
    """However little there is of a member, a closed blob that ends in it is incomplete and in the errors."""
    desk = put(a_desk(), data)
    assert desk.dead_letters == []
    put(desk, data, closed=True)
    (letter,) = desk.dead_letters
    assert letter.code == "cut_file"
    assert data.endswith(letter.data)
    assert letter.data
    assert known(desk).status is CheckpointStatus.INCOMPLETE
    steps = desk.steps
    put(desk, data + MAGIC[len(letter.data) :] + gzip_member(b"two\n")[10:], closed=True)
    assert desk.text.endswith(b"two\n")
    assert desk.steps > steps


def test_zero_padding_is_nothing() -> None:
    """Between members, behind them, and at the end of a closed blob."""
    data = gzip_member(b"one\n") + bytes(5_000) + gzip_member(b"two\n") + bytes(100_000)
    desk = put(a_desk(allowance=1_000), data)
    put(desk, data, closed=True)
    assert (desk.text, codes(desk), known(desk).status) == (b"one\ntwo\n", [], CheckpointStatus.COMPLETE)
    assert known(desk).next_offset == len(data)


@packs
def test_what_follows_a_member_and_is_none_is_reported_when_the_blob_is_closed(packing: str) -> None:
    """While it is open it waits; then place and first bytes are told; the text before it is complete."""
    member = PACKS[packing](b"one\ntwo")
    data = member + b"rubbish " * 100
    desk = put(a_desk(), data)
    put(desk, data + b"more")
    assert (desk.text, codes(desk), known(desk).status) == (b"one\n", [], CheckpointStatus.OPEN)
    put(desk, data + b"more", closed=True)
    (letter,) = desk.dead_letters
    assert (letter.code, letter.record_offset) == ("trailing_bytes", len(member))
    assert letter.source == {"length": "804", "omitted-bytes": str(804 - 256)}
    assert letter.data == (b"rubbish " * 100)[:256]
    assert (desk.text, known(desk).status) == (b"one\ntwo", CheckpointStatus.COMPLETE)


@packs
def test_damage_gives_the_blob_up_behind_its_lines(packing: str) -> None:
    """What is wrong and where is told at once, once; growth changes nothing; another blob of that name is read."""
    pack = PACKS[packing]
    text = lines(0, 20_000)
    whole = bytearray(pack(text) if packing == "gzip" else zstd_frame(text, checked=True))
    whole[-6 if packing == "gzip" else -2] ^= 255  # the checksum
    desk = put(a_desk(), bytes(whole))
    assert desk.text == text
    (letter,) = desk.dead_letters
    assert letter.code == "cut_file"
    assert f"{packing} data damaged (" in letter.reason
    assert (letter.record_offset or 0) + int(letter.source["length"]) == len(whole)
    assert known(desk).status is desk.completions[-1].status is CheckpointStatus.INCOMPLETE
    put(desk, bytes(whole) + pack(b"more\n"))
    desk.container.touch(desk.name)
    desk.read(closed=True)
    assert ReadingTask(desk.announce(closed=True), desk.checkpoint, desk.stream, 1).nothing_new
    assert (desk.text, len(desk.dead_letters), desk.skipped[-1]) == (text, 1, Skip.UNSUPPORTED)
    put(desk, pack(b"another\n"), closed=True)
    assert (desk.text, known(desk).status, len(desk.dead_letters)) == (b"another\n", CheckpointStatus.COMPLETE, 1)


def test_damage_inside_a_line_leaves_its_beginning_in_the_errors() -> None:
    """With its decoded offset, apart from the reference to the compressed bytes."""
    whole = gzip_member(b"one\ntwo", 6, (7,))[:-8] + b"\7\7\7\7\7\7\7\7"
    desk = put(a_desk(), whole)
    line, rest = desk.dead_letters
    assert (line.code, line.record_offset, line.data, line.source["encoding"]) == ("cut_file", 4, b"two", "gzip")
    assert (rest.code, "encoding" in rest.source) == ("cut_file", False)
    assert desk.text == b"one\n"


@packs
def test_a_bomb_ends_the_blob_and_not_the_process(packing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was decoded before it shows is published; the rest is named, once; every step holds a bounded text."""
    monkeypatch.setattr(unpacker_module, "UNJUDGED_BYTES", 2_000_000)
    bomb = PACKS[packing](b"x\n" * 20_000_000)
    desk = a_desk(allowance=65_536)
    desk.container.put(desk.name, bomb, kind="AppendBlob")
    steps = desk.read()
    assert max(step.weight for step in steps) <= MOST_UNDECIDED + 200_000
    assert 2_000_000 <= len(desk.text) <= 4_500_000
    *line, letter = desk.dead_letters
    assert [found.data for found in line] in ([], [b"x"])
    assert (letter.code, steps[-1].ended) == ("too_large", GenerationEnd.UNREADABLE)
    assert "expands to over 300 times its size" in letter.reason
    put(desk, bomb + bomb, closed=True)
    assert desk.dead_letters == [*line, letter]


@packs
@pytest.mark.parametrize(
    "content",
    [b'{"records":[{"category":"FlowLogFlowEvent"}]}', b'{\n "a": 1\n}\n', gzip.compress(b"x\n"), zstandard.compress(b"x\n")],
    ids=["envelope", "object", "gzip", "zstd"],
)
def test_what_is_packed_and_no_lines_is_named_once_a_generation(packing: str, content: bytes) -> None:
    """Documents and what is packed twice are not read; a replay names them again, another blob too."""
    data = PACKS[packing](content)
    desk = put(a_desk(), data)
    put(desk, data + b"\0", closed=True)
    assert (codes(desk), desk.segments, known(desk).status) == (["unsupported_blob"], [], CheckpointStatus.INCOMPLETE)
    assert (desk.dead_letters[0].record_offset, desk.dead_letters[0].data) == (0, data)
    desk.read(replay_id="again")
    assert len(desk.dead_letters) == 2
    put(desk, PACKS[packing](content + b" "))
    assert len(desk.dead_letters) == 3
    put(desk, b"plain\n")
    assert desk.text == b"plain\n"


def test_a_frame_that_needs_much_memory_is_named() -> None:
    """The frames before it are read."""
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=27)
    large = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = zstd_frame(b"one\ntw") + large.compress(b"x\n") + large.flush()
    desk = put(a_desk(), data)
    line, frame = desk.dead_letters
    assert (desk.text, line.data) == (b"one\n", b"tw")
    assert (frame.code, frame.record_offset) == ("unsupported_blob", len(zstd_frame(b"one\ntw")))
    assert "needs a window of 134217728 bytes" in frame.reason


def test_a_baseline_at_the_end_costs_nothing_and_growth_decodes_what_is_before_it_once() -> None:
    """Whole blobs that count as read are not read; only lines that begin after the baseline come."""
    desk = a_desk()
    old, new = gzip_member(lines(0, 20_000), 6, (300_000,)), gzip_member(lines(20_000, 20_010))
    put(desk, old, baseline=len(old))
    assert (desk.checkpoint, desk.segments) == (None, [])
    assert desk.container.bytes_read <= 8_192
    put(desk, old + new, baseline=len(old))
    assert desk.text == lines(20_000, 20_010)
    assert desk.segments[0].start == len(lines(0, 20_000))
    desk.container.bytes_read = 0
    put(desk, old + new + new, baseline=len(old))
    assert desk.container.bytes_read <= len(new) + 1_024
    assert desk.text == lines(20_000, 20_010) * 2


def test_a_blob_that_changes_while_it_is_decoded_again_does_not_begin_anew_each_time() -> None:
    """What was decoded before the change is used when the blob is looked at again."""
    whole = gzip_member(lines(0, 200_000), 1, tuple(range(0, 9_000_000, 500_000)))
    desk = a_desk()
    desk.container.commit(desk.name, [("A", whole[:-1_000])])
    desk.read()
    desk.decoders = Decoders(10_000_000)  # of another process
    desk.container.commit(desk.name, [("A", whole[:-1_000]), ("B", whole[-1_000:])])
    reads = [0]

    def change(request: str) -> None:
        reads[0] += request == "read"
        if reads[0] == 3 and request == "read":
            desk.container.touch(desk.name)

    desk.container.before = change
    desk.container.bytes_read = 0
    steps = desk.read(closed=False)
    assert Skip.CHANGED in [step.skipped for step in steps]
    desk.read(closed=True)
    assert desk.text == lines(0, 200_000)
    assert desk.container.bytes_read < len(whole) + 200_000


def test_storage_that_fails_while_a_member_is_decoded_again_loses_nothing() -> None:
    """The next attempt continues where it failed."""
    whole = gzip_member(lines(0, 200_000), 1, tuple(range(0, 9_000_000, 500_000)))
    desk = put(a_desk(), whole[:-1_000])
    desk.decoders = Decoders(10_000_000)
    desk.container.put(desk.name, whole, kind="AppendBlob")
    reads = [0]

    def fail(request: str) -> None:
        reads[0] += request == "read"
        if reads[0] == 3:
            raise StorageUnavailable("away")

    desk.container.before = fail
    with pytest.raises(StorageUnavailable):
        desk.read(closed=True)
    desk.container.before = lambda _: None
    desk.read(closed=True)
    assert desk.text == lines(0, 200_000)
    assert_tiles(desk.segments)


def test_an_append_blob_that_grows_all_the_time_is_read() -> None:
    """Members are appended between look and read; what was there at the look is read, the rest at the next."""
    desk = a_desk()
    written = [gzip_member(lines(0, 3))]

    def grow(request: str) -> None:
        if request == "read":
            written.append(gzip_member(lines(3 * len(written), 3 * len(written) + 3)))
            desk.container.put(desk.name, b"".join(written), kind="AppendBlob")

    desk.container.put(desk.name, b"".join(written), kind="AppendBlob")
    desk.container.before = grow
    for _ in range(3):
        desk.read()
        assert desk.skipped == []
    desk.container.before = lambda _: None
    desk.read()
    assert desk.text == lines(0, 3 * len(written))
    assert_tiles(desk.segments)


def test_a_vanished_or_replaced_blob_says_how_many_lines_were_read() -> None:
    """As of any other blob."""
    desk = put(a_desk(), gzip_member(lines(0, 5) + b"begun"))
    seen = desk.announce(etag="later")
    del desk.container.blobs[desk.name]
    desk.read(seen)
    assert codes(desk) == ["incomplete_blob"]
    assert "5 records or lines were read; 1 was incomplete and was not" in desk.dead_letters[0].reason
    assert desk.completions[-1].decoded_to == len(lines(0, 5))


def test_a_step_reads_about_as_much_as_it_may_decode() -> None:
    """Once the ratio of a blob is known, little is read that does not fit in the step."""
    text = b"".join(b"2026-05-01T12:00:00Z INFO request %d took 5 ms and all is well\n" % n for n in range(600_000))
    whole = gzip_member(text)
    desk = a_desk(allowance=1_048_576)
    steps = put(desk, whole, closed=True).steps
    assert desk.text == text
    assert desk.container.bytes_read < 1.4 * len(whole) + 1_048_576
    assert steps < 1.5 * len(text) / 1_048_576


def test_the_least_recently_used_decoders_are_dropped() -> None:
    """No more is kept than is allowed, and what is dropped is decoded again."""
    decoders = Decoders(120_000)  # two of them
    desks = [a_desk(name=f"b{n}", decoders=decoders) for n in range(3)]
    whole = gzip_member(lines(0, 3_000), 6, (20_000, 60_000))
    for end in (len(whole) // 2, len(whole)):
        for desk in desks:
            desk.container.bytes_read = 0
            put(desk, whole[:end])
    assert [desk.text for desk in desks] == [lines(0, 3_000)] * 3
    assert [desk.container.bytes_read > len(whole) * 0.9 for desk in desks] == [True, False, False]


def test_many_blobs_in_the_middle_of_members_are_finished_before_others_begin() -> None:
    """If more are begun than decoders can be kept for, each would decode its member again at every step."""
    decoders = Decoders(250_000)
    whole = gzip_member(lines(0, 60_000))
    desks = [a_desk(name=f"b{n}", decoders=decoders, allowance=65_536) for n in range(4)]
    soon = []
    for desk in desks:
        desk.container.put(desk.name, whole, kind="AppendBlob")
        soon.append(desk.step(desk.announce()).soon)
    assert soon == [False, False, True, True]


def test_no_line_in_very_many_bytes_is_reported() -> None:
    """Padding and empty members without end are not read for ever; a step stays bounded."""
    data = gzip_member(b"") + bytes(2_000_000)
    desk = put(a_desk(allowance=1_000, limits=SizeLimits(300, 400, 100_000)), data)
    assert codes(desk) == ["unsupported_blob"]
    assert "contain no line" in desk.dead_letters[0].reason
    assert desk.container.bytes_read < 1_000_000


@pytest.mark.parametrize(("lines_of_a_member", "members"), [(2_500_000, 1), (1, 2_000)])
def test_empty_lines_without_end_are_lines(lines_of_a_member: int, members: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob with nothing but white space, in few members or in very many, is read and complete; nothing is reported."""
    monkeypatch.setattr(unpacker_module, "MOST_MEMBERS", 50)
    text = b" \n" * lines_of_a_member
    desk = put(a_desk(limits=SizeLimits(100_000, 100_000, 100_000)), gzip_member(text) * members, closed=True)
    assert desk.text == text * members
    assert known(desk).records == lines_of_a_member * members
    assert (known(desk).status, desk.dead_letters, desk.skipped) == (CheckpointStatus.COMPLETE, [], [])
    assert_tiles(desk.segments)


def test_tiny_members_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many members are in what a step reads, it decodes nearly all; a restart decodes none of them again."""
    monkeypatch.setattr(unpacker_module, "MOST_MEMBERS", 1_000)
    desk = a_desk(allowance=262_144)
    whole = b"".join(gzip_member(lines(2 * n, 2 * n + 2)) for n in range(15_000))
    put(desk, whole)
    assert desk.text == lines(0, 30_000)
    assert desk.container.bytes_read < 1.2 * len(whole)
    assert desk.container.requests.count("read") <= len(whole) // desk.allowance + 2
    desk.decoders, desk.container.bytes_read = Decoders(0), 0
    put(desk, whole + gzip_member(lines(30_000, 30_001)), closed=True)
    assert desk.container.bytes_read < 2_048
    assert_tiles(desk.segments)


def test_a_closed_blob_of_empty_members_is_empty() -> None:
    """There is nothing in it to read or to report."""
    desk = put(a_desk(), gzip_member(b"") * 3, closed=True)
    assert (desk.segments, desk.dead_letters, desk.checkpoint, desk.skipped) == ([], [], None, [Skip.EMPTY])


def test_content_that_cannot_be_as_it_was_is_replaced_content() -> None:
    """If nothing else tells, decoding again does: the bytes end before the text that was published."""
    old, new = gzip_member(lines(0, 500), 0), gzip_member(lines(900, 1_000), 0)
    desk = a_desk(decoders=Decoders(0))
    desk.container.commit(desk.name, [("A", old[:-9])])
    desk.read()
    text = desk.text
    desk.checkpoint = replace(known(desk), before="", checksum=None)
    desk.container.commit(desk.name, [("A", (new + bytes(len(old)))[: len(old) - 9])])
    desk.read()
    assert [c.status for c in desk.completions[1:2]] == [CheckpointStatus.INCOMPLETE]
    assert lines(0, 500).startswith(text)
    assert desk.text == lines(900, 1_000)


def test_a_changed_blob_is_read_again_later() -> None:
    """A change between look and read is nothing but another look."""
    desk = a_desk()
    desk.container.commit(desk.name, [("A", gzip_member(b"one\n"))])

    def changed(request: str) -> None:
        if request == "read":
            raise BlobChanged("changed")

    desk.container.before = changed
    assert desk.step(desk.announce()).skipped is Skip.CHANGED
    desk.container.before = lambda _: None
    desk.read(closed=True)
    assert desk.text == b"one\n"
