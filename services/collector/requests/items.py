"""The calls of a request as items of work, each of which succeeds or fails by itself."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from libs.common.azure.arm.api import ArmCall
from libs.common.http.method import Method
from services.collector.requests.placeholders import filled
from services.collector.requests.schema import ApiRequest, CollectionRequest, RequestRefused

_VERSION: Final = "api-version"
_HEADERS: Final = frozenset({"accept-language", "if-match", "prefer"})
_AZURE_HEADER: Final = re.compile(r"x-ms-(?!authorization)[a-z0-9-]{1,60}")
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_WITH_BODY: Final = frozenset({Method.POST, Method.PUT})


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One call of a request.

    Attributes:
        id: 32 hex digits that follow from the request's id, the number and the call: the same whenever the request is read.
        index: number of the call in its request, from 0.
    """

    id: str
    index: int
    call: ArmCall


@dataclass(frozen=True, slots=True)
class RefusedItem:
    """A call that cannot be made, and why."""

    index: int
    reason: str


def work_items(request: CollectionRequest, permitted: frozenset[Method] = frozenset()) -> Iterator[WorkItem | RefusedItem]:
    """Yield an item for each call of `request`, in order.

    `permitted` are the methods besides GET that may be used for anything; queries of Resource Graph only read, and need none.
    """
    for index, api_request in enumerate(request.api_requests):
        try:
            call = arm_call(api_request, permitted)
        except RequestRefused as error:
            yield RefusedItem(index, f"api_requests[{index}].{error}")
        else:
            yield WorkItem(_id(request.message_id, index, call), index, call)


def check_calls(request: CollectionRequest, permitted: frozenset[Method] = frozenset()) -> None:
    """Raise `RequestRefused` if one of the calls of `request` cannot be made."""
    for item in work_items(request, permitted):
        if isinstance(item, RefusedItem):
            raise RequestRefused(item.reason)


def arm_call(api_request: ApiRequest, permitted: frozenset[Method] = frozenset()) -> ArmCall:
    """Return the call that is asked for.

    Raises:
        RequestRefused: if it cannot be made; the reason begins with the name of the member that is wrong.
    """
    call = ArmCall(
        api_request.method,
        filled(api_request.resource_path, api_request.parameters),
        tuple(_query(api_request)),
        tuple(_headers(api_request)),
        _body(api_request),
    )
    if not call.reads_only and api_request.method not in permitted:
        raise RequestRefused(
            f"method: {call.method} is not permitted; only GET is, and queries of Resource Graph by POST, unless the settings "
            "of the collector allow more"
        )
    return call


def _query(api_request: ApiRequest) -> Iterator[tuple[str, str]]:
    yield _VERSION, api_request.api_version
    for name, value in api_request.query_params.items():
        if name.lower() == _VERSION:
            if value != api_request.api_version:
                raise RequestRefused("query_params.api-version: differs from api_version; leave it out")
        else:
            yield name, str(value).lower() if isinstance(value, bool) else str(value)


def _headers(api_request: ApiRequest) -> Iterator[tuple[str, str]]:
    for name, value in api_request.headers.items():
        lower = name.lower()
        if lower not in _HEADERS and not _AZURE_HEADER.fullmatch(lower):
            raise RequestRefused("headers: only Accept-Language, If-Match, Prefer and x-ms-... may be given; remove the others")
        if not _HEADER_VALUE.fullmatch(value):
            raise RequestRefused(f"headers.{lower}: must be printable ASCII without spaces around it")
        yield lower, value


def _body(api_request: ApiRequest) -> bytes | None:
    if api_request.body is None:
        return None
    if api_request.method not in _WITH_BODY:
        raise RequestRefused(f"body: a {api_request.method.value} has none; remove it, or use POST or PUT")
    return msgspec.json.encode(api_request.body)


def _id(message_id: str, index: int, call: ArmCall) -> str:
    what = msgspec.json.encode((message_id, index, call.method, call.path, call.query, call.headers, call.body))
    return hashlib.blake2b(what, digest_size=16).hexdigest()
