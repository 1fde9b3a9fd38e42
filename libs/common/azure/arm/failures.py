"""Translate refusals of Azure Resource Manager: the only place where status and codes become errors of `arm.api`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from libs.common.azure.arm.api import ArmError, ArmGone, ArmRefusal, ArmRefused, PageExpired
from libs.common.azure.host import HostResponse
from libs.common.azure.retry import Transient
from libs.common.http.retry_after import retry_after_seconds
from libs.common.security.redaction import excerpt
from libs.common.security.visible import visible_line

_GONE: Final = 410
_NOT_FOUND: Final = 404
_REDIRECTS: Final = range(300, 400)
_RETRIED: Final = frozenset({408, 409, 429, 500, 502, 503, 504})
THROTTLED: Final = frozenset({429, 503})
_LONGEST_RETRY_AFTER: Final = 3_600.0
_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,80}")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9:._-]{1,120}")
# A conflict or absence that no repetition ends.
_NEVER: Final = frozenset(
    {"NoRegisteredProviderFound", "MissingSubscriptionRegistration", "InvalidResourceType", "InvalidResourceNamespace"}
)
_EXPIRED: Final = re.compile(r"(?i)expired|(?:skip|page|paging|pagination|continuation|next).*(?:token|link)")
_ADVICE: Final = {
    "AuthorizationFailed": "grant the identity the role Reader on the scope",
    "InvalidAuthenticationTokenTenant": "the subscription belongs to another tenant than the identity",
    "NoRegisteredProviderFound": "correct api_version or the type in resource_path",
    "InvalidResourceType": "correct api_version or the type in resource_path",
    "MissingSubscriptionRegistration": "register the resource provider in the subscription",
}


class _Said(msgspec.Struct):
    code: object = ""
    message: object = ""


class _ErrorBody(msgspec.Struct):
    error: _Said | None = None
    code: object = ""
    message: object = ""


_error_body: Final = msgspec.json.Decoder(_ErrorBody)


def arm_failure(what: str, response: HostResponse, *, continues: bool) -> ArmError | Transient:
    """Return the exception for a response that is no success.

    `what` names the call. `continues` says that it asked for a further page, whose link may have expired.
    """
    refusal = refusal_of(response)
    advice = _ADVICE.get(refusal.code)
    said = f"{what}: Azure answers {refusal}" + (f"; {advice}" if advice else "")
    status = response.status
    if continues and (status == _GONE or (status in {400, _NOT_FOUND} and _EXPIRED.search(refusal.code))):
        return PageExpired(said, refusal)
    if refusal.code in _NEVER:
        return ArmRefused(said, refusal)
    if status == _NOT_FOUND:
        return ArmGone(said, refusal)
    if status in _RETRIED:
        return Transient(said, after=retry_after(response.headers))
    if status in _REDIRECTS:
        return ArmRefused(f"{said}; redirects are not followed", refusal)
    return ArmRefused(said, refusal)


def refusal_of(response: HostResponse) -> ArmRefusal:
    """Return what a response says, as far as it can be shown."""
    try:
        body = _error_body.decode(response.body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        body = _ErrorBody()
    said = body.error or _Said(body.code, body.message)
    code = said.code if isinstance(said.code, str) and _CODE.fullmatch(said.code) else ""
    message = visible_line(excerpt(said.message)) if isinstance(said.message, str) else ""
    return ArmRefusal(response.status, code, message, request_id(response.headers))


def request_id(headers: Mapping[str, str]) -> str:
    """Return Microsoft's name of an exchange, or an empty string."""
    found = headers.get("x-ms-request-id", "")
    return found if _REQUEST_ID.fullmatch(found) else ""


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds of a ``Retry-After``, whether it is a number or a date; None if there is none that makes sense."""
    text = headers.get("Retry-After", "")
    if (seconds := retry_after_seconds(text, _LONGEST_RETRY_AFTER)) is not None:
        return seconds
    try:
        at = parsedate_to_datetime(text.strip())
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    left = (at - (now or datetime.now(UTC))).total_seconds()
    return min(max(0.0, left), _LONGEST_RETRY_AFTER)
