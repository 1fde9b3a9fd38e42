"""One connection of a client: requests one after the other, each within its limits of size and time.

What a client sends is parsed by h11, which refuses what is ambiguous. A client that is slow is answered 408 and disconnected
when its time for one request is over, however it divides what it sends. A body that is not wanted is not read: after the
answer, what arrives is thrown away for a moment, because a client that is still sending would otherwise not see the answer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import h11
import structlog

from libs.common.http.server.messages import HttpAnswer, HttpSite, RequestHead, problem

log = structlog.get_logger(__name__)

_READ_BYTES: Final = 65_536
_LINGER_SECONDS: Final = 2.0
_ALL_READ: Final = (h11.DONE, h11.MUST_CLOSE, h11.CLOSED)
_ABSOLUTE: Final = re.compile(r"^https?://[^/?]*", re.IGNORECASE)  # as a proxy may write what is asked for
_RETRY_AFTER: Final = {"Retry-After": "1"}


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits of a server.

    Attributes:
        connections: at once; further ones are answered 503.
        head_bytes: of a request line with headers; more is answered 431.
        body_bytes: of a body; more is answered 413.
        bytes_at_once: of all bodies that are being read or worked on; beyond that, requests are answered 429.
        seconds: for a request to arrive, for an idle connection, and for an answer to be taken.
        answer_seconds: for the answer to be found; then it is 503.
    """

    connections: int = 128
    head_bytes: int = 16_384
    body_bytes: int = 1_000_000
    bytes_at_once: int = 8_000_000
    seconds: float = 10.0
    answer_seconds: float = 10.0


@dataclass(slots=True)
class BodyRoom:
    """The bytes that bodies may still take. Shared by all connections of a server."""

    left: int


