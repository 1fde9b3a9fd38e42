"""What the answer to an export means, by the OTLP specification.

======================================  ===========================================================================
answer                                  meaning
======================================  ===========================================================================
200                                     the records are taken, but for those of a partial success
429, 502, 503, 504                      retryable: sent again, after ``Retry-After``
413                                     the request is too large: halved
401, 403, 404 and other addresses,      the operator has to change something: said, and sent again meanwhile
rights and encodings; redirects
400, 500 and all others                 not retryable: the request is halved, down to the records that are at fault
======================================  ===========================================================================

The OpenTelemetry Collector answers 500 when one of its components refuses data for good.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsPartialSuccess, ExportLogsServiceResponse

from libs.common.errors import Retry
from libs.common.http.client import Answer
from libs.common.messages.dead_letters import ErrorCode
from libs.common.security.redaction import excerpt
from services.sinks.frame.delivery import BodyAccepted, BodyRefused, Reply

_SHOWN: Final = 200
_PAUSE: Final = 1.0
_LONGER_PAUSE: Final = 10.0  # people take longer than servers
_RETRYABLE: Final = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
        HTTPStatus.REQUEST_TIMEOUT,  # of the connection, not of the records
    }
)
_ADDRESS: Final = "check hosts and path; is this an OTLP/HTTP receiver?"
_ADVICE: Final[Mapping[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "it denies the sign-in",
    HTTPStatus.FORBIDDEN: "it denies the right to write",
    HTTPStatus.NOT_FOUND: _ADDRESS,
    HTTPStatus.METHOD_NOT_ALLOWED: _ADDRESS,
    HTTPStatus.NOT_ACCEPTABLE: _ADDRESS,
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED: "a proxy is in the way",
    HTTPStatus.GONE: _ADDRESS,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "it does not take protobuf with this compression; set compression: none",
    HTTPStatus.NOT_IMPLEMENTED: _ADDRESS,
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: _ADDRESS,
}


def reply_of(answer: Answer) -> Reply:
    """Return what an answer says about a request.

    Raises:
        Retry: if it says nothing about its content or size.
    """
    status = answer.status
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return _accepted(answer)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return BodyRefused("the receiver does not take requests of this size (status 413)", ErrorCode.TOO_LARGE)
    kind = f"status_{status}"
    if status in _RETRYABLE:
        raise Retry(_said(answer), after=answer.retry_after or _PAUSE, kind=kind)
    is_redirect = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
    advice = _ADDRESS if is_redirect else _ADVICE.get(status)
    if advice is not None:
        raise Retry(_said(answer, advice), after=answer.retry_after or _LONGER_PAUSE, kind=kind)
    return BodyRefused(_said(answer))


def _accepted(answer: Answer) -> BodyAccepted:
    """Read a success, which may be partial: in protobuf or, against the specification, in JSON."""
    try:
        rejected, reason = _partial(answer.body)
    except (DecodeError, ValueError, AttributeError, TypeError) as error:
        text = f"the receiver's answer is not one of OTLP: {_ADDRESS}: {excerpt(answer.body, _SHOWN)}"
        raise Retry(text, after=_LONGER_PAUSE, kind="no_otlp") from error
    if rejected <= 0:
        return BodyAccepted()
    return BodyAccepted(rejected, f"rejected by the receiver: {excerpt(reason, _SHOWN) or 'it does not say why'}")


def _partial(body: bytes) -> tuple[int, str]:
    if body.lstrip().startswith(b"{"):
        answer = json.loads(body)
        if set(answer) - {"partialSuccess"}:
            raise ValueError("another kind of answer")
        said = answer.get("partialSuccess") or {}
        return int(said.get("rejectedLogRecords") or 0), str(said.get("errorMessage") or "")
    success = ExportLogsServiceResponse.FromString(body).partial_success
    return success.rejected_log_records, success.error_message


def _said(answer: Answer, advice: str | None = None) -> str:
    parts = (f"the receiver answered {answer.status}", advice, excerpt(_message(answer.body), _SHOWN))
    return ": ".join(part for part in parts if part)


def _message(body: bytes) -> bytes | str:
    """Return the text of an error: of a ``google.rpc.Status``, or whatever a proxy says."""
    try:
        # A status begins like this message: a number and a text.
        return ExportLogsPartialSuccess.FromString(body).error_message or body
    except DecodeError:
        return body
