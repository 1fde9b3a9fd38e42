"""What the API serves: `POST /collections`, `GET /collections/{id}` and `GET /openapi.json`.

Who has no token is told nothing but the document, and no body of theirs is read. A request is accepted once Kafka has
acknowledged it, as it would be from `blobtide collect`: with the same schema, and only if all of its calls can be made.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Protocol
from urllib.parse import unquote

import msgspec
import structlog

from libs.common.errors import BlobtideError, Retry
from libs.common.http.method import Method
from libs.common.http.server.messages import HttpAnswer, RequestHead, problem
from libs.common.kafka.client.throttle import Throttle
from libs.common.kafka.records import Outbound
from libs.common.security.redaction import redact
from services.collector import metrics
from services.collector.api.answers import AcceptedRequest, CollectionProgress
from services.collector.requests.items import check_calls
from services.collector.requests.schema import (
    MOST_BYTES,
    CollectionRequest,
    NotJson,
    RequestRefused,
    read_request,
    write_request,
)

log = structlog.get_logger(__name__)

COLLECTIONS: Final = "/collections"
DOCUMENT: Final = "/openapi.json"
POLL_SECONDS: Final = 2
_BUSY_SECONDS: Final = 1
_AWAY_SECONDS: Final = 5
_JSON: Final = "application/json"
_CHALLENGE: Final = 'Bearer realm="blobtide"'


class KnowsRequests(Protocol):
    """Knows requests; see `services.collector.api.directory.RequestDirectory`."""

    def progress(self, message_id: str) -> Future[CollectionProgress | None]:
        """Return how far a request has come, in the end."""

    def knows(self, message_id: str) -> Future[bool]:
        """Return whether there is such a request, in the end."""


class WritesRequests(Protocol):
    """Writes requests; see `services.collector.api.writer.RequestWriter`."""

    def write(self, record: Outbound) -> Future[None]:
        """Return when a record is acknowledged, in the end."""


@dataclass(frozen=True, slots=True)
class SiteParts:
    """What a site needs.

    Attributes:
        topic: of requests.
        methods: those besides GET that calls may use.
        document: OpenAPI.
        filled: makes of a request what is checked, where the collector fills in what requests leave open.
    """

    token: str = field(repr=False)
    directory: KnowsRequests
    writer: WritesRequests
    topic: str
    methods: frozenset[Method]
    document: bytes
    filled: Callable[[CollectionRequest], CollectionRequest] = lambda request: request


class CollectionSite:
    """The site; see `libs.common.http.server.messages.HttpSite`."""

    def __init__(self, parts: SiteParts) -> None:
        self._parts = parts
        self._token = parts.token.encode()
        self._being_written: dict[str, asyncio.Event] = {}
        self._denied = Throttle()

    def refusal(self, head: RequestHead) -> HttpAnswer | None:
        """Return the answer to a request whose body need not be read, or None."""
        if head.path != DOCUMENT and not self._is_allowed(head):
            return self._unauthorized(head)
        methods = _methods(head.path)
        if not methods:
            return problem(HTTPStatus.NOT_FOUND, f"there is nothing here; {DOCUMENT} describes what there is")
        if head.method not in methods:
            allowed = ", ".join(methods)
            return problem(HTTPStatus.METHOD_NOT_ALLOWED, f"use {allowed}", {"Allow": allowed})
        return _of_type(head) if head.method == Method.POST else None

    async def answer(self, head: RequestHead, body: bytes) -> HttpAnswer:
        """Answer a request that is not refused."""
        if head.path == DOCUMENT:
            return HttpAnswer(HTTPStatus.OK, self._parts.document)
        if head.method == Method.POST:
            return await _translated(self._take(body))
        return await _translated(self._tell(unquote(head.path.removeprefix(f"{COLLECTIONS}/"))))

    def answered(self, head: RequestHead | None, status: int) -> None:
        """Count an answer."""
        metrics.API.labels("unreadable" if head is None else _operation(head), str(status)).inc()

    def _is_allowed(self, head: RequestHead) -> bool:
        scheme, _, given = head.headers.get("authorization", "").partition(" ")
        return hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token) and scheme.lower() == "bearer"

    def _unauthorized(self, head: RequestHead) -> HttpAnswer:
        if "authorization" not in head.headers:
            return problem(
                HTTPStatus.UNAUTHORIZED, "send the header Authorization: Bearer TOKEN", {"WWW-Authenticate": _CHALLENGE}
            )
        if self._denied.admits():
            log.warning("a client of the API sends a wrong token")
        challenge = f'{_CHALLENGE}, error="invalid_token"'
        return problem(HTTPStatus.UNAUTHORIZED, "the token is not the one of collector.api", {"WWW-Authenticate": challenge})

    async def _take(self, body: bytes) -> HttpAnswer:
        try:
            request = read_request(body)
            check_calls(self._parts.filled(request), self._parts.methods)
        except NotJson as error:
            return problem(HTTPStatus.BAD_REQUEST, f"{error}; send one JSON object")
        except RequestRefused as error:
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{error}; {DOCUMENT} has the schema of a request")
        while (other := self._being_written.get(request.message_id)) is not None:
            await other.wait()
        done = self._being_written[request.message_id] = asyncio.Event()
        try:
            return await self._accept(request)
        finally:
            del self._being_written[request.message_id]
            done.set()

    async def _accept(self, request: CollectionRequest) -> HttpAnswer:
        """Write a request, unless it is known."""
        key, value = request.message_id, write_request(request)
        if len(value) > MOST_BYTES:  # numbers take more bytes than a client may write them with
            said = f"with its numbers written out, a request has at most {MOST_BYTES} bytes, not {len(value)}; divide it"
            return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, said)
        is_known = await self._is_known(key)
        if not is_known:
            record = Outbound(self._parts.topic, value, key.encode())
            await asyncio.wrap_future(self._parts.writer.write(record))
        accepted = AcceptedRequest(id=key, repeated=is_known)
        where = {"Location": f"{COLLECTIONS}/{key}", "Retry-After": str(POLL_SECONDS)}
        status = HTTPStatus.OK if is_known else HTTPStatus.ACCEPTED
        return HttpAnswer(status, msgspec.json.encode(accepted), headers=where)

    async def _is_known(self, key: str) -> bool:
        """Return whether an id is known; if that cannot be told now, whoever works on requests will."""
        try:
            return await asyncio.wrap_future(self._parts.directory.knows(key))
        except Retry:
            return False

    async def _tell(self, key: str) -> HttpAnswer:
        progress = await asyncio.wrap_future(self._parts.directory.progress(key))
        if progress is None:
            return problem(HTTPStatus.NOT_FOUND, "there is no request with this id, or it is no longer remembered")
        return HttpAnswer(HTTPStatus.OK, msgspec.json.encode(progress))


async def _translated(answer: Awaitable[HttpAnswer]) -> HttpAnswer:
    """Return an answer, or what its errors mean to a client."""
    try:
        return await answer
    except Retry as error:
        is_busy = error.kind == "busy"
        status = HTTPStatus.TOO_MANY_REQUESTS if is_busy else HTTPStatus.SERVICE_UNAVAILABLE
        after = {"Retry-After": str(_BUSY_SECONDS if is_busy else _AWAY_SECONDS)}
        return problem(status, f"{redact(str(error))}; repeat the request", after)
    except BlobtideError as error:
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, redact(str(error)))


def _methods(path: str) -> tuple[str, ...]:
    """Return the methods that a path has; none if there is no such path."""
    if path == COLLECTIONS:
        return ("POST",)
    return ("GET", "HEAD") if path == DOCUMENT or _names_request(path) else ()


def _names_request(path: str) -> bool:
    key = path.removeprefix(f"{COLLECTIONS}/")
    return key != path and bool(key) and "/" not in key


def _operation(head: RequestHead) -> str:
    if head.path == DOCUMENT:
        return "document"
    if head.path == COLLECTIONS:
        return "collect"
    return "progress" if _names_request(head.path) else "unknown"


def _of_type(head: RequestHead) -> HttpAnswer | None:
    """Return the answer to a body that is not JSON as it is; None if it says that it is."""
    said = head.headers.get("content-type", "").partition(";")[0].strip().lower()
    if said == _JSON and head.headers.get("content-encoding", "identity").lower() == "identity":
        return None
    return problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send JSON, not compressed, with the header Content-Type: {_JSON}")
