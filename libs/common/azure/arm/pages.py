"""Read a list to its last page, one step at a time: the caller keeps the place, and may stop and continue anywhere.

Lists continue at a `nextLink`, queries of Resource Graph with a `$skipToken`, and operations that take long at the URL of their
state (`operations`). A link is followed as it is, but only on the same host. Links that repeat, and lists without an end, are
recognised.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from typing import Final
from urllib.parse import urlsplit

import msgspec

from libs.common.azure.arm.answers import Answered, read_answer
from libs.common.azure.arm.api import ArmCall, ArmIncomplete, ArmResponse, ArmUnavailable, PageExpired
from libs.common.azure.arm.client import ArmClient, ArmRequest, first_request, following_request
from libs.common.azure.arm.failures import request_id
from libs.common.azure.arm.operations import ArmOperation, ResultAt, Running, operation_after
from libs.common.azure.endpoint import Endpoint
from libs.common.work.room import RoomShare

MOST_PAGES: Final = 10_000
MOST_RESTARTS: Final = 3
_PORTS: Final = {"https": 443, "http": 80}
_VISIBLE: Final = re.compile(r"[\x21-\x7e]{1,16000}")


@dataclass(frozen=True, slots=True)
class ListCursor:
    """A place in a list. The first one is ``ListCursor()``.

    Attributes:
        pages: how many have been read.
        received: how many elements were in them.
        expected: how many there should be in all, if Azure says so.
        link: path and query of the next page; empty at the beginning, and for queries.
        token: `$skipToken` of the next page of a query.
        restarts: how often the list was read again from its beginning.
        mark: hash of an earlier link, against which later ones are compared; it moves on at powers of two, so that any circle
            is found, whatever its length.
        operation: the operation whose result is awaited, if any.
    """

    pages: int = 0
    received: int = 0
    expected: int | None = None
    link: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    restarts: int = 0
    mark: str = ""
    operation: ArmOperation | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One answer.

    Attributes:
        number: from 0.
        attempt: how often the list had been begun anew before.
        body: JSON as Azure sent it; empty if it sent none.
        elements: how many resources or rows it has; 1 for what is no list.
        waited: seconds, before it arrived.
    """

    number: int
    attempt: int
    status: int
    request_id: str
    body: bytes = field(repr=False)
    elements: int
    waited: float


@dataclass(frozen=True, slots=True)
class PageStep:
    """What one request brought.

    Attributes:
        page: None while an operation runs.
        cursor: the place after it.
        is_last: whether nothing follows.
        after: seconds until the next step makes sense.
    """

    page: Page | None
    cursor: ListCursor
    is_last: bool = False
    after: float = 0.0


