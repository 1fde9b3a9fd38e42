"""Headers and replies of the zeromq sink."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import CodecError
from services.sinks.kinds.zeromq.protocol import Answer, Numbering, Reply


def test_headers_number_messages_in_all_and_by_topic() -> None:
    """A header has the row's identity and two numbers, which go up only when the message was sent."""
    numbering = Numbering("5e55", "application/json", "flows")
    first = json.loads(numbering.header("id-1", b"a"))
    assert first == json.loads(numbering.header("id-1", b"a"))
    assert first == {
        "id": "id-1",
        "session": "5e55",
        "sequence": 1,
        "topic_sequence": 1,
        "content_type": "application/json",
        "rows": "flows",
    }
    for topic in (b"a", b"b", b"a"):
        numbering.sent(topic)
    assert [json.loads(numbering.header("", topic))["topic_sequence"] for topic in (b"a", b"b", b"c")] == [3, 2, 1]
    assert numbering.sequence == 3


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([], "three or four frames"),
        ([b"ACK", b"s"], "three or four frames"),
        ([b"ACK", b"s", b"1", b"", b""], "three or four frames"),
        ([b"OK", b"s", b"1"], "begins with ACK"),
        ([b"ACK", b"s", b""], "sequence numbers"),
        ([b"ACK", b"s", b"1-2-3"], "sequence numbers"),
        ([b"ACK", b"s", b"1,"], "sequence numbers"),
        ([b"ACK", b"s", b"-1"], "sequence numbers"),
        ([b"ACK", b"s", b"9" * 19], "sequence numbers"),
        ([b"ACK", b"s", "\u0661".encode()], "sequence numbers"),
    ],
)
def test_a_reply_of_another_form_is_refused(frames: list[bytes], said: str) -> None:
    """What is no reply is said, and not guessed."""
    with pytest.raises(CodecError, match=said):
        Reply.read(frames)


def test_a_reply_settles_what_waits_and_nothing_else() -> None:
    """Numbers that are not waiting, beyond all bounds or in a range from high to low, settle nothing."""
    reply = Reply.read([b"REFUSE", b"s", b"2,4-999999999999999999,9-1", b"why"])
    assert (reply.answer, reply.session, reply.reason) == (Answer.REFUSE, b"s", b"why")
    assert reply.among({1: 0, 2: 1, 4: 2, 7: 3}) == [2, 4, 7]
    assert reply.among({}) == []


@given(st.sets(st.integers(1, 300)), st.lists(st.tuples(st.integers(1, 300), st.integers(0, 50))))
def test_ranges_settle_the_numbers_in_them(waiting: set[int], ranges: list[tuple[int, int]]) -> None:
    """Whatever the ranges, those settled are the waiting numbers inside of them."""
    if not ranges:
        return
    text = ",".join(f"{first}-{first + more}" if more else str(first) for first, more in ranges)
    reply = Reply.read([b"ACK", b"s", text.encode()])
    inside = {number for first, more in ranges for number in range(first, first + more + 1)}
    assert set(reply.among(dict.fromkeys(sorted(waiting), 0))) == waiting & inside


@given(st.lists(st.binary(max_size=12), max_size=5))
def test_any_frames_are_a_reply_or_refused(frames: list[bytes]) -> None:
    """Reading frames raises nothing but a CodecError."""
    with suppress(CodecError):
        Reply.read(frames)
