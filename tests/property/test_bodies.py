"""Request bodies: where rows are cut, and what names a body."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from libs.common.rows.types.flows import FLOWS
from services.sinks.frame.bodies import Body, BodyLimits, bodies_of, cut
from services.sinks.frame.contract import Part
from tests.flows import rows, table

LIMITS = BodyLimits(rows=4, bytes=10)
messages = st.lists(st.lists(st.text("ab\u00e4", max_size=14), min_size=1, max_size=9), min_size=1, max_size=5)


def sliced(texts: Sequence[str], lengths: Sequence[int]) -> Iterator[pa.Array]:
    """Yield texts in arrays of these lengths, over and over; some are slices of longer arrays."""
    at, turn = 0, 0
    while at < len(texts):
        length = lengths[turn % len(lengths)]
        yield pa.array(["before", *texts[at : at + length]], pa.string())[1:]
        at, turn = at + length, turn + 1


def bodies(content: Sequence[Sequence[str]], lengths: Sequence[int]) -> list[list[str]]:
    """Return the texts of each body of some messages."""
    texts = [text for message in content for text in message]
    ends = list(accumulate(map(len, content)))
    return [found.to_pylist() for found in cut(sliced(texts, lengths), ends, LIMITS)]


@given(messages, st.lists(st.integers(1, 7), min_size=1, max_size=4))
def test_bodies_follow_from_their_message_alone(content: list[list[str]], lengths: list[int]) -> None:
    """Whatever else comes with a message, and in whatever arrays, it is cut into the same bodies."""
    assert bodies(content, lengths) == [body for message in content for body in bodies([message], [100])]


@given(messages)
def test_bodies_have_every_row_and_keep_the_limits(content: list[list[str]]) -> None:
    """All rows are there once and in order; a body beyond the limit of bytes has one row; no body could hold the next row."""
    found = bodies(content, [3])
    assert [text for body in found for text in body] == [text for message in content for text in message]
    assert all(len(body) <= LIMITS.rows for body in found)
    assert all(len(body) == 1 or size(body) <= LIMITS.bytes for body in found)
    for message in content:
        own = bodies([message], [100])
        for body, after in pairwise(own):
            assert len(body) == LIMITS.rows or size([*body, after[0]]) > LIMITS.bytes


def size(texts: Sequence[str]) -> int:
    """Return the number of bytes of texts."""
    return sum(len(text.encode()) for text in texts)


def body_of(content: Sequence[dict[str, object]], texts: Sequence[str]) -> Body:
    """Return some rows as one body."""
    part = Part(0, FLOWS, table(content), (len(content),))
    (body,) = bodies_of(part, 0, [pa.array(texts, pa.string())], BodyLimits(1_000, 1_000_000))
    return body


def test_a_name_is_of_the_rows_and_of_what_they_say() -> None:
    """The same rows have the same name in any batch; other rows, also with the same text, and other text have another one."""
    content = rows()[:6]
    texts = ["same"] * len(content)
    whole = body_of(content, texts)
    first, second = whole.halves()
    assert (first.rows, second.rows, second.start) == (3, 3, 3)
    assert first.name == body_of(content[:3], texts[:3]).name
    assert second.name == body_of(content[3:], texts[3:]).name
    names = {whole.name, first.name, second.name, body_of(content[:3], ["same", "same", "other"]).name}
    assert len(names) == 4
    assert all(len(name) == 32 for name in names)


def test_halves_go_down_to_single_rows() -> None:
    """Halving ends at bodies of one row, which together are all rows."""
    content = rows()[:7]
    bodies, single = [body_of(content, list("abcdefg"))], []
    while bodies:
        body = bodies.pop()
        if body.rows == 1:
            single.append((body.start, *body.texts.to_pylist()))
        else:
            bodies += body.halves()
    assert sorted(single) == list(enumerate("abcdefg"))