@dataclass(frozen=True, slots=True)
class Peer:
    """The two directions of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class _Refused(Exception):
    """The request is answered with this, whatever else it has."""

    def __init__(self, answer: HttpAnswer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class HttpConnection:
    """One connection."""

    def __init__(self, peer: Peer, site: HttpSite, limits: HttpLimits, room: BodyRoom) -> None:
        self._peer = peer
        self._site = site
        self._limits = limits
        self._room = room
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes)
        self._head: RequestHead | None = None
        self._reserved = 0
        self.is_idle = True  # between two requests
        self.is_ending = False  # after the answer to the request that has begun

    async def run(self) -> None:
        """Answer requests until the connection ends. Errors of the connection end it quietly."""
        with suppress(OSError, TimeoutError, h11.LocalProtocolError):
            while await self._exchange():
                self._http.start_next_cycle()

    async def _exchange(self) -> bool:
        """Answer one request; return whether the connection can go on."""
        self._head, self.is_idle = None, True
        try:
            answer = await self._answer()
        finally:
            self._room.left += self._reserved
            self._reserved = 0
        if answer is None:
            return False
        async with asyncio.timeout(self._limits.seconds):
            await self._send(answer)
        self._site.answered(self._head, answer.status)
        if self._http.their_state is h11.DONE and self._http.our_state is h11.DONE:
            return True
        if self._http.their_state not in _ALL_READ:
            await self._linger()
        return False

    async def _answer(self) -> HttpAnswer | None:
        """Return the answer to the next request; None if the client has gone."""
        try:
            async with asyncio.timeout(self._limits.seconds):
                body = await self._request()
        except _Refused as refused:
            return refused.answer
        except h11.RemoteProtocolError as error:
            return _unreadable(error)
        except TimeoutError:
            return None if self.is_idle else problem(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time")
        if self._head is None or body is None:
            return None
        return await self._found(self._head, body)

    async def _found(self, head: RequestHead, body: bytes) -> HttpAnswer:
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                return await self._site.answer(head, body)
        except TimeoutError:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "there was no answer in time; repeat the request", _RETRY_AFTER)
        except Exception as error:
            log.exception("answering a request crashed", error_type=type(error).__name__)
            return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "answering crashed; see the log of the service")

    async def _request(self) -> bytes | None:
        """Read a request; return its body, or None if the client has closed the connection."""
        event = await self._next()
        if not isinstance(event, h11.Request):
            return None
        self._head = head = _head_of(event)
        if (refusal := self._site.refusal(head)) is not None:
            raise _Refused(refusal)
        self._reserve(head)
        if self._http.they_are_waiting_for_100_continue:
            await self._write(h11.InformationalResponse(status_code=HTTPStatus.CONTINUE, headers=[]))
        body = bytearray()
        while isinstance(event := await self._next(), h11.Data):
            body += event.data
            if len(body) > self._limits.body_bytes:
                raise _Refused(self._too_large())
        return bytes(body)

    def _reserve(self, head: RequestHead) -> None:
        """Reserve room for the body, of which h11 has checked that any length is a number."""
        is_chunked = "transfer-encoding" in head.headers
        size = self._limits.body_bytes if is_chunked else int(head.headers.get("content-length", "0"))
        if size > self._limits.body_bytes:
            raise _Refused(self._too_large())
        if size > self._room.left:
            raise _Refused(problem(HTTPStatus.TOO_MANY_REQUESTS, "too many requests at once; repeat this one", _RETRY_AFTER))
        self._room.left -= size
        self._reserved = size

    def _too_large(self) -> HttpAnswer:
        most = self._limits.body_bytes
        return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {most} bytes; divide the request")

    async def _next(self) -> object:
        """Return the next event of the client. Raises `h11.RemoteProtocolError`."""
        while (event := self._event()) is h11.NEED_DATA:
            data = await self._peer.reader.read(_READ_BYTES)
            self.is_idle = self.is_idle and not data
            self._http.receive_data(data)
        return event

    def _event(self) -> object:
        try:
            return self._http.next_event()
        except ValueError as error:  # a length of thousands of digits, which int() refuses
            raise h11.RemoteProtocolError("a length is too large") from error

    async def _send(self, answer: HttpAnswer) -> None:
        headers = [(name, value) for name, value in _headers_of(answer)]
        if self.is_ending or self._http.their_state is not h11.DONE:
            headers.append(("Connection", "close"))
        await self._write(h11.Response(status_code=answer.status, headers=headers, reason=HTTPStatus(answer.status).phrase))
        if self._head is None or self._head.method != "HEAD":
            await self._write(h11.Data(data=answer.body))
        await self._write(h11.EndOfMessage())

    async def _write(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self._peer.writer.write(data)
            await self._peer.writer.drain()

    async def _linger(self) -> None:
        """Read what the client is still sending, for a moment."""
        if self._peer.writer.can_write_eof():
            self._peer.writer.write_eof()
        async with asyncio.timeout(_LINGER_SECONDS):
            while await self._peer.reader.read(_READ_BYTES):
                pass


def _head_of(request: h11.Request) -> RequestHead:
    target = _ABSOLUTE.sub("", request.target.decode("ascii", "replace"))
    path, _, _ = target.partition("?")
    headers: dict[str, str] = {}
    for name, value in request.headers:
        headers.setdefault(name.decode("ascii", "replace"), value.decode("latin-1"))
    return RequestHead(request.method.decode("ascii", "replace"), path, headers)


def _headers_of(answer: HttpAnswer) -> Iterator[tuple[str, str]]:
    yield "Content-Type", answer.content_type
    yield "Content-Length", str(len(answer.body))
    yield "Cache-Control", "no-store"
    yield "X-Content-Type-Options", "nosniff"
    yield from answer.headers.items()


def _unreadable(error: h11.RemoteProtocolError) -> HttpAnswer:
    status = HTTPStatus(error.error_status_hint)
    if status is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
        return problem(status, "the headers are too large; send fewer")
    return problem(HTTPStatus.BAD_REQUEST, "this is not HTTP/1.1 as RFC 9112 has it")