class ArmLists:
    """Lists and single resources of a cloud. Thread-safe."""

    def __init__(self, client: ArmClient, most_pages: int = MOST_PAGES) -> None:
        self._client = client
        self._most_pages = most_pages

    def step(self, call: ArmCall, at: ListCursor, share: RoomShare | None = None) -> PageStep:
        """Read the page at a place; if it is large, when `share` has room for it, which the page then has.

        Raises:
            PageExpired: begin anew, at `restarted(at)`; what was read before is void.
            ArmGone, ArmRefused, ArmUnavailable: as `ArmClient.send`.
            ArmIncomplete: the list cannot be read to its end.
        """
        response = self._sent(call, at, share)
        if at.operation is not None or not at.pages:
            operation = operation_after(call, at.operation, response, partial(self._target, call))
            match operation:
                case Running():
                    return PageStep(None, replace(at, operation=operation.operation), after=operation.after)
                case ResultAt():
                    return PageStep(None, replace(at, operation=None, link=operation.target))
                case None:
                    pass
        answer = read_answer(call, response, continues=at.pages > 0)
        page, moved = _page(at, response, answer), _moved(at, answer)
        if answer.next_link is None and answer.skip_token is None:
            return PageStep(page, moved, is_last=True)
        return PageStep(page, self._onward(call, at, moved, answer))

    def pages(self, call: ArmCall) -> Iterator[Page]:
        """Yield all pages of a list. If one has expired, they begin anew, with another `Page.attempt`.

        Raises:
            ArmError: as `step`; also PageExpired, if that happens more than `MOST_RESTARTS` times.
        """
        at, is_last = ListCursor(), False
        while not is_last:
            try:
                step = self.step(call, at)
            except PageExpired:
                at = restarted(at)
                continue
            if step.page is not None:
                yield step.page
            at, is_last = step.cursor, step.is_last
            if self._client.pause(step.after):
                raise ArmUnavailable("closing")

    def _sent(self, call: ArmCall, at: ListCursor, share: RoomShare | None) -> ArmResponse:
        try:
            return self._client.send(replace(_request(call, at), share=share))
        except PageExpired as error:
            if call.reads_only:
                raise
            raise ArmIncomplete(f"{error}; the call is not repeated, because it may change something", error.refusal) from error

    def _target(self, call: ArmCall, link: str) -> str:
        return target_of(link, self._client.endpoint, _place(call))

    def _onward(self, call: ArmCall, at: ListCursor, moved: ListCursor, answer: Answered) -> ListCursor:
        place = _place(call)
        if at.pages + 1 >= self._most_pages:
            raise ArmIncomplete(
                f"{place}: has more than {self._most_pages} pages; divide the call, for example by resource group"
            )
        link = "" if answer.next_link is None else self._target(call, answer.next_link)
        token = answer.skip_token or ""
        mark = blake2b((link or token).encode(), digest_size=8).hexdigest()
        if mark == at.mark or (link or token) in {at.link, at.token} - {""}:
            raise ArmIncomplete(f"{place}: page {at.pages + 2} is one that came before")
        keeps_mark = at.mark and moved.pages & (moved.pages - 1)
        return replace(moved, link=link, token=token, mark=at.mark if keeps_mark else mark)


def restarted(at: ListCursor) -> ListCursor:
    """Return the place at which a list begins anew whose next page has expired.

    Raises:
        PageExpired: if it has happened too often.
    """
    if at.restarts >= MOST_RESTARTS:
        raise PageExpired(f"pages expired {at.restarts + 1} times before the list was read; divide the call")
    return ListCursor(restarts=at.restarts + 1)


def target_of(link: str, endpoint: Endpoint, place: str) -> str:
    """Return path and query of a link that Azure sent, which must lead to the same host.

    Raises:
        ArmIncomplete: if it does not; the link is not quoted.
    """
    elsewhere = f"{place}: the link to what follows does not lead to {endpoint.host}; it is not followed"
    try:
        parts = urlsplit(link)
        found = (parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme))
    except ValueError as error:
        raise ArmIncomplete(elsewhere) from error
    wanted = (endpoint.scheme, endpoint.host.lower(), endpoint.port or _PORTS.get(endpoint.scheme))
    if found != wanted or parts.username is not None or not _VISIBLE.fullmatch(link):
        raise ArmIncomplete(elsewhere)
    path = parts.path or "/"
    return f"{path}?{parts.query}" if parts.query else path


def _request(call: ArmCall, at: ListCursor) -> ArmRequest:
    if at.operation is not None:
        return following_request(call, at.operation.target, continues=False)
    if at.link:
        return following_request(call, at.link, continues=at.pages > 0)
    if at.token:
        return replace(first_request(with_token(call, at.token)), continues=True)
    return first_request(call)


def with_token(call: ArmCall, token: str) -> ArmCall:
    """Return a query of Resource Graph that continues at a token."""
    query = msgspec.json.decode(call.body or b"{}", type=dict[str, msgspec.Raw])
    options = msgspec.json.decode(query.get("options", msgspec.Raw(b"{}")), type=dict[str, msgspec.Raw])
    options["$skipToken"] = msgspec.Raw(msgspec.json.encode(token))
    return replace(call, body=msgspec.json.encode({**query, "options": options}))


def _place(call: ArmCall) -> str:
    return f"{call.method} {call.path[:300]}"


def _page(at: ListCursor, response: ArmResponse, answer: Answered) -> Page:
    return Page(
        number=at.pages,
        attempt=at.restarts,
        status=response.status,
        request_id=request_id(response.headers),
        body=response.body,
        elements=answer.elements,
        waited=response.waited,
    )


def _moved(at: ListCursor, answer: Answered) -> ListCursor:
    expected = at.expected if answer.expected is None else answer.expected
    return replace(at, pages=at.pages + 1, received=at.received + answer.elements, expected=expected)
