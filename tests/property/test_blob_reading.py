"""Reading blobs: however they are cut, the same records come out."""

from __future__ import annotations

import json

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from libs.common.messages.dead_letters import DeadLetter
from libs.common.unpacking.member import packing_of
from services.ingest.cutting.window import SizeLimits
from tests.blob_reading import Desk, assert_tiles, records_of, tuples_of

TUPLES = st.lists(st.sampled_from(["1,a", "2,[::1],b", 'x"\\', "", "é€", "3" * 60]), max_size=12)
FLOW_RECORDS = st.builds(
    lambda groups, tail: {"time": "t", "category": "FlowLogFlowEvent", "flowRecords": {"flows": groups}, **tail},
    st.lists(st.builds(lambda t: {"aclID": "a", "flowGroups": [{"rule": "r", "flowTuples": t}]}, TUPLES), max_size=3),
    st.sampled_from([{}, {"z": [{"records": [{"category": "x"}]}]}, {"flowLogVersion": 4, "n": None}]),
)
RECORDS = FLOW_RECORDS | st.sampled_from([{}, {"a": [1]}, {"a": "]}"}, {"b": [{}, {}], "c": "},{"}, [1, 2], "text"])
HEADS = st.sampled_from(['{"records":[', '\ufeff{"records":[', '{\r\n  "records" : [\r\n', ' \n{"records":['])
TAILS = st.sampled_from(["]}", "\r\n  ]\r\n}", "] }\n"])
SEPARATORS = st.sampled_from([",", ", ", ",\n  ", "\n,"])


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, list[str], str]:
    """Draw a head, the texts of records with the separator before all but the first, and a tail."""
    records = draw(st.lists(RECORDS, max_size=8))
    separator = draw(SEPARATORS)
    indent = draw(st.sampled_from([None, 1]))
    texts = [json.dumps(r, indent=indent, ensure_ascii=False) for r in records]
    return draw(HEADS), [t if i == 0 else separator + t for i, t in enumerate(texts)], draw(TAILS)


def _cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({min(p, len(data)) for p in places} | {len(data)})
    return [data[a:b] for a, b in zip([0, *ends], ends, strict=False) if a < b]


@settings(max_examples=250)
@given(documents(), st.data())
def test_any_way_of_cutting_a_document_gives_the_same_records(
    document: tuple[str, list[str], str], data: st.DataObject
) -> None:
    """Blocks, commits, reads and segment sizes of any kind leave the records, their offsets and the tiling alone."""
    head, texts, tail = document
    limit = data.draw(st.sampled_from([120, 400, 900_000]))
    desk = Desk(limits=SizeLimits(segment=limit, line=1000, record=100_000), allowance=data.draw(st.integers(1, 5000)))
    body = (head + "".join(texts)).encode()
    whole = body + tail.encode()
    # A writer that puts the tail behind every commit commits whole records; one that does not may stop anywhere.
    with_tail = data.draw(st.booleans())
    ends = [len((head + "".join(texts[:i])).encode()) for i in range(len(texts) + 1)]
    places = st.sampled_from(ends) if with_tail else st.integers(0, len(body))
    blocks = [(f"D{i}", block) for i, block in enumerate(_cut(body, data.draw(st.lists(places, max_size=6))))]
    for count in sorted(data.draw(st.sets(st.integers(1, len(blocks)), max_size=3)) | {len(blocks)}):
        closing = [("Z", tail.encode())] if with_tail or count == len(blocks) else []
        desk.container.commit(desk.name, blocks[:count] + closing)
        desk.read()
    desk.read(closed=True)

    expected = _expected(whole)
    got = dict(records_of(desk.segments))
    assert got == {o: v for o, v in expected.items() if not _inside(o, desk.dead_letters)}
    for letter in desk.dead_letters:  # only records without tuples, or with one too large, cannot be cut
        assert letter.code == "too_large"
    assert all(_is_too_large(expected[o], limit) for o in expected if o not in got)
    assert desk.checkpoint is None or not expected or desk.checkpoint.status == "complete"
    if not desk.dead_letters:
        assert_tiles(desk.segments)
        if expected:
            assert desk.checkpoint is not None
            assert desk.checkpoint.records == len(expected)
    assert all(len(s.data) <= limit for s in desk.segments)


