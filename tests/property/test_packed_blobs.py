"""Compressed blobs: however they are written, read, interrupted and cut, the same lines come with the same decoded offsets."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.messages.dead_letters import DeadLetter
from libs.common.messages.events import BlobCheckpoint, CheckpointStatus, Stream
from libs.common.unpacking.member import Packing
from libs.common.unpacking.unpacker import Boundary, Halt, Unpacker
from services.ingest.cutting.window import SizeLimits
from services.ingest.reading.decoders import Decoders
from tests.blob_reading import Desk, assert_tiles
from tests.packed import gzip_member, skippable_frame, unpack, zstd_frame

Write = Callable[[Desk, bytes, int], None]
LINES = st.lists(
    st.binary(max_size=40) | st.sampled_from([b"a\r", b"\r", b"\0\xff", b"caf\xc3", b"", b"x" * 45, b"\xef\xbb\xbf"]),
    max_size=14,
)


@st.composite
def packed_lines(draw: st.DrawFn) -> tuple[Packing, bytes, bytes]:
    """Draw a packing, data of one or more members, and the text in it, which is lines; members may end anywhere in them."""
    packing = draw(st.sampled_from(Packing))
    text = b"l" + b"\n".join(draw(LINES)) + draw(st.sampled_from([b"", b"\n"]))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    parts = []
    for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        flushes = tuple(draw(st.lists(st.integers(0, end - begin), max_size=2)))
        parts.append((gzip_member if packing is Packing.GZIP else zstd_frame)(text[begin:end], 6, flushes))
        if draw(st.booleans()):
            parts.append(
                skippable_frame(3, b"abc")
                if packing is Packing.ZSTD and draw(st.booleans())
                else bytes(draw(st.integers(1, 3)))
            )
    return packing, b"".join(parts), text


def append(desk: Desk, data: bytes, number: int) -> None:
    """Write an append blob."""
    desk.container.put(desk.name, data, kind="AppendBlob")


def commit(desk: Desk, data: bytes, number: int) -> None:
    """Commit blocks of a few bytes, of which only the last is another one when the blob has grown."""
    parts = [data[begin : begin + 7] for begin in range(0, len(data), 7)]
    desk.container.commit(desk.name, [(f"{place:06}-{len(part)}", part) for place, part in enumerate(parts)])


def rewrite(desk: Desk, data: bytes, number: int) -> None:
    """Commit everything as one block of another id."""
    desk.container.commit(desk.name, [(f"{number}", data)])


def put(desk: Desk, data: bytes, number: int) -> None:
    """Put Blob."""
    desk.container.put(desk.name, data)


WRITES: st.SearchStrategy[Write] = st.sampled_from([append, commit, rewrite, put])


def a_desk(data: st.DataObject) -> Desk:
    """Draw how a blob is read: limits, sizes of steps, and whether decoders are kept."""
    return Desk(
        limits=SizeLimits(segment=data.draw(st.integers(5, 80)), line=data.draw(st.integers(8, 60)), record=1_000, compare=90),
        allowance=data.draw(st.integers(1, 300)),
        stream=Stream.APPLICATION_LOGS,
        decoders=Decoders(data.draw(st.sampled_from([0, 60_000, 10_000_000]))),
    )


def ranges_of(text: bytes) -> list[tuple[int, int]]:
    """Return the ranges of the lines of a text."""
    found, position = [], 0
    for line in text.split(b"\n"):
        end = min(position + len(line) + 1, len(text))
        found += [(position, end)] if end > position else []
        position = end
    return found


def range_of(letter: DeadLetter) -> tuple[int, int]:
    """Return the decoded range of a dead letter."""
    assert letter.record_offset is not None
    assert letter.source["encoding"] in {"gzip", "zstd"}
    return letter.record_offset, letter.record_offset + int(letter.source["length"])


def told(letter: DeadLetter) -> tuple[object, ...]:
    """Return what a dead letter says that does not depend on steps; of an over-long line, fewer bytes may be given."""
    source = {name: value for name, value in letter.source.items() if name != "omitted-bytes"}
    data = b"" if letter.code == "too_large" else letter.data
    return letter.code, letter.reason, letter.record_offset, data, *sorted(source.items())


def interrupt(desk: Desk, data: st.DataObject) -> None:
    """Forget the decoders, as another process has none; or lose what was read in some last steps, as when a commit fails."""
    if data.draw(st.booleans()):
        desk.decoders = Decoders(data.draw(st.sampled_from([0, 10_000_000])))


@settings(max_examples=300, deadline=None)
@given(packed_lines(), WRITES, st.data())
def test_any_growth_and_any_restart_give_the_same_lines(
    whole: tuple[Packing, bytes, bytes], write: Write, data: st.DataObject
) -> None:
    """Lines and decoded offsets are those of the whole text; over-long ones are named by position and length."""
    packing, packed, text = whole
    desk = a_desk(data)
    for number, end in enumerate([*sorted(data.draw(st.sets(st.integers(1, len(packed)), max_size=5))), len(packed)]):
        write(desk, packed[:end], number)
        desk.read()
        interrupt(desk, data)
    desk.read(closed=True)

    too_long = {(begin, end) for begin, end in ranges_of(text) if end - begin > desk.limits.line}
    assert set(map(range_of, desk.dead_letters)) == too_long
    assert all(text[d.record_offset :].startswith(d.data) and len(d.data) >= 8 for d in desk.dead_letters)
    assert b"".join(s.data for s in desk.segments) == b"".join(text[a:b] for a, b in ranges_of(text) if (a, b) not in too_long)
    assert all(s.data == text[s.start : s.end] and s.encoding == packing for s in desk.segments)
    if not too_long:
        assert_tiles(desk.segments)
    assert len({s.generation for s in desk.segments}) <= 1
    known = desk.checkpoint
    assert known is not None
    assert (known.read_to, known.decoded_offset, known.status) == (len(packed), len(text), CheckpointStatus.COMPLETE)
    assert known.records == len(ranges_of(text)) - len(too_long)
    assert sum(c.records for c in desk.completions) == known.records
    ends = [(0, 0), *((c.to_offset, c.decoded_to) for c in desk.completions)]
    assert [(c.from_offset, c.decoded_from) for c in desk.completions] == ends[:-1]
    assert ends[-1] == (len(packed), len(text))


@settings(max_examples=200, deadline=None)
@given(packed_lines(), st.data())
def test_steps_that_are_lost_are_repeated_with_the_same_lines(whole: tuple[Packing, bytes, bytes], data: st.DataObject) -> None:
    """A process that goes back to an earlier checkpoint repeats exactly what it read, whatever decoders it has kept."""
    _, packed, text = whole
    desk = a_desk(data)
    returns = data.draw(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), max_size=4))  # after steps, by steps
    states: list[tuple[BlobCheckpoint | None, int, int, int]] = []
    desk.container.put(desk.name, packed, kind="AppendBlob")
    seen = desk.announce(closed=True)
    more = True
    while more or returns:
        states.append((desk.checkpoint, len(desk.segments), len(desk.dead_letters), desk.wanted))
        more = desk.step(seen).more
        if returns and (len(states) >= returns[0][0] or not more):
            index = max(0, len(states) - 1 - returns.pop(0)[1])
            desk.checkpoint, segments, letters, desk.wanted = states[index]
            del desk.segments[segments:], desk.dead_letters[letters:], states[index:]
            more = True
    bad = set(map(range_of, desk.dead_letters))
    assert b"".join(s.data for s in desk.segments) == b"".join(text[a:b] for a, b in ranges_of(text) if (a, b) not in bad)
    assert desk.checkpoint is not None
    assert desk.checkpoint.status is CheckpointStatus.COMPLETE


@settings(max_examples=200, deadline=None)
@given(packed_lines(), st.data())
def test_the_lines_before_a_cut_come_and_the_cut_is_reported_at_the_close(
    whole: tuple[Packing, bytes, bytes], data: st.DataObject
) -> None:
    """Inside a member it waits while the blob is open; nothing of the text that can be decoded is lost."""
    packing, packed, text = whole
    cut = data.draw(st.integers(4, len(packed)))
    is_inside = unpack(packed[:cut], Unpacker(packing, Boundary()), [], 1_000_000).halt is Halt.INSIDE
    desk = a_desk(data)
    desk.container.put(desk.name, packed[:cut], kind="AppendBlob")
    desk.read()
    assert all(d.code == "too_large" for d in desk.dead_letters)
    desk.read(closed=True)
    known = desk.checkpoint
    if known is None:  # complete members, in which there is nothing
        assert (desk.segments, desk.dead_letters, is_inside) == ([], [], False)
        return
    assert known.status is (CheckpointStatus.INCOMPLETE if is_inside else CheckpointStatus.COMPLETE)
    parts = [(s.start, s.data) for s in desk.segments] + [
        (d.record_offset or 0, d.data) for d in desk.dead_letters if "encoding" in d.source
    ]
    assert all(text.startswith(part, start) for start, part in parts)
    reports = [d for d in desk.dead_letters if "encoding" not in d.source]
    assert len(reports) == is_inside
    for report in reports:
        assert report.code == "cut_file"
        assert (report.record_offset or 0) + int(report.source["length"]) == cut
    desk.container.put(desk.name, packed, kind="AppendBlob")
    before = [d for d in desk.dead_letters if d.code == "too_large" and "truncated" not in d.reason]
    desk.read(closed=True)
    if is_inside:  # what was cut is completed when the blob reopens
        later = [d for d in desk.dead_letters if d.code == "too_large" and "truncated" not in d.reason]
        too_long = set(map(range_of, {id(d): d for d in before + later}.values()))
        assert b"".join(s.data for s in desk.segments) == b"".join(
            text[a:b] for a, b in ranges_of(text) if (a, b) not in too_long
        )


@settings(max_examples=300, deadline=None)
@given(packed_lines(), st.integers(0, 10**9), st.integers(1, 255), st.data())
def test_damage_never_raises_and_is_reported_once(
    whole: tuple[Packing, bytes, bytes], place: int, byte: int, data: st.DataObject
) -> None:
    """With a byte changed, the lines do not depend on how it is read, and reading ends with a report or with other lines."""
    damaged = bytearray(whole[1])
    damaged[place % len(damaged)] ^= byte
    found = []
    for desk in (Desk(limits=SizeLimits(40, 30, 1_000)), a_desk(data)):
        desk.limits = SizeLimits(segment=40, line=30, record=1_000)
        desk.container.put(desk.name, bytes(damaged), kind="AppendBlob")
        desk.read()
        desk.read(closed=True)
        found.append(desk)
        assert desk.segments or desk.dead_letters or desk.skipped
    one, other = found
    assert b"".join(s.data for s in one.segments) == b"".join(s.data for s in other.segments)
    assert set(map(told, one.dead_letters)) == set(map(told, other.dead_letters))
    before = len(one.dead_letters)
    one.container.touch(one.name)
    one.read(closed=True)
    if one.checkpoint and one.checkpoint.content == "given_up":
        assert len(one.dead_letters) == before


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([b"\x1f\x8b", b"\x1f\x8b\x08\0\0\0\0\0\0\x03", b"\x28\xb5\x2f\xfd", b"\x52\x2a\x4d\x18"]), st.data())
def test_any_bytes_that_claim_to_be_compressed_are_read_to_an_end(magic: bytes, data: st.DataObject) -> None:
    """Nothing raises, reading ends, and a closed blob is complete or in the dead letters."""
    body = magic + data.draw(st.binary(max_size=100))
    desk = a_desk(data)
    for end in sorted(data.draw(st.sets(st.integers(1, len(body)), max_size=3)) | {len(body)}):
        desk.container.put(desk.name, body[:end], kind="AppendBlob")
        desk.read()
    desk.read(closed=True)
    assert desk.dead_letters or desk.skipped or (desk.checkpoint and desk.checkpoint.status == "complete")


@settings(max_examples=200, deadline=None)
@given(packed_lines(), st.data())
def test_a_baseline_leaves_out_the_lines_that_begin_below_it(whole: tuple[Packing, bytes, bytes], data: st.DataObject) -> None:
    """The generation and the decoded offsets are those of a blob that was read from its beginning."""
    _, packed, text = whole
    baseline = data.draw(st.integers(1, len(packed)))
    desk, full = a_desk(data), Desk(limits=SizeLimits(80, 60, 1_000))
    desk.limits = full.limits
    desk.container.put(desk.name, packed[:baseline], kind="AppendBlob")
    desk.read(baseline=baseline)
    assert desk.segments == []
    for one, counted in ((desk, baseline), (full, None)):
        one.container.put(one.name, packed, kind="AppendBlob")
        one.read(closed=True, baseline=counted)
    decoded = {s.start: s for s in full.segments}
    skipped = len(text) - sum(len(s.data) for s in desk.segments) - sum(int(d.source["length"]) for d in desk.dead_letters)
    assert b"".join(s.data for s in desk.segments) == text[skipped:] or desk.dead_letters
    assert skipped == 0 or skipped == len(text) or text[skipped - 1 : skipped] == b"\n"
    assert {s.generation for s in desk.segments} <= {s.generation for s in full.segments}
    assert decoded
