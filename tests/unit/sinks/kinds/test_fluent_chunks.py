"""Rows as chunks of the forward protocol: the same rows are the same chunk, in whatever batch they come."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import msgpack
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from libs.common.rows.formats.encoders import RowFormat, columns_for
from libs.common.rows.shape import Shape
from libs.common.rows.types.flows import FLOWS
from services.sinks.frame.contract import Part
from services.sinks.frame.template import Template
from services.sinks.kinds.fluent.chunks import Chunk, ChunkLimits, ChunkMaker
from services.sinks.kinds.fluent.settings import Compression
from tests.documents import flat_document
from tests.flows import Spot, row, rows, table

ROWS = rows(blobs=3, records=4, tuples=5)
ALL = ChunkLimits(10_000, 2_000_000, 1_000_000)
"""No limit that matters."""


def maker(tag: str = "flows", limits: ChunkLimits = ALL) -> ChunkMaker:
    """Return a maker of chunks of flows."""
    columns = columns_for(RowFormat.JSON, FLOWS, Shape.of(FLOWS))
    return ChunkMaker(FLOWS, Template.parse("tag", tag, FLOWS), columns, limits)


def part(messages: Sequence[Sequence[Any]]) -> Part:
    """Return a part with these messages."""
    content = table([values for message in messages for values in message]).unify_dictionaries().combine_chunks()
    return Part(0, FLOWS, content, tuple(accumulate(map(len, messages))))


def chunks(made: ChunkMaker, of: Part, too_large: Callable[[int], None] = lambda _: None) -> list[Chunk]:
    """Return the chunks of a part."""
    return list(made.chunks(of, np.arange(0), too_large))


def entries(chunk: Chunk, compression: Compression = Compression.NONE) -> tuple[str, list[Any], dict[str, Any]]:
    """Return what a server gets of a chunk."""
    tag, data, option = msgpack.unpackb(chunk.message(compression).message)
    if option.get("compressed") == "gzip":
        data = gzip.decompress(data)
    unpacker = msgpack.Unpacker(ext_hook=lambda code, body: (code, body))
    unpacker.feed(data)
    return tag, list(unpacker), option


def test_an_entry_is_a_time_with_nanoseconds_and_the_row() -> None:
    """A chunk has the tag, the number of its entries and its id; each entry an EventTime and the row without nulls."""
    (chunk,) = chunks(maker(), part([ROWS[:4]]))
    for compression in Compression:
        tag, found, option = entries(chunk, compression)
        assert tag == "flows"
        assert option == {"size": 4, "chunk": chunk.id} | ({"compressed": "gzip"} if compression is Compression.GZIP else {})
        for (kind, body), members in found:
            assert kind == 0
            assert int.from_bytes(body[:4], "big") * 1_000 + int.from_bytes(body[4:], "big") // 1_000_000 in {
                values["time"] for values in ROWS[:4]
            }
            assert members in [flat_document(values) for values in ROWS[:4]]


def _by_id(made: ChunkMaker, batches: Sequence[Sequence[Sequence[Any]]]) -> dict[str, bytes]:
    return {chunk.id: b"".join(chunk.pieces) for batch in batches if batch for chunk in chunks(made, part(batch))}


@given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.data())
def test_a_chunk_does_not_depend_on_the_batch(sizes: list[int], data: st.DataObject) -> None:
    """However messages are divided into batches, the same chunks with the same ids, rows and bytes are made of them."""
    ends = [min(end, len(ROWS)) for end in accumulate(sizes)]
    messages = [ROWS[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < end]
    made = maker("flows.{direction}", ChunkLimits(3, 1_500, 1_000_000))
    whole = _by_id(made, [messages])
    at = data.draw(st.integers(0, len(messages)))
    assert _by_id(made, [messages[:at], messages[at:]]) == whole
    assert _by_id(made, [[message] for message in messages]) == whole


@given(st.integers(1, 7), st.sampled_from([1_000, 2_000, 5_000, 1_000_000]))
def test_chunks_keep_their_limits_and_have_every_row_once(most: int, size: int) -> None:
    """No chunk has more rows or bytes than allowed, except a single row; each row is in the chunk of its tag and message."""
    of = part([ROWS[:17], ROWS[17:18], ROWS[18:]])
    found = chunks(maker("flows.{action}.{direction}", ChunkLimits(most, size, 1_000_000)), of)
    assert sorted(row for chunk in found for row in chunk.rows.tolist()) == list(range(len(ROWS)))
    for chunk in found:
        assert len(chunk.rows) <= most
        assert len(chunk.rows) == 1 or sum(map(len, chunk.pieces)) <= size
        own = [ROWS[row] for row in chunk.rows]
        assert {f"flows.{one['action']}.{one['direction']}" for one in own} == {chunk.tag}
        assert [members for _, members in entries(chunk)[1]] == [flat_document(values) for values in own]
        assert len(np.unique(np.searchsorted(of.ends, chunk.rows, side="right"))) == 1


def test_a_row_that_is_too_large_is_left_out() -> None:
    """A record beyond the limit is named, wherever it is in its message, and the others are sent."""
    long = [row(Spot(9, 0, index), rule="x" * 3_000) for index in range(3)]
    for place in (0, 3, 6):
        content = [*ROWS[:place], long[0], *ROWS[place:6], long[1], long[2]]
        bad: list[int] = []
        found = chunks(maker(limits=ChunkLimits(4, 1_000_000, 2_000)), part([content[:7], content[7:]]), bad.append)
        assert bad == [place, 7, 8]
        assert sorted(at for chunk in found for at in chunk.rows.tolist()) == [at for at in range(9) if at not in bad]


def test_only_times_that_fit_are_sent() -> None:
    """Times before 1970 and after 2106 are named."""
    content = [row(Spot(0, 0, index), time=time) for index, time in enumerate((-1, 0, 2**32 * 1_000 - 1, 2**32 * 1_000))]
    assert maker().untimely(part([content])).tolist() == [0, 3]


def test_values_add_no_part_to_a_tag() -> None:
    """A dot in a value would let a row choose which rules of the server apply to it."""
    (chunk,) = chunks(maker("a.{dst_ip}.{rule}"), part([[row(Spot(0, 0, 0), dst_ip="10.0.0.4", rule="*.**")]]))
    assert chunk.tag == "a.10_0_0_4.____"


def test_ids_differ_by_rows_tag_and_members() -> None:
    """Other rows, another tag or other members are another chunk: a server that remembers ids does not drop it."""
    ids = {chunks(maker(tag), part([some]))[0].id for tag in ("a", "b") for some in (ROWS[:3], ROWS[:2], ROWS[1:3])}
    fewer = columns_for(RowFormat.JSON, FLOWS, Shape.of(FLOWS, ("src_ip", "blob")))
    ids.add(chunks(ChunkMaker(FLOWS, Template.parse("tag", "a", FLOWS), fewer, ALL), part([ROWS[:3]]))[0].id)
    assert len(ids) == 7
