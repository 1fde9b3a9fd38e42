"""Rows of type `results`: the answers to a call, and its end. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from libs.common.azure.arm.api import ArmError
from libs.common.azure.arm.pages import ListCursor, Page
from libs.common.errors import BlobtideError
from libs.common.grouping import groups_within
from services.collector.backlog import PendingCall, PendingRequest
from services.collector.progress import CallOutcome, CallProblem
from services.collector.requests.items import RefusedItem
from services.collector.requests.schema import ApiRequest, CollectionRequest

SUCCESS: Final = "success"
PARTIAL: Final = "partial_failure"
ERROR: Final = "error"

Row = dict[str, Any]


class AnswerTooLarge(BlobtideError):
    """One resource in an answer is too large for a message."""


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


def outcome_of(cursor: ListCursor, problem: CallProblem | None) -> CallOutcome:
    """Return how a call ended whose last page is before `cursor`."""
    if problem is None and cursor.expected is not None and cursor.expected != cursor.received:
        problem = CallProblem(
            "Incomplete", f"received {cursor.received} of {cursor.expected} rows; the estate changed meanwhile"
        )
    failed = PARTIAL if cursor.pages else ERROR
    return CallOutcome(SUCCESS if problem is None else failed, cursor.pages, cursor.received, cursor.expected, problem)


def refused_outcome(item: RefusedItem) -> CallOutcome:
    """Return how a call ends that cannot be made."""
    return CallOutcome(ERROR, problem=CallProblem("InvalidRequest", item.reason))


def end_row(call: PendingCall, outcome: CallOutcome, now_ms: int) -> Row:
    """Return the row that says how a call ended."""
    waited = {"waited_ms": round(1000 * call.waited), "answer_number": outcome.pages}
    return _of_call(call) | _of_end(outcome, now_ms) | waited


def refused_row(pending: PendingRequest, index: int, outcome: CallOutcome, now_ms: int) -> Row:
    """Return the row of a call that cannot be made."""
    row = _of_request(pending.request, index, pending.request.api_requests[index]) | _of_end(outcome, now_ms)
    return row | {"waited_ms": 0, "attempt": 0, "generation": "refused.0", "answer_number": 0}


def _of_end(outcome: CallOutcome, now_ms: int) -> Row:
    return {
        "time": now_ms,
        "kind": "end",
        "status": outcome.status,
        "errors": None if outcome.problem is None else msgspec.json.encode([outcome.problem]).decode(),
        "pages": outcome.pages,
        "received": outcome.received,
        "expected": outcome.expected,
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
