"""What the answer to a request means.

======================================  ===========================================================================
status                                  meaning
======================================  ===========================================================================
2xx                                     the body is taken
`repeat_status`                         the receiver has taken a body with this key before
413                                     the body is too large: halved
400, 422                                the receiver refuses the content: halved, down to the rows that are at fault
408, 409, 425, 429, 5xx                 the receiver cannot take it now: sent again, after ``Retry-After``
all others                              the operator has to change something: said, and sent again meanwhile
======================================  ===========================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from libs.common.errors import Retry
from libs.common.http.client import Answer
from libs.common.messages.dead_letters import ErrorCode
from libs.common.security.redaction import excerpt
from services.sinks.frame.delivery import BodyAccepted, BodyRefused, Reply

_SHOWN: Final = 200
_PAUSE: Final = 1.0
_LONGER_PAUSE: Final = 10.0  # people take longer than servers
_ABOUT_CONTENT: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY})
_PASSING: Final = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
)
_ADVICE: Final[Mapping[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "it denies the sign-in",
    HTTPStatus.FORBIDDEN: "it denies the right to write",
    HTTPStatus.NOT_FOUND: "check hosts and path",
    HTTPStatus.METHOD_NOT_ALLOWED: "check path and method",
    HTTPStatus.NOT_ACCEPTABLE: "check format and layout",
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED: "a proxy is in the way",
    HTTPStatus.GONE: "check hosts and path",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "check format and layout, or set compression: none",
}
_REDIRECT: Final = "redirects are followed within the same host only: give the address that it refers to under hosts and path"


def reply_of(answer: Answer, repeat_status: int | None = None) -> Reply:
    """Return what an answer says about a body.

    Raises:
        Retry: if it says nothing about its content or size.
    """
    status = answer.status
    if status == repeat_status:
        return BodyAccepted(already_there=True)
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return BodyAccepted()
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return BodyRefused("the receiver does not take requests of this size (status 413)", ErrorCode.TOO_LARGE)
    if status in _ABOUT_CONTENT:
        return BodyRefused(_said(answer))
    kind = f"status_{status}"
    if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Retry(_said(answer), after=answer.retry_after or _PAUSE, kind=kind)
    is_redirect = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
    advice = _REDIRECT if is_redirect else _ADVICE.get(status)
    raise Retry(_said(answer, advice), after=answer.retry_after or _LONGER_PAUSE, kind=kind)


def _said(answer: Answer, advice: str | None = None) -> str:
    parts = (f"the receiver answered {answer.status}", advice, excerpt(answer.body, _SHOWN))
    return ": ".join(part for part in parts if part)
