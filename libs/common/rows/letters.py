"""Convert between rows and dead letters: rejected rows become dead letters, and dead letters become rows. Pure."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from libs.common.errors import CodecError
from libs.common.messages.dead_letters import OMITTED_BYTES, DeadLetter, ErrorCode, is_dead_letter
from libs.common.messages.headers import Headers
from libs.common.rows.formats.json import json_lines
from libs.common.rows.message import Message
from libs.common.rows.row_type import RowType
from libs.common.rows.types.dead_letters import DEAD_LETTERS

TopicIds = Callable[[str], str]
"""Returns the id that Kafka assigned to the topic of that name when it was created; supplied by a caller that can ask Kafka."""

_COORDINATES: Final = ("topic", "partition", "offset")
_INT32: Final = 2**31
_INT64: Final = 2**63
_INTEGER: Final = re.compile(rb"-?[0-9]{1,19}")
_LAST_MS: Final = 253_402_300_799_999  # the end of the year 9999: later times have no text form


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """Why a row was rejected, and the Kafka coordinates of the message it came in."""

    code: ErrorCode
    reason: str
    source: Mapping[str, str]


def refused_rows(row_type: RowType, stage: str, rows: pa.Table, refused: Sequence[RefusedRow]) -> Iterator[DeadLetter]:
    """Yield a dead letter for each of `rows`, with the row as JSON and its position; `refused` gives the reason for each."""
    documents = json_lines(rows).splitlines()
    position = row_type.position
    columns = [rows.column(name).to_pylist() for name in position.names]
    for why, document, source, generation, offset, index in zip(refused, documents, *columns, strict=True):
        yield DeadLetter(
            stage=stage,
            code=why.code,
            reason=why.reason,
            data=document,
            key=source.encode(),
            blob=source,
            generation=generation,
            record_offset=offset,
            tuple_index=index,
            source=why.source,
        )


def letter_rows(message: Message, topic_id: TopicIds) -> pa.Table:
    """Return a message of ``Errors`` as a table with one row of type `DEAD_LETTERS`.

    A header that is missing, or that should be a number but is not, becomes a null: the rest of the letter is still useful.

    Raises:
        CodecError: if the message is not a dead letter.
    """
    if not is_dead_letter(message.headers):
        raise CodecError("not a dead letter: its header type does not say so")
    told = _told(message.headers)
    if missing := [name for name in ("stage", "code") if name not in told]:
        raise CodecError(f"not a dead letter: the header {missing[0]} is missing")
    row = _letter(told, message) | _position(message, topic_id(message.topic))
    return pa.Table.from_pylist([row], schema=DEAD_LETTERS.schema)


def _told(headers: Headers) -> dict[str, bytes]:
    """Return the dead letter's own headers; if a name repeats, the first one counts."""
    told: dict[str, bytes] = {}
    for name, value in headers:
        if not name.startswith("original-"):
            told.setdefault(name, value)
    return told


def _letter(told: Mapping[str, bytes], message: Message) -> dict[str, Any]:
    data = message.value or b""
    omitted = _number(told, f"source-{OMITTED_BYTES}", _INT64 - len(data)) or 0
    details = (
        (name.removeprefix("source-"), value)
        for name, value in told.items()
        if name.startswith("source-") and name.removeprefix("source-") not in _COORDINATES
    )
    text = _utf8(data)
    return {
        "time": min(max(message.timestamp_ms, 0), _LAST_MS),
        "stage": _text(told, "stage"),
        "code": _text(told, "code"),
        "reason": _text(told, "reason"),
        "topic": _text(told, "source-topic"),
        "partition": _number(told, "source-partition", _INT32),
        "offset": _number(told, "source-offset", _INT64),
        "source_details": _json_object(details),
        "blob": _text(told, "blob"),
        "generation": _text(told, "generation"),
        "record_offset": _number(told, "record-offset", _INT64),
        "tuple_index": _number(told, "tuple-index", _INT32),
        "key": None if message.key is None else _shown(message.key),
        "bytes_text": text,
        "bytes_base64": None if text is not None else base64.b64encode(data).decode(),
        "size": len(data) + max(omitted, 0),
        "headers": _json_object(
            (name.removeprefix("original-"), value) for name, value in message.headers if name.startswith("original-")
        ),
    }


def _position(message: Message, topic_id: str) -> dict[str, Any]:
    position = DEAD_LETTERS.position
    return {
        position.source: f"{message.topic}/{message.partition}",
        position.generation: topic_id,
        position.offset: message.offset,
        position.index: 0,
    }


def _text(told: Mapping[str, bytes], name: str) -> str | None:
    return _shown(told[name]) if name in told else None


def _number(told: Mapping[str, bytes], name: str, limit: int) -> int | None:
    """Return the header as an integer between ``-limit`` and `limit`; None if it is missing or is not one."""
    text = told.get(name, b"")
    number = int(text) if _INTEGER.fullmatch(text) else limit
    return number if -limit <= number < limit else None


def _utf8(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _shown(data: bytes) -> str:
    return data.decode(errors="backslashreplace")


def _json_object(pairs: Iterable[tuple[str, bytes]]) -> str | None:
    """Return a JSON object in which a repeated name has a list of values, or None if there are no pairs."""
    members: dict[str, list[Any]] = {}
    for name, value in pairs:
        text = _utf8(value)
        members.setdefault(name, []).append(text if text is not None else {"base64": base64.b64encode(value).decode()})
    if not members:
        return None
    return json.dumps({name: values if len(values) > 1 else values[0] for name, values in members.items()}, ensure_ascii=False)
