"""What a server is asked and what it answers. Pure. Errors are answered as problems (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Protocol

import msgspec

PROBLEM_TYPE: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request without its body.

    Attributes:
        path: as the client wrote it, percent-encoded, without the query.
        headers: by name in lower case. If one comes twice, the first.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer with a body. `headers` are those besides its type and length."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpSite(Protocol):
    """What a server serves. Called in the server's thread, which must not be held up."""

    def refusal(self, head: RequestHead) -> HttpAnswer | None:
        """Return the answer to a request whose body need not be read, or None."""

    async def answer(self, head: RequestHead, body: bytes) -> HttpAnswer:
        """Answer a request."""

    def answered(self, head: RequestHead | None, status: int) -> None:
        """Note that a request was answered; without a head, if it could not be read."""


class HttpProblem(msgspec.Struct, frozen=True):
    """An error as it is answered."""

    title: str
    status: int
    detail: str


def problem(status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> HttpAnswer:
    """Return the answer that says what is wrong, and in `detail` what to do."""
    body = msgspec.json.encode(HttpProblem(status.phrase, status, detail))
    return HttpAnswer(status, body, PROBLEM_TYPE, headers or {})
