"""The message that asks for configuration: its schema and how it is read. The format is that of the Azure Cloud Collector.

A message is refused as a whole if it does not have this schema. Whether each of its calls can be made is found out in `items`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from libs.common.errors import BlobtideError
from libs.common.http.method import Method
from libs.common.security.redaction import redact
from libs.common.security.visible import visible_line
from libs.common.settings.collector import Priority

MOST_BYTES: Final = 1_000_000
MOST_CALLS: Final = 1_000
MOST_METADATA: Final = 10_000
MOST_PARAMETERS: Final = 50
MOST_LEVELS: Final = 100  # far from where encoding fails, which depends on who encodes
_LONGEST_REASON: Final = 300


class RequestRefused(BlobtideError):
    """A request, or one of its calls, is not one that can be made; says where it is wrong and what to do."""

    exit_code = 2


class NotJson(RequestRefused):
    """What should be a request is not even JSON."""


_Text = Annotated[str, Meta(max_length=2_000)]
_Value = _Text | int | bool
_Placeholder = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}(?!\n)$")]
_QueryName = Annotated[str, Meta(pattern=r"^[$]?[A-Za-z][A-Za-z0-9_.-]{0,63}(?!\n)$")]
_HeaderName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}(?!\n)$")]


class ApiRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One call of the API of Azure Resource Manager."""

    service: Annotated[
        str,
        Meta(
            pattern=r"^[a-z][a-z0-9_.-]{0,63}(?!\n)$",
            description="What the call is about, such as `compute`, `network`, `storage` or `database`; a label.",
        ),
    ]
    api_version: Annotated[
        str,
        Meta(
            pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(-[a-z]{1,30})?(?!\n)$",
            description="Version of the API of the resource provider, such as `2024-07-01`.",
        ),
    ]
    resource_path: Annotated[
        str,
        Meta(
            min_length=2,
            max_length=2_000,
            description="Path of the resource or list, from `/subscriptions` or `/providers` on, with `{placeholders}`.",
        ),
    ]
    method: Annotated[
        Method, Meta(description="HTTP method; others than GET, apart from queries of Resource Graph, must be permitted.")
    ] = Method.GET
    parameters: Annotated[
        dict[_Placeholder, _Text | int],
        Meta(
            max_length=MOST_PARAMETERS,
            description="Values of the placeholders. A value is one segment of the path, or a part of one, and is escaped.",
        ),
    ] = {}
    query_params: Annotated[
        dict[_QueryName, _Value],
        Meta(max_length=MOST_PARAMETERS, description="Further parameters of the query, such as `$filter`."),
    ] = {}
    headers: Annotated[
        dict[_HeaderName, _Text],
        Meta(max_length=MOST_PARAMETERS, description="Headers: `Accept-Language`, `If-Match`, `Prefer`, or `x-ms-...`."),
    ] = {}
    body: Annotated[Any, Meta(description="JSON body of a POST or PUT.")] = None


class CollectionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A request for configuration: one message."""

    message_id: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}(?!\n)$",
            description="Identifies the request, for example a UUID. A request whose id has been seen is not repeated.",
        ),
    ]
    api_requests: Annotated[
        list[ApiRequest],
        Meta(min_length=1, max_length=MOST_CALLS, description="The calls; results name them by number, from 0."),
    ]
    correlation_id: Annotated[
        Annotated[str, Meta(max_length=256)] | None, Meta(description="Your own id, which results repeat.")
    ] = None
    timestamp: Annotated[datetime | None, Meta(description="When the request was made, ISO 8601; UTC if it has no offset.")] = (
        None
    )
    metadata: Annotated[dict[str, Any], Meta(description="Anything that results should repeat, up to 10,000 bytes.")] = {}
    priority: Annotated[Priority, Meta(description="Which requests go first; `high` overtakes those that wait already.")] = (
        Priority.NORMAL
    )

    @property
    def time(self) -> datetime | None:
        """When the request was made, with a time zone."""
        if self.timestamp is None or self.timestamp.tzinfo is not None:
            return self.timestamp
        return self.timestamp.replace(tzinfo=UTC)


_decoder: Final = msgspec.json.Decoder(CollectionRequest)
_encoder: Final = msgspec.json.Encoder()


def read_request(data: bytes) -> CollectionRequest:
    """Return the request in a message.

    Raises:
        RequestRefused: if it is no JSON (`NotJson`), larger than `MOST_BYTES`, nested deeper than `MOST_LEVELS`, or not as the
            schema says; the reason quotes no values.
    """
    if len(data) > MOST_BYTES:
        raise RequestRefused(f"a request of {len(data)} bytes is too large; divide it into several of at most {MOST_BYTES}")
    try:
        request = _decoder.decode(data)
    except msgspec.ValidationError as error:
        raise RequestRefused(f"not a request: {reason_of(error)}") from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise NotJson(f"not JSON: {reason_of(error)}") from error
    _check_levels("metadata", request.metadata)
    for index, call in enumerate(request.api_requests):
        _check_levels(f"api_requests[{index}].body", call.body)
    _check_time(request)
    if request.metadata and len(_encoder.encode(request.metadata)) > MOST_METADATA:
        raise RequestRefused(f"metadata: has more than {MOST_METADATA} bytes, and every result repeats it; shorten it")
    return request


def _check_levels(name: str, value: Any) -> None:
    level = [value]
    for _ in range(MOST_LEVELS + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise RequestRefused(f"{name}: is nested more than {MOST_LEVELS} levels deep; make it flatter")


def _inside(value: Any) -> Iterator[Any]:
    """Yield the objects and lists in an object or a list."""
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (inner for inner in values if isinstance(inner, dict | list))


def _check_time(request: CollectionRequest) -> None:
    try:
        if request.time is not None:
            request.time.astimezone(UTC)
    except OverflowError as error:
        raise RequestRefused("timestamp: is not within the years 1 to 9999 in UTC; correct it") from error


def write_request(request: CollectionRequest) -> bytes:
    """Return the message of a request, without what is default."""
    return _encoder.encode(request)


def request_schema() -> dict[str, Any]:
    """Return the JSON Schema of a message."""
    schema = msgspec.json.schema(CollectionRequest)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def reason_of(error: Exception) -> str:
    """Return what a decoder says as one line, with the place as the sender would write it."""
    said = str(error).replace(" in `$.", " in `").replace(" - at `$.", " - at `").replace(" - at `$", " - at `the message")
    return visible_line(redact(said))[:_LONGEST_REASON]
