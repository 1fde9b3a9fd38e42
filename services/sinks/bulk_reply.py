"""What a cluster's answer to ``_bulk`` with ``create`` means, item by item.

===========================  =======================================================================
status of an item            meaning
===========================  =======================================================================
2xx                          written
409                          a document with this id exists: written before
413                          the document is over a limit: refused for good
400                          the document does not fit the mapping: refused for good, unless the error
                             is about the index or the cluster, which the document cannot help
429, 5xx and all else        the cluster cannot take it now: again
===========================  =======================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Final

import msgspec

from libs.common.dead_letters import ErrorCode
from libs.common.errors import CodecError

# Keeps an answer at some 30 bytes a document instead of 250.
FILTER_PATH: Final = "errors,items.*.status,items.*.error.type,items.*.error.reason"

# 400 although the document is innocent: too many shards, no such index and none may be made, a closed or unsuitable index.
_NOT_THE_DOCUMENT: Final = frozenset(
    {"validation_exception", "invalid_index_name_exception", "index_closed_exception", "index_not_found_exception"}
)
_TYPE = re.compile(r"[a-z_]{1,80}")
_FIELD = re.compile(r"field \[([A-Za-z0-9_.@]{1,100})\]")


class Verdict(Enum):
    """What became of one document."""

    WRITTEN = "written"
    ALREADY_THERE = "already there"
    REFUSED = "refused"
    AGAIN = "again"


@dataclass(frozen=True, slots=True)
class ItemResult:
    """The verdict on one document; `reason` tells why it was refused, or must come again, without any of its content."""

    verdict: Verdict
    code: ErrorCode = ErrorCode.REFUSED
    reason: str = ""


class _Error(msgspec.Struct, gc=False):
    type: str = ""
    reason: str | None = None


class _Result(msgspec.Struct, gc=False):
    status: int
    error: _Error | None = None


class _Item(msgspec.Struct, gc=False):
    create: _Result


class _Reply(msgspec.Struct, gc=False):
    errors: bool
    items: list[_Item] = []


_decoder = msgspec.json.Decoder(_Reply)
_WRITTEN = ItemResult(Verdict.WRITTEN)
_ALREADY_THERE = ItemResult(Verdict.ALREADY_THERE)


def read_reply(body: bytes, documents: int) -> list[ItemResult]:
    """Return the result of each of `documents` documents, in order.

    Raises:
        CodecError: if the answer is cut off, is not of ``_bulk``, or has another number of items.
    """
    try:
        reply = _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise CodecError(f"not an answer of _bulk: {type(error).__name__}") from error
    if len(reply.items) != documents:
        raise CodecError(f"an answer of _bulk for {len(reply.items)} documents instead of {documents}")
    if not reply.errors:
        return [_WRITTEN] * documents
    return [_result(item.create) for item in reply.items]


def _result(result: _Result) -> ItemResult:
    kind = result.error.type if result.error else ""
    match result.status:
        case status if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return _WRITTEN
        case HTTPStatus.CONFLICT:
            return _ALREADY_THERE
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return ItemResult(Verdict.REFUSED, ErrorCode.TOO_LARGE, _reason(result))
        case HTTPStatus.BAD_REQUEST if kind not in _NOT_THE_DOCUMENT:
            return ItemResult(Verdict.REFUSED, ErrorCode.REFUSED, _reason(result))
        case _:
            return ItemResult(Verdict.AGAIN, reason=_reason(result))


def _reason(result: _Result) -> str:
    """Say what is wrong by the error's type and field; its full text may quote the document."""
    if result.error is None:
        return f"status {result.status}"
    kind = result.error.type if _TYPE.fullmatch(result.error.type) else "unknown error"
    field = _FIELD.search(result.error.reason or "")
    return f"status {result.status}, {kind}" + (f" on field {field[1]}" if field else "")
