"""Batches of the parser end between records."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.messages.segments import RecordPiece, Segment, SegmentFormat
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.wire import decode_rows
from tests.unit.parser.test_app import OUTLET, flow_parser, message
from tests.unit.parser.test_kernel import GOOD, vnet

HEAD: Final = b'{"records":['
LIMIT: Final = 20_000  # about 150 rows more than a batch without rows

Part = tuple[int, int]
"""The first tuple of what one batch has of a record, and the number of its tuples."""
Unit = tuple[str, int, int]
"""A record or a piece of one: its blob, its offset and its first tuple."""


@st.composite
def segments(draw: st.DrawFn) -> list[Segment]:
    """Records of two blobs in segments of some records each; a record may be cut into pieces, each its own segment."""
    made: list[Segment] = []
    ends = {"a.b/logs/0": 0, "a.b/logs/1": 0}
    for number in range(draw(st.integers(1, 6))):
        blob = draw(st.sampled_from(sorted(ends)))
        start = ends[blob]
        head = b"," if start else HEAD
        tuples = [draw(st.integers(1, 250)) for _ in range(draw(st.integers(1, 4)))]
        if draw(st.booleans()):
            data = head + b",".join(record(count, f"{number}-{place}") for place, count in enumerate(tuples))
            made.append(Segment(blob, "g", start, start + len(data), number, SegmentFormat.VNET, data))
            ends[blob] += len(data)
            continue
        end = start + sum(tuples) * len(GOOD) + 1_000  # of the whole record
        for place, count in enumerate(tuples):
            piece = RecordPiece(place, len(tuples), sum(tuples[:place]))
            data = head + record(count, str(number))
            made.append(Segment(blob, "g", start, end, number, SegmentFormat.VNET, data, piece))
        ends[blob] = end
    return made


def record(tuples: int, name: str) -> bytes:
    """Return a record whose words no other record has."""
    names = dict.fromkeys(("flowLogGUID", "flowLogResourceID", "targetResourceID"), f"{name:-<900}")
    return json.dumps(vnet(*[GOOD] * tuples) | names).encode()


def batches(polls: Sequence[Sequence[Segment]]) -> list[list[tuple[str, int, int]]]:
    """Return the batches of a parser: for each row its blob, the offset of its record, and its index."""
    parser = flow_parser(replace(OUTLET, batch_bytes=LIMIT))
    found = []
    for poll in polls:
        for out in parser.handle([message(0, number, segment) for number, segment in enumerate(poll)]):
            rows = decode_rows(FLOWS, out.value or b"").select(["blob", "record_offset", "tuple_index"])
            found.append([tuple(row.values()) for row in rows.to_pylist()])
    return found


def parts(found: list[list[tuple[str, int, int]]], firsts: dict[tuple[str, int], list[int]]) -> dict[Unit, list[Part]]:
    """Return what the batches have of each record or piece, given the first tuples of the pieces of each record."""
    of_unit: dict[Unit, list[Part]] = defaultdict(list)
    for batch in found:
        for (blob, offset), rows in groupby(batch, key=lambda row: row[:2]):
            indexes = [row[2] for row in rows]
            assert indexes == list(range(indexes[0], indexes[0] + len(indexes)))
            unit = (blob, offset, max(first for first in firsts[blob, offset] if first <= indexes[0]))
            of_unit[unit].append((indexes[0], len(indexes)))
    return dict(of_unit)


def alone(segment: Segment) -> Iterator[Segment]:
    """Yield the records of a segment in segments of their own."""
    if segment.piece is not None:
        yield segment
        return
    text = segment.data.decode()
    start = 12 if text.startswith("{") else 1
    while start < len(text):
        _, end = json.JSONDecoder().raw_decode(text, start)
        place = segment.start + start
        data = b"," + segment.data[start:end]
        yield replace_range(segment, place - 1, data)
        start = end + 1


def replace_range(segment: Segment, start: int, data: bytes) -> Segment:
    """Return a segment with other bytes."""
    return Segment(segment.blob, segment.generation, start, start + len(data), segment.ordinal, segment.format, data)


@settings(max_examples=15)
@given(segments(), st.data())
def test_what_a_batch_has_of_a_record_depends_on_the_record_alone(made: list[Segment], data: st.DataObject) -> None:
    """However records come in segments and polls, each is in its batches as if it came alone; a divided one has its own."""
    singles = [single for segment in made for single in alone(segment)]
    firsts: dict[tuple[str, int], list[int]] = defaultdict(list)
    for single in singles:
        offset = single.start + single.data.index(b"{", 1 if single.data.startswith(b",") else len(HEAD))
        firsts[single.blob, offset].append(single.piece.first_tuple if single.piece else 0)
    expected = parts(batches([[single] for single in singles]), firsts)

    cuts = sorted({0, len(made), *data.draw(st.lists(st.integers(0, len(made)), max_size=3))})
    found = batches([made[start:end] for start, end in pairwise(cuts)])

    assert parts(found, firsts) == expected
    assert [row for batch in found for row in batch] == [row for batch in batches([singles]) for row in batch]
    divided = {(*unit[:2], first): count for unit, of in expected.items() if len(of) > 1 for first, count in of}
    assert all(row == batch[0] and divided[row] == len(batch) for batch in found for row in batch if row in divided)