def _expected(whole: bytes) -> dict[int, object]:
    text = whole.decode("latin-1")
    position = text.index("[") + 1
    found: dict[int, object] = {}
    while True:
        while text[position] in ", \t\r\n":
            position += 1
        if text[position] == "]":
            return found
        value, end = json.JSONDecoder().raw_decode(text, position)
        found[position] = value
        position = end


def _inside(offset: int, letters: list[DeadLetter]) -> bool:
    return any(start <= offset < end for start, end in map(_range, letters))


def _range(letter: DeadLetter) -> tuple[int, int]:
    assert letter.record_offset is not None
    return letter.record_offset, letter.record_offset + int(letter.source["length"])


def _is_too_large(record: object, limit: int) -> bool:
    tuples = tuples_of(record)
    text = len(json.dumps(record, indent=1))
    return text > limit // 2 if not tuples else text - sum(len(str(t)) for t in tuples) > limit // 4


@settings(max_examples=250)
@given(st.lists(st.binary(max_size=40), max_size=12), st.data())
def test_any_way_of_cutting_lines_gives_the_same_lines(texts: list[bytes], data: st.DataObject) -> None:
    """Commits, reads and segment sizes of any kind leave the lines alone; over-long ones are named by position and length."""
    limit = data.draw(st.integers(8, 60))
    body = b"x" + b"\n".join(texts)
    desk = Desk(
        limits=SizeLimits(segment=data.draw(st.integers(5, 80)), line=limit, record=1000),
        allowance=data.draw(st.integers(1, 90)),
    )
    appended = data.draw(st.booleans())
    for end in sorted(data.draw(st.sets(st.integers(1, len(body)), max_size=4)) | {len(body)}):
        if appended:
            desk.container.put(desk.name, body[:end], kind="AppendBlob")
        else:
            desk.container.commit(desk.name, [(f"{i}", bytes([b])) for i, b in enumerate(body[:end])])
        desk.read()
    desk.read(closed=True)

    ranges, position = [], 0
    for line in (body + b"\n").split(b"\n")[:-1]:
        end = min(position + len(line) + 1, len(body))
        ranges += [(position, end)] if end > position else []
        position += len(line) + 1
    too_long = {r for r in ranges if r[1] - r[0] > limit}
    assert set(map(_range, desk.dead_letters)) == too_long
    assert all(
        d.data == body[d.record_offset :][: min(256, int(d.source["length"]))] or len(d.data) == limit
        for d in desk.dead_letters
    )
    assert b"".join(s.data for s in desk.segments) == b"".join(body[a:b] for a, b in ranges if (a, b) not in too_long)
    assert desk.checkpoint is not None
    assert (desk.checkpoint.next_offset, desk.checkpoint.status) == (len(body), "complete")


@settings(max_examples=400)
@given(st.data())
def test_any_bytes_at_all_are_read_to_their_end(data: st.DataObject) -> None:
    """Whatever a blob holds, reading ends, and every byte below the cursor is in a segment or in a dead letter."""
    noise = st.lists(
        st.binary(max_size=12)
        | st.sampled_from(
            [b'{"records":[', b',{"category":"x","a":[1,2]}', b"]}", b'{"a":"', b",{", b'"', b"\n", b'{"category":1}']
        )
    )
    body = b"".join(data.draw(noise))
    if data.draw(st.booleans()):
        body = b'{"records":[' + body
    assume(packing_of(body) is None)
    desk = Desk(limits=SizeLimits(segment=64, line=50, record=300), allowance=data.draw(st.integers(1, 200)))
    cuts = _cut(body, data.draw(st.lists(st.integers(0, len(body)), max_size=4)))
    blocks = [(f"{i}", block) for i, block in enumerate(cuts)]
    for count in range(1, len(blocks) + 1):
        desk.container.commit(desk.name, blocks[:count])
        desk.read()
    if not blocks:
        return
    desk.read(closed=True)
    covered = [(s.start, s.end) for s in desk.segments]
    covered += [(d.record_offset or 0, (d.record_offset or 0) + int(d.source.get("length", "0"))) for d in desk.dead_letters]
    position = 0
    for start, end in sorted(set(covered)):
        assert start <= position, f"a hole before {start}"
        position = max(position, end)
    assert desk.checkpoint is None or desk.checkpoint.next_offset <= position or not covered
