"""What a response of Azure Resource Manager holds: a list with a link to its next page, rows of a query, or one resource."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from libs.common.azure.arm.api import ArmCall, ArmRefused, ArmResponse
from libs.common.errors import CodecError


@dataclass(frozen=True, slots=True)
class Answered:
    """The elements of an answer, counted, and where the list continues.

    Attributes:
        expected: how many elements the list has in all, if the answer says so.
        next_link: URL of the next page; None if there is none, or if the answer is no list.
        skip_token: of a query of Resource Graph.
    """

    elements: int
    expected: int | None = None
    next_link: str | None = None
    skip_token: str | None = None


class _Body(msgspec.Struct):
    value: msgspec.Raw = msgspec.Raw(b"")
    next_link: msgspec.Raw = msgspec.field(name="nextLink", default=msgspec.Raw(b""))


class _GraphBody(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw(b"")
    count: int = 0
    total: int | None = msgspec.field(name="totalRecords", default=None)
    truncated: str = msgspec.field(name="resultTruncated", default="false")
    skip_token: str | None = msgspec.field(name="$skipToken", default=None)


_list: Final = msgspec.json.Decoder(list[msgspec.Raw])
_body: Final = msgspec.json.Decoder(_Body)
_graph_body: Final = msgspec.json.Decoder(_GraphBody)
_text: Final = msgspec.json.Decoder(str | None)


def read_answer(call: ArmCall, response: ArmResponse, *, continues: bool = False) -> Answered:
    """Return what the response to `call` holds. `continues` says that it is a further page: then it is a list in any case.

    Raises:
        ArmRefused: if it is no JSON, or is not formed as Azure documents.
    """
    try:
        response.body.decode()  # what is not looked into below is checked as well: it is handed on as text
        return _of_graph(response.body) if call.is_graph_query else _of_list(response.body, continues=continues)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, CodecError) as error:
        raise ArmRefused(
            f"{call.method} {call.path[:300]}: Azure answers {response.status}, but not as documented: {error}"
        ) from error


def _of_list(body: bytes, *, continues: bool) -> Answered:
    stripped = body.strip()
    if stripped.startswith(b"["):
        return Answered(len(_list.decode(stripped)))
    found = _body.decode(stripped) if stripped else _Body()
    if bytes(found.value).startswith(b"["):
        link = _text.decode(found.next_link) if bytes(found.next_link) else None
        return Answered(len(_list.decode(found.value)), next_link=link or None)
    if continues:  # otherwise, the list would seem to end here
        raise CodecError("a further page of a list has no elements")
    return Answered(1 if stripped else 0)


def _of_graph(body: bytes) -> Answered:
    found = _graph_body.decode(body)
    if found.truncated == "true" and not found.skip_token:
        raise CodecError("it is cut off without a token for what follows; have the query return the column id")
    rows = bytes(found.data).lstrip()
    if not rows:
        raise CodecError("it has no data")
    if not rows.startswith(b"["):  # resultFormat: table
        return Answered(found.count, found.total, skip_token=found.skip_token or None)
    elements = len(_list.decode(rows))
    if elements != found.count:
        raise CodecError(f"it announces {found.count} rows, but has {elements}")
    return Answered(elements, found.total, skip_token=found.skip_token or None)
