"""The server of APIs, whatever arrives and however it is divided."""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from libs.common.http.server.connection import BodyRoom, HttpConnection, HttpLimits, Peer
from libs.common.http.server.messages import HttpAnswer, RequestHead

LIMITS = HttpLimits(head_bytes=300, body_bytes=50, bytes_at_once=50, seconds=5.0)
REQUESTS = (
    b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    b"POST /b?q HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    b"GET /c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
)
STATUS = re.compile(rb"HTTP/1\.1 [1-5][0-9][0-9] ")
LINES = st.sampled_from(
    [
        *(b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n", b"POST /refused HTTP/1.1\r\n", b"HEAD / HTTP/1.0\r\n"),
        *(b"Host: x\r\n", b"Content-Length: 3\r\n", b"Content-Length: 99\r\n", b"Transfer-Encoding: chunked\r\n"),
        *(b"Expect: 100-continue\r\n", b"Upgrade: websocket\r\n", b"A: " + b"a" * 300, b"\r\n"),
        *(b"abc", b"3\r\nabc\r\n", b"0\r\n\r\n"),
    ]
)


class EchoSite:
    """Answers with method, path and body."""

    def __init__(self) -> None:
        self.statuses: list[int] = []

    def refusal(self, head: RequestHead) -> HttpAnswer | None:
        """Refuse one path."""
        return HttpAnswer(403, b"") if head.path == "/refused" else None

    async def answer(self, head: RequestHead, body: bytes) -> HttpAnswer:
        """Echo."""
        return HttpAnswer(200, f"{head.method} {head.path} ".encode() + body)

    def answered(self, head: RequestHead | None, status: int) -> None:
        """Remember."""
        assert head is None or head.method
        self.statuses.append(status)


class _Sent:
    """The writer of a connection: what was sent."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def can_write_eof(self) -> bool:
        return False


async def exchange(pieces: list[bytes]) -> tuple[bytes, list[int], int]:
    """Let a client send pieces and then nothing more; return what it got, the statuses, and the room left for bodies."""
    reader, sent, site, room = asyncio.StreamReader(), _Sent(), EchoSite(), BodyRoom(LIMITS.bytes_at_once)
    connection = HttpConnection(Peer(reader, cast("Any", sent)), site, LIMITS, room)
    task = asyncio.create_task(connection.run())
    for piece in pieces:
        reader.feed_data(piece)
        await asyncio.sleep(0)
    reader.feed_eof()
    await task
    return sent.data, site.statuses, room.left


@given(st.lists(st.integers(0, len(REQUESTS)), max_size=12))
def test_any_division_of_requests_gives_the_same_answers(cuts: list[int]) -> None:
    """Byte for byte."""
    pieces = [REQUESTS[begin:end] for begin, end in pairwise([0, *sorted(cuts), len(REQUESTS)])]
    data, statuses, left = asyncio.run(exchange(pieces))
    assert (data, statuses, left) == asyncio.run(exchange([REQUESTS]))
    assert statuses == [200, 200, 200]
    for echo in (b"POST /a hello", b"POST /b abcde", b"GET /c "):
        assert echo in data


@given(st.lists(LINES | st.binary(max_size=40), max_size=12))
def test_whatever_arrives_is_answered_or_ends_the_connection(pieces: list[bytes]) -> None:
    """Without an error of our own, and without keeping room for a body."""
    data, statuses, left = asyncio.run(exchange(pieces))
    assert left == LIMITS.bytes_at_once
    assert 500 not in statuses
    assert len(STATUS.findall(data)) == len(statuses) + data.count(b"HTTP/1.1 100 ")
