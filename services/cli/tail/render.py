"""Render any message of the pipeline as readable lines or JSON lines, by its ``type`` header.

A batch of rows becomes one line per row; a segment, an event and a dead letter become one line each. As JSON, all lines have
the same outer keys. What cannot be decoded is shown raw, with the reason: a tail hides no message.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, get_args

import msgspec

from libs.common.errors import CodecError
from libs.common.kafka.records import Inbound
from libs.common.messages.events import Event, decode_event
from libs.common.messages.segments import Segment
from libs.common.rows.formats.json import json_lines
from libs.common.rows.formats.line import FlowLines
from libs.common.rows.reading import Reader, batch_reader, stated_row_type
from libs.common.rows.row_type import RowType
from libs.common.rows.types import ROW_TYPES
from libs.common.rows.types.flows import FLOWS
from libs.common.security.visible import visible_line

_EVENTS: Final = frozenset(kind.__name__ for kind in get_args(Event))
_SHOWN: Final = 300
"""Characters of a bytes value shown in a line for people."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FLOW_BATCH: Final = "flow-batch"
"""The type shown for a batch of flows, whatever its header says, because users' filters rely on it."""


class Output(StrEnum):
    """Output format of messages."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class AsRows:
    """How a message is read as rows of one type."""

    row_type: RowType
    read: Reader


def render(record: Inbound, output: Output, flow_lines: FlowLines, rows: AsRows | None = None) -> Iterator[str]:
    """Yield the lines for `record`; `flow_lines` formats flows as text. With `rows`, every message is read as those rows."""
    return map(visible_line, _rendered(record, output, flow_lines, rows or _stated(record)))


def _rendered(record: Inbound, output: Output, flow_lines: FlowLines, rows: AsRows | None) -> Iterator[str]:
    kind = _kind(record)
    try:
        if rows is not None:
            yield from _rows(record, rows, output, flow_lines)
            return
        shown = _decoded(record, kind)
    except CodecError as error:
        shown = {"undecodable": str(error), "bytes": record.value or b""}
    if output is Output.JSON:
        yield from _with_envelope(record, kind, [json.dumps(shown, default=_plain, ensure_ascii=False)])
    else:
        yield _as_text(record, kind, shown)


def _kind(record: Inbound) -> str:
    if stated_row_type(record.headers) == FLOWS.name:
        return _FLOW_BATCH
    return dict(record.headers).get("type", b"").decode(errors="replace")


def _stated(record: Inbound) -> AsRows | None:
    """Return how to read a message that says it is a batch of rows. One of an unknown type is left to `FLOWS` to refuse."""
    name = stated_row_type(record.headers)
    if name is None:
        return None
    row_type = ROW_TYPES.get(name, FLOWS)
    return AsRows(row_type, batch_reader(row_type))


def _rows(record: Inbound, rows: AsRows, output: Output, flow_lines: FlowLines) -> Iterator[str]:
    table = rows.read(record)
    if output is Output.TEXT and rows.row_type is FLOWS:
        return iter(_lines(flow_lines.text(table)))
    documents = _lines(json_lines(table))
    if output is Output.JSON:
        return _with_envelope(record, _kind(record), documents)
    return (_as_text(record, rows.row_type.name, _shortened(json.loads(document))) for document in documents)


def _shortened(row: dict[str, Any]) -> dict[str, Any]:
    """Cut the long texts of a row, such as the original bytes of a dead letter."""
    return {
        name: f"{value[:_SHOWN]}… ({len(value)} characters)" if isinstance(value, str) and len(value) > _SHOWN else value
        for name, value in row.items()
    }


def _lines(text: bytes) -> list[str]:
    # Not splitlines(), which also splits at characters that a rule's name may contain.
    return text.decode().split("\n")[:-1]


def _decoded(record: Inbound, kind: str) -> dict[str, Any]:
    if record.value is None:
        return {"tombstone": True}
    if kind in _EVENTS:
        return {name: value for name, value in asdict(decode_event(record.value)).items() if value not in (None, "", {})}
    if kind == "segment":
        segment = msgspec.to_builtins(Segment.from_message(record.headers, record.value), builtin_types=(bytes,))
        return {name: value for name, value in segment.items() if value not in (None, b"", "")}
    headers = {name: value.decode(errors="replace") for name, value in record.headers if name != "type"}
    return {**headers, "bytes": record.value}


def _bytes(data: bytes) -> str:
    """Show bytes as text if they are UTF-8, otherwise as base64."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(data).decode()


def _with_envelope(record: Inbound, kind: str, values: Iterable[str]) -> Iterator[str]:
    """Yield a line for each of `values` (JSON text), with the metadata of `record`."""
    message = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": _time(record.timestamp_ms),
        "key": record.key.decode(errors="replace") if record.key is not None else None,
        "type": kind or None,
    }
    head = json.dumps(message, ensure_ascii=False).removesuffix("}")
    for value in values:
        yield f'{head}, "value": {value}}}'


def _as_text(record: Inbound, kind: str, shown: dict[str, Any]) -> str:
    words = " ".join(f"{name}={_word(value)}" for name, value in shown.items())
    return f"{_time(record.timestamp_ms)} {record.topic}/{record.partition}@{record.offset} {kind or 'message'} {words}"


def _word(value: Any) -> str:
    text = _plain(value)
    if isinstance(value, bytes) and len(text) > _SHOWN:
        text = f"{text[:_SHOWN]}… ({len(value)} bytes)"
    return json.dumps(text, ensure_ascii=False) if any(c.isspace() or not c.isprintable() for c in text) else text


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return _bytes(value)
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


def _time(timestamp_ms: int) -> str:
    try:
        return _plain(_EPOCH + timedelta(milliseconds=timestamp_ms))
    except OverflowError:
        return str(timestamp_ms)
