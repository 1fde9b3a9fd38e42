"""The OpenAPI document of the API, from the schemas of what it takes and answers."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final

import msgspec

from libs.common.http.server.messages import PROBLEM_TYPE, HttpProblem
from services.collector.api.answers import AcceptedRequest, CollectionProgress
from services.collector.requests.schema import CollectionRequest

_JSON: Final = "application/json"
_REFERENCE: Final = "#/components/schemas/{name}"
_TOKEN: Final = "token"  # noqa: S105 - the name of the way to sign in
_RETRY: Final = {"Retry-After": {"description": "Seconds after which to ask again.", "schema": {"type": "integer"}}}
_LOCATION: Final = {
    "Location": {"description": "Where its progress is.", "schema": {"type": "string", "format": "uri-reference"}}
}
_CHALLENGE: Final = {"WWW-Authenticate": {"description": "How to sign in: `Bearer`.", "schema": {"type": "string"}}}

_PROBLEMS: Final[dict[HTTPStatus, tuple[str, dict[str, Any]]]] = {
    HTTPStatus.BAD_REQUEST: ("The body is not JSON.", {}),
    HTTPStatus.UNAUTHORIZED: ("There is no token, or a wrong one.", _CHALLENGE),
    HTTPStatus.NOT_FOUND: ("There is no such request, or it is no longer remembered.", {}),
    HTTPStatus.REQUEST_TIMEOUT: ("The request did not arrive in time.", {}),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("The body has more than 1,000,000 bytes.", {}),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ("The body is not said to be JSON, or is compressed.", {}),
    HTTPStatus.UNPROCESSABLE_ENTITY: (
        "The body is no request, or one of its calls cannot be made; `detail` names the member.",
        {},
    ),
    HTTPStatus.TOO_MANY_REQUESTS: ("There are too many requests at once.", _RETRY),
    HTTPStatus.INTERNAL_SERVER_ERROR: ("Kafka refuses, for example because of missing rights; `detail` says why.", {}),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Kafka does not answer, or there are too many connections. Repeat the request.", _RETRY),
}
_OF_EITHER: Final = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_OF_BODIES: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)


def openapi() -> dict[str, Any]:
    """Return the document."""
    shown = (CollectionRequest, AcceptedRequest, CollectionProgress, HttpProblem)
    (request, accepted, progress, _), schemas = msgspec.json.schema_components(shown, ref_template=_REFERENCE)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "blobtide collector",
            "version": "1",
            "description": "Takes requests for the configuration of Azure resources, and says how far they have come.",
        },
        "paths": {
            "/collections": {"post": _collect(request, accepted)},
            "/collections/{id}": {"get": _progress(progress)},
            "/openapi.json": {"get": _document()},
        },
        "components": {"schemas": schemas, "securitySchemes": {_TOKEN: {"type": "http", "scheme": "bearer"}}},
        "security": [{_TOKEN: []}],
    }


def openapi_document() -> bytes:
    """Return the document as it is served."""
    return json.dumps(openapi(), indent=2).encode() + b"\n"


def _collect(request: dict[str, Any], accepted: dict[str, Any]) -> dict[str, Any]:
    headers = _LOCATION | _RETRY
    return {
        "operationId": "collect",
        "summary": "Send a request.",
        "description": "It is accepted when Kafka has acknowledged it. An id that is known does nothing, so a request "
        "may be sent again whenever its answer was lost.",
        "requestBody": {"required": True, "content": {_JSON: {"schema": request}}},
        "responses": {
            "200": _answer("A request with this id is known; nothing was done.", accepted, headers),
            "202": _answer("The request is accepted.", accepted, headers),
            **_problems(*_OF_BODIES, *_OF_EITHER),
        },
    }


def _progress(progress: dict[str, Any]) -> dict[str, Any]:
    place = {"name": "id", "in": "path", "required": True, "description": "The `message_id`.", "schema": {"type": "string"}}
    return {
        "operationId": "progress",
        "summary": "Ask how far a request has come.",
        "description": "Any collector answers for all requests, however they were sent.",
        "parameters": [place],
        "responses": {"200": _answer("How far it has come.", progress), **_problems(HTTPStatus.NOT_FOUND, *_OF_EITHER)},
    }


def _document() -> dict[str, Any]:
    return {
        "operationId": "document",
        "summary": "Get this document.",
        "security": [],
        "responses": {"200": _answer("This document.", {"type": "object"})},
    }


def _answer(description: str, schema: dict[str, Any], headers: dict[str, Any] | None = None) -> dict[str, Any]:
    said = {"description": description, "content": {_JSON: {"schema": schema}}}
    return said | ({"headers": headers} if headers else {})


def _problems(*statuses: HTTPStatus) -> dict[str, Any]:
    return {str(status.value): _problem(status) for status in sorted(statuses)}


def _problem(status: HTTPStatus) -> dict[str, Any]:
    description, headers = _PROBLEMS[status]
    said = {"description": description, "content": {PROBLEM_TYPE: {"schema": {"$ref": _REFERENCE.format(name="HttpProblem")}}}}
    return said | ({"headers": headers} if headers else {})
