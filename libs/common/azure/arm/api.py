"""What is asked of Azure Resource Manager, and what it answers: values and errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from libs.common.errors import BlobtideError
from libs.common.http.method import Method

GRAPH_PATH: Final = "/providers/microsoft.resourcegraph/resources"
"""Queries are sent here with POST, although they only read."""


@dataclass(frozen=True, slots=True)
class ArmCall:
    """One call: a list or a resource.

    Attributes:
        path: from ``/subscriptions`` or ``/providers`` on, percent-encoded.
        query: names and values, plain; with ``api-version``.
        headers: additional ones, which the caller has checked.
        body: JSON.
    """

    method: Method
    path: str
    query: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = field(default=None, repr=False)

    @property
    def is_graph_query(self) -> bool:
        """Whether it is a query of Azure Resource Graph, which has pages and limits of its own."""
        return self.method == Method.POST and self.path.lower() == GRAPH_PATH

    @property
    def reads_only(self) -> bool:
        """Whether it changes nothing."""
        return self.method == Method.GET or self.is_graph_query


@dataclass(frozen=True, slots=True)
class ArmResponse:
    """A response with a status of success. Names of headers are looked up regardless of case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    waited: float = 0.0  # seconds, before the attempt that succeeded


@dataclass(frozen=True, slots=True)
class ArmRefusal:
    """A response that says no.

    Attributes:
        status: HTTP status.
        code: Azure's code, such as ``AuthorizationFailed``; empty if there is none.
        message: what Azure says, one line, redacted; empty if it says nothing.
        request_id: Microsoft's name of the exchange.
    """

    status: int
    code: str
    message: str
    request_id: str

    def __str__(self) -> str:
        """Return it as a phrase."""
        said = f"{self.status} {self.code}".strip()
        text = f"{said}: {self.message}" if self.message else said
        return f"{text} (request {self.request_id})" if self.request_id else text


class ArmError(BlobtideError):
    """Azure Resource Manager did not answer with success; `refusal` is its response, if there was one."""

    def __init__(self, reason: str, refusal: ArmRefusal | None = None) -> None:
        super().__init__(reason)
        self.refusal = refusal


class ArmGone(ArmError):
    """404: there is no such resource, or no longer."""


class ArmRefused(ArmError):
    """Azure does not permit the call, or does not understand it; repeating it changes nothing."""


class ArmIncomplete(ArmError):
    """A list cannot be read to its end: pages repeat, are too many, or lead to another host."""


class ArmUnavailable(ArmError):
    """Azure does not answer, or answers with 429 or 5xx: repeat the call after `after` seconds."""

    def __init__(self, reason: str, refusal: ArmRefusal | None = None, *, after: float = 1.0) -> None:
        super().__init__(reason, refusal)
        self.after = after


class PageExpired(ArmError):
    """The link to the next page is no longer valid: read the list again, from its first page."""
