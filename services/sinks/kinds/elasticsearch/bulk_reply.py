"""What a cluster's response to ``_bulk`` with ``create`` means, item by item.

===========================  =======================================================================
status of an item            meaning
===========================  =======================================================================
2xx                          written
409                          a document with this id exists: written before
413                          the document exceeds a limit: permanently refused
400                          refused if the error is the document's own (`bulk_faults`); retried if it is
                             the cluster's or the operator's; unclear if its kind is unknown
429, 5xx and all others      the cluster cannot accept it now: retried
===========================  =======================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Final

import msgspec

from libs.common.errors import CodecError
from libs.common.messages.dead_letters import ErrorCode
from services.sinks.kinds.elasticsearch.bulk_faults import ClusterError, Fault

# Reduces a response to about 30 bytes per document instead of 250.
FILTER_PATH: Final = "errors,items.*.status,items.*.error.type,items.*.error.reason"


class DocumentResult(Enum):
    """The result of writing one document."""

    WRITTEN = "written"
    ALREADY_THERE = "already there"
    REFUSED = "refused"
    UNCLEAR = "unclear"  # refused; only the results of other documents show whether it is the document's fault
    AGAIN = "again"


@dataclass(frozen=True, slots=True)
class ItemResult:
    """The verdict on one document.

    `reason` says why it was refused or must be sent again, without quoting its content; `kind` is the error's type, from a
    bounded set.
    """

    verdict: DocumentResult
    code: ErrorCode = ErrorCode.REFUSED
    reason: str = ""
    kind: str = ""


class _Error(msgspec.Struct, gc=False):
    type: str = ""
    reason: str | None = None


class _ItemResult(msgspec.Struct, gc=False):
    status: int
    error: _Error | None = None


class _Item(msgspec.Struct, gc=False):
    create: _ItemResult


class _Reply(msgspec.Struct, gc=False):
    errors: bool
    items: list[_Item] = []


class _Failure(msgspec.Struct, gc=False):
    error: _Error


_failures = msgspec.json.Decoder(_Failure)
_decoder = msgspec.json.Decoder(_Reply)
_WRITTEN = ItemResult(DocumentResult.WRITTEN)
_ALREADY_THERE = ItemResult(DocumentResult.ALREADY_THERE)
_BY_FAULT: Final = {
    Fault.DOCUMENT: DocumentResult.REFUSED,
    Fault.CLUSTER: DocumentResult.AGAIN,
    Fault.UNKNOWN: DocumentResult.UNCLEAR,
}


def read_reply(body: bytes, documents: int) -> list[ItemResult]:
    """Return the result of each of `documents` documents, in order.

    Raises:
        CodecError: if the response is truncated, is not from ``_bulk``, or has the wrong number of items.
    """
    try:
        reply = _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise CodecError(f"not a response to _bulk: {type(error).__name__}") from error
    if len(reply.items) != documents:
        raise CodecError(f"a response to _bulk for {len(reply.items)} documents instead of {documents}")
    if not reply.errors:
        return [_WRITTEN] * documents
    return [_result(item.create) for item in reply.items]


def describe_failure(body: bytes) -> str:
    """Summarise a cluster's response to a request as a whole; empty if the response is not from a cluster."""
    failure = _failure(body)
    return ClusterError.of(failure.type, failure.reason or "").text if failure else ""


def denies_rights(body: bytes) -> bool:
    """Return whether a cluster, rather than a gateway that may be misrouting, says that we lack the right."""
    failure = _failure(body)
    return failure is not None and failure.type == "security_exception"


def _failure(body: bytes) -> _Error | None:
    try:
        return _failures.decode(body).error
    except msgspec.MsgspecError:
        return None


def _result(result: _ItemResult) -> ItemResult:
    match result.status:
        case status if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return _WRITTEN
        case HTTPStatus.CONFLICT:
            return _ALREADY_THERE
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return _failed(DocumentResult.REFUSED, result, ErrorCode.TOO_LARGE)
        case HTTPStatus.BAD_REQUEST:
            return _failed(_BY_FAULT[_error(result).fault], result)
        case _:
            return _failed(DocumentResult.AGAIN, result)


def _failed(verdict: DocumentResult, result: _ItemResult, code: ErrorCode = ErrorCode.REFUSED) -> ItemResult:
    error = _error(result)
    return ItemResult(
        verdict, code, f"status {result.status}, {error.text}" if error.text else f"status {result.status}", error.kind
    )


def _error(result: _ItemResult) -> ClusterError:
    return ClusterError.of(result.error.type, result.error.reason or "") if result.error else ClusterError.of("", "")
