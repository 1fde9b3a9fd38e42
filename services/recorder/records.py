"""Make records of the answer of a source. Pure.

A record is a JSON object: ``timestamp``, the time in milliseconds at which the source was asked, and the answer. The answer is
checked but not decoded, and its bytes go into the record as they are: nothing changes that a decoder would change, such as the
spelling of numbers, the order of members or repeated names. Only items that an expression selects are decoded and written anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from libs.common.errors import BlobtideError
from libs.common.expressions import IN_FUNCTIONS, Expression
from libs.common.messages.dead_letters import ErrorCode
from libs.common.security.redaction import excerpt
from libs.common.settings.recorder import MOST_ITEMS, TIMESTAMP

_SHOWN: Final = 200
_SPACE: Final = b" \t\r\n"
_ENCODER: Final = msgspec.json.Encoder()


class AnswerRefused(BlobtideError):
    """No record can be made of an answer."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class RecordForm:
    """How the answer of a source becomes records.

    Attributes:
        wrap: member of the record that holds the answer or item; empty: its own members are those of the record.
        items: selects the items; None: the whole answer is one record.
    """

    wrap: str = ""
    items: Expression | None = None

    def records(self, answer: bytes, asked_ms: int) -> list[bytes]:
        """Return the records of an answer, in order.

        Raises:
            AnswerRefused: the answer is not UTF-8, no JSON, or of another shape.
        """
        _check_text(answer)
        if self.items is not None:
            return [self._record(item, asked_ms) for item in _items(self.items, answer)]
        return [self._record(answer, asked_ms)]

    def _record(self, value: bytes, asked_ms: int) -> bytes:
        if self.wrap:
            _decoded(value, msgspec.Raw)
            return b'{"%s":%d,%s:%s}' % (TIMESTAMP.encode(), asked_ms, json.dumps(self.wrap).encode(), value)
        members = _members(value)
        if TIMESTAMP in members:
            return value
        inside = value.lstrip(_SPACE)[1:]
        return b'{"%s":%d%s%s' % (TIMESTAMP.encode(), asked_ms, b"," if members else b"", inside)


def _check_text(answer: bytes) -> None:
    try:
        answer.decode()
    except UnicodeDecodeError as error:
        raise AnswerRefused(ErrorCode.BAD_TEXT, f"the answer is not UTF-8 at byte {error.start}") from error


def _members(value: bytes) -> dict[str, msgspec.Raw]:
    if value.lstrip(_SPACE)[:1] != b"{":
        _decoded(value, msgspec.Raw)  # if it is no JSON, that is what to say
        raise AnswerRefused(
            ErrorCode.BAD_RECORD, "it is no JSON object whose members could be those of a record: set wrap to a name for it"
        )
    members: dict[str, msgspec.Raw] = _decoded(value, dict[str, msgspec.Raw])
    return members


def _items(expression: Expression, answer: bytes) -> Iterator[bytes]:
    """Yield what an expression selects, each written anew as JSON: the elements of a list, or anything else as one item."""
    import jmespath

    decoded = _decoded(answer, Any)
    try:
        selected = expression.search(decoded)
    except jmespath.exceptions.JMESPathError as error:
        reason = f"items does not fit the answer: {excerpt(str(error), _SHOWN)}"  # it quotes the answer
        raise AnswerRefused(ErrorCode.BAD_RECORD, reason) from error
    except IN_FUNCTIONS as error:
        reason = f"items does not fit the answer: {type(error).__name__}: {excerpt(str(error), _SHOWN)}"
        raise AnswerRefused(ErrorCode.BAD_RECORD, reason) from error
    if selected is None:
        raise AnswerRefused(ErrorCode.BAD_RECORD, "items selects nothing in the answer")
    items = selected if isinstance(selected, list) else [selected]
    if len(items) > MOST_ITEMS:
        raise AnswerRefused(ErrorCode.TOO_LARGE, f"items selects {len(items):,} items, more than {MOST_ITEMS:,}")
    for item in items:
        try:
            yield _ENCODER.encode(item)
        except TypeError as error:  # a reference to an expression is no JSON
            raise AnswerRefused(ErrorCode.BAD_RECORD, "items selects what is no JSON") from error


def _decoded(value: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.MsgspecError as error:
        raise AnswerRefused(ErrorCode.BAD_JSON, f"the answer is no JSON: {error}") from error
    except RecursionError as error:
        raise AnswerRefused(ErrorCode.BAD_RECORD, "the answer is nested too deeply") from error
