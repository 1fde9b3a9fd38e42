"""Blobs that are written anew as a whole: the same bytes below the cursor are the same generation, and no others are."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.cutting.window import SizeLimits
from tests.blob_container import EPOCH
from tests.blob_reading import Desk, assert_tiles

HEAD, TAIL = b'{"records":[', b"]}"
LIMITS = SizeLimits(segment=400, line=1_000, record=100_000, compare=90)


def document(values: list[int]) -> bytes:
    """Return a document of records without its tail."""
    return HEAD + b",".join(b'{"category":"FlowLogFlowEvent","n":%d}' % value for value in values)


def write(desk: Desk, data: bytes, draw: st.DataObject, number: int) -> None:
    """Write `data` as a whole, in one piece or in blocks that were never there before, as a new blob or not."""
    created = EPOCH + timedelta(hours=number) if draw.draw(st.booleans()) else None
    cuts = sorted(draw.draw(st.sets(st.integers(1, len(data) - 1), max_size=3)))
    if cuts:
        ends = [0, *cuts, len(data)]
        blocks = [(f"{number}-{a}", data[a:b]) for a, b in pairwise(ends)]
        desk.container.commit(desk.name, blocks, created=created)
    else:
        desk.container.put(desk.name, data, created=created)


@settings(max_examples=300)
@given(st.lists(st.integers(100, 999), min_size=1, max_size=8), st.data())
def test_any_rewrite_that_keeps_what_was_read_gives_the_rows_of_growth(values: list[int], data: st.DataObject) -> None:
    """However it is written, in whatever steps it is read, each record comes once and nothing is an error."""
    desk = Desk(limits=LIMITS, allowance=data.draw(st.integers(50, 500)))
    for number, count in enumerate([*sorted(data.draw(st.sets(st.integers(1, len(values)), max_size=4))), len(values)]):
        write(desk, document(values[:count]) + TAIL, data, number)
        desk.read()
    desk.read(closed=True)
    assert desk.text == document(values)
    assert_tiles(desk.segments)
    assert desk.dead_letters == []


@settings(max_examples=300)
@given(st.lists(st.integers(100, 999), min_size=1, max_size=8), st.data())
def test_any_other_rewrite_is_another_generation(values: list[int], data: st.DataObject) -> None:
    """One digit anywhere below the cursor, or a blob that ends before it: all of the new content comes, under a new name."""
    desk = Desk(limits=LIMITS, allowance=data.draw(st.integers(50, 500)))
    write(desk, document(values) + TAIL, data, 0)
    desk.read()
    place = data.draw(st.integers(0, len(values) - 1))
    changed = [*values[:place], 1000 - values[place] if values[place] != 500 else 501, *values[place + 1 :]]
    if any(value < 100 for value in changed):
        changed = changed[:place]
    else:
        changed += data.draw(st.lists(st.integers(100, 999), max_size=3))
    if not changed:
        return
    write(desk, document(changed) + TAIL, data, 1)
    desk.read()
    assert desk.text == document(changed)
    assert len({s.generation for s in desk.segments}) == 2
    assert [d.code for d in desk.dead_letters] == ["incomplete_blob"]
