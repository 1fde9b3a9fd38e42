"""Rows of type `results`: the answers to a call, and its end. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from libs.common.azure.arm.api import ArmError
from libs.common.azure.arm.pages import Page
from libs.common.errors import BlobtideError
from libs.common.grouping import groups_within
from services.collector.backlog import PendingCall, PendingRequest
from services.collector.requests.items import RefusedItem
from services.collector.requests.schema import ApiRequest, CollectionRequest

SUCCESS: Final = "success"
PARTIAL: Final = "partial_failure"
ERROR: Final = "error"

Row = dict[str, Any]


class AnswerTooLarge(BlobtideError):
    """One resource in an answer is too large for a message."""


@dataclass(frozen=True, slots=True)
class CallProblem:
    """Why a call has no answers, or not all of them: one element of the column `errors`."""

    code: str
    message: str
    status: int | None = None
    request_id: str | None = None


def problem_of(error: Exception) -> CallProblem:
    """Return what rows say about an error."""
    refusal = error.refusal if isinstance(error, ArmError) else None
    if refusal is None:
        return CallProblem(type(error).__name__, str(error))
    return CallProblem(refusal.code or type(error).__name__, str(error), refusal.status, refusal.request_id or None)


def answer_rows(call: PendingCall, page: Page, now_ms: int, most: int) -> list[Row]:
    """Return the rows of an answer: one, or as many as needed for none to have more than `most` bytes of data.

    Raises:
        AnswerTooLarge: if a single resource has more.
    """
    known = _of_call(call) | {"time": now_ms, "kind": "answer", "status": SUCCESS}
    answer = {
        "http_status": page.status,
        "azure_request_id": page.request_id or None,
        "waited_ms": round(1000 * page.waited),
        "answer_number": page.number,
    }
    return [
        known | answer | {"data": data, "elements": elements, "part": part}
        for part, (data, elements) in enumerate(_parts(page, most))
    ]


def end_row(call: PendingCall, problem: CallProblem | None, now_ms: int) -> Row:
    """Return the row that says how a call ended."""
    cursor = call.cursor
    if problem is None and cursor.expected is not None and cursor.expected != cursor.received:
        problem = CallProblem(
            "Incomplete", f"received {cursor.received} of {cursor.expected} rows; the estate changed meanwhile"
        )
    failed = PARTIAL if cursor.pages else ERROR
    return _of_call(call) | {
        "time": now_ms,
        "kind": "end",
        "status": SUCCESS if problem is None else failed,
        "errors": None if problem is None else _errors(problem),
        "pages": cursor.pages,
        "received": cursor.received,
        "expected": cursor.expected,
        "waited_ms": round(1000 * call.waited),
        "answer_number": cursor.pages,
        "part": 0,
    }


def refused_row(pending: PendingRequest, item: RefusedItem, now_ms: int) -> Row:
    """Return the row of a call that cannot be made."""
    api_request = pending.request.api_requests[item.index]
    return _of_request(pending.request, item.index, api_request) | {
        "time": now_ms,
        "kind": "end",
        "status": ERROR,
        "errors": _errors(CallProblem("InvalidRequest", item.reason)),
        "pages": 0,
        "received": 0,
        "waited_ms": 0,
        "attempt": 0,
        "generation": "refused.0",
        "answer_number": 0,
        "part": 0,
    }


def _of_call(call: PendingCall) -> Row:
    request, item = call.pending.request, call.item
    return _of_request(request, item.index, request.api_requests[item.index]) | {
        "path": item.call.path,
        "attempt": call.cursor.restarts,
        "generation": f"{item.id}.{call.cursor.restarts}",
    }


def _of_request(request: CollectionRequest, index: int, api_request: ApiRequest) -> Row:
    return {
        "message_id": request.message_id,
        "correlation_id": request.correlation_id,
        "request_index": index,
        "service": api_request.service,
        "method": api_request.method.value,
        "api_version": api_request.api_version,
        "requested_at": request.time,
        "metadata": msgspec.json.encode(request.metadata).decode() if request.metadata else None,
        "source": f"{request.message_id}/{index}",
    }


def _errors(problem: CallProblem) -> str:
    members = {"code": problem.code, "status": problem.status, "message": problem.message, "request_id": problem.request_id}
    return msgspec.json.encode([{name: value for name, value in members.items() if value is not None}]).decode()


def _parts(page: Page, most: int) -> Iterator[tuple[str | None, int]]:
    """Yield the data of each row of an answer, with the number of its elements."""
    if len(page.body) <= most:
        yield page.body.decode() or None, page.elements
        return
    body = msgspec.json.decode(page.body, type=list[msgspec.Raw] | dict[str, msgspec.Raw])
    name = "" if isinstance(body, list) else next((name for name in ("value", "data") if name in body), "")
    elements = body if isinstance(body, list) else _elements(body, name)
    first = dict(body) if isinstance(body, dict) else {}
    for group in _groups(elements, most):
        whole: object = {**first, name: group} if name else group
        yield msgspec.json.encode(whole).decode(), len(group)
        first = {}


def _elements(body: Mapping[str, msgspec.Raw], name: str) -> list[msgspec.Raw]:
    if not name or not bytes(body[name]).startswith(b"["):
        raise AnswerTooLarge(f"the answer has {sum(map(len, map(bytes, body.values())))} bytes, more than a message takes")
    return msgspec.json.decode(body[name], type=list[msgspec.Raw])


def _groups(elements: list[msgspec.Raw], most: int) -> Iterator[list[msgspec.Raw]]:
    """Divide elements into groups of at most `most` bytes."""
    largest = max((_taken(element) for element in elements), default=0)
    if largest > most:
        raise AnswerTooLarge(f"a resource of {largest} bytes is larger than a message")
    return groups_within(elements, _taken, most)


def _taken(element: msgspec.Raw) -> int:
    return len(bytes(element)) + 1  # with the comma
