"""Rows as OpenTelemetry log records: what each says, for both encodings, and the JSON encoding of OTLP.

In JSON each row is an ``ExportLogsServiceRequest`` with one log record, so a message can be sent to any OTLP receiver as it is.
`libs.common.rows.formats.otel_proto` has the binary encoding, many records to a request.

- Attributes of flows use the names of the semantic conventions where one exists; all others, and those of other row types, are
  named ``blobtide.…``. A null has no attribute.
- ``log.record.uid`` is the identity of the row, the same in every replay: by the conventions, records with the same one are
  duplicates. It is left out if the columns of the position are.
- The time is the row's. The observed time is when Azure recorded a flow, and otherwise the row's time: it does not change with
  replays. Times before 1970 and after 2262 become the ends of that range.
- The body is one line for people.

In JSON, 64-bit integers are text, as OTLP requires.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.column_values import A_SECOND, integers
from libs.common.rows.formats.ecs import ecs_columns
from libs.common.rows.formats.json import value_text
from libs.common.rows.formats.line import endpoints
from libs.common.rows.identity import Identities
from libs.common.rows.protocol_names import protocol_names
from libs.common.rows.row_text import Bools, Ints, TextColumn, numbers, when
from libs.common.rows.row_type import RowType
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOWS

RESOURCE: Final[Mapping[str, str]] = {"cloud.provider": "azure", "service.name": "blobtide"}
SCOPE: Final = "blobtide"

_END: Final = "]}]}]}]}"
_UID: Final = "log.record.uid"
_LATEST: Final = 2**63 - 1
_NO_TEXT: Final = pa.scalar(None, pa.string())

# Each attribute, and the field in `libs.common.rows.formats.ecs.FIELDS` that has the same value.
_OF_ECS: Final = {
    "source.address": "source.ip",
    "source.port": "source.port",
    "destination.address": "destination.ip",
    "destination.port": "destination.port",
    "network.transport": "network.transport",
    "network.type": "network.type",
    "security_rule.name": "rule.name",
    "security_rule.ruleset.name": "rule.ruleset",
    "cloud.account.id": "cloud.account.id",
}
# Flow columns that these attributes already cover: they are not repeated.
_SAID: Final = frozenset({"time", "src_ip", "src_port", "dst_ip", "dst_port", "direction", "rule", "acl_id", "target_id"})
_IO_DIRECTIONS: Final = {"ingress": "receive", "egress": "transmit"}  # of the interface that logs


@dataclass(frozen=True, slots=True)
class Severity:
    """How severe all records of a row type are, in OpenTelemetry's terms."""

    number: int
    text: str


_INFO: Final = Severity(9, "INFO")
_SEVERITIES: Final = {DEAD_LETTERS.name: Severity(17, "ERROR")}


@dataclass(frozen=True, slots=True)
class LogRecords:
    """Rows as log records, column by column.

    Attributes:
        time, observed: nanoseconds since 1970, 0 to 2**63 - 1.
        severity, event: the same for all.
        body: strings; null where there is none.
        attributes: by name, in order; text, numbers, booleans or times, or dictionaries of these. Each is one array.
    """

    time: Ints
    observed: Ints
    severity: Severity
    event: str
    body: pa.Array
    attributes: Mapping[str, pa.Array]


def log_records(row_type: RowType, rows: pa.Table) -> LogRecords:
    """Return rows as log records. All values of columns that are left out are null."""
    time = _nanoseconds(_combined(rows.column(row_type.time)))
    attributes = _of_flows(rows) if row_type is FLOWS else _own(row_type, rows)
    return LogRecords(
        time=time,
        observed=_observed(time, rows) if row_type is FLOWS else time,
        severity=_SEVERITIES.get(row_type.name, _INFO),
        event=f"blobtide.{row_type.name}",
        body=_combined(_body(row_type, rows)),
        attributes={**_identity(row_type, rows), **{name: _combined(column) for name, column in attributes.items()}},
    )


def otel_text(row_type: RowType, rows: pa.Table) -> list[TextColumn]:
    """Return the text columns of one request per row."""
    records = log_records(row_type, rows)
    everywhere = np.ones(rows.num_rows, np.bool_)
    body, has_body = value_text('"body":{"stringValue":', records.body)
    severity = records.severity
    return [
        _begin(),
        *numbers("", records.time, everywhere),
        '","observedTimeUnixNano":"',
        *numbers("", records.observed, everywhere),
        f'","severityNumber":{severity.number},"severityText":"{severity.text}",',
        *body,
        when("},", has_body),
        f'"eventName":"{records.event}","attributes":[',
        *_attributes(records.attributes, rows.num_rows),
        _END,
    ]


def _begin() -> str:
    said = ",".join(f'{{"key":"{name}","value":{{"stringValue":"{value}"}}}}' for name, value in RESOURCE.items())
    scope = f'"scopeLogs":[{{"scope":{{"name":"{SCOPE}"}},"logRecords":[{{"timeUnixNano":"'
    return f'{{"resourceLogs":[{{"resource":{{"attributes":[{said}]}},{scope}'


# --- What a record says ---


def _own(row_type: RowType, rows: pa.Table) -> dict[str, pa.ChunkedArray | pa.Array]:
    return {f"blobtide.{name}": rows.column(name) for name in rows.column_names if name != row_type.time}


def _of_flows(flows: pa.Table) -> dict[str, pa.ChunkedArray | pa.Array]:
    ecs = ecs_columns(flows)
    standard = {attribute: ecs[field] for attribute, field in _OF_ECS.items()}
    own = {f"blobtide.{name}": flows.column(name) for name in flows.column_names if name not in _SAID}
    return {
        **standard,
        "network.io.direction": _io_direction(ecs["network.direction"]),
        "cloud.resource_id": flows.column("target_id"),
        **own,
    }


def _io_direction(direction: pa.DictionaryArray) -> pa.DictionaryArray:
    words = [_IO_DIRECTIONS.get(word) for word in direction.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(direction.indices, pa.array(words, pa.string()))


def _identity(row_type: RowType, rows: pa.Table) -> dict[str, pa.Array]:
    position = row_type.position
    if not rows.num_rows or any(rows.column(name).null_count for name in position.names):
        return {}
    return {_UID: _combined(Identities.of(rows, position).document_ids())}


def _body(row_type: RowType, rows: pa.Table) -> pa.ChunkedArray | pa.Array:
    if row_type is FLOWS:
        return _flow_body(rows)
    return rows.column("reason") if row_type is DEAD_LETTERS else pa.nulls(rows.num_rows, pa.string())


def _flow_body(flows: pa.Table) -> pa.Array:
    """Return ``allow outbound TCP 10.0.0.4:50312 -> 10.1.0.9:443``, without what is not known."""
    ends = _combined(pc.binary_join_element_wise(endpoints(flows, "src"), endpoints(flows, "dst"), " -> "))
    protocol = _combined(flows.column("protocol")).dictionary_encode()
    protocol = pa.DictionaryArray.from_arrays(protocol.indices, protocol_names(protocol.dictionary))
    words = [_spaced(word) for word in (*map(_combined, map(flows.column, ("action", "direction"))), protocol)]
    text = pc.binary_join_element_wise(*words, pc.fill_null(ends, ""), "")
    if not ends.null_count:
        return text
    text = pc.utf8_rtrim(text, characters=" ")
    return pc.if_else(pc.equal(text, ""), _NO_TEXT, text)


def _spaced(words: pa.DictionaryArray) -> pa.Array:
    """Return words with a space after each, and nothing where there is none."""
    return pc.fill_null(pc.binary_join_element_wise(words.dictionary, "", " ").take(words.indices), "")


def _observed(time: Ints, flows: pa.Table) -> Ints:
    recorded = _combined(flows.column("record_time"))
    if recorded.null_count == 0:
        return _nanoseconds(recorded)
    there = recorded.is_valid().to_numpy(zero_copy_only=False)
    return np.where(there, _nanoseconds(recorded), time)


def _nanoseconds(times: pa.Array) -> Ints:
    factor = 1_000_000_000 // A_SECOND[times.type.unit]
    clipped: Ints = np.clip(integers(times), 0, _LATEST // factor)
    return clipped * factor


# --- As JSON ---


def _attributes(columns: Mapping[str, pa.Array], rows: int) -> list[TextColumn]:
    texts: list[TextColumn] = []
    any_before = np.zeros(rows, np.bool_)
    for name, column in columns.items():
        own, present = _attribute(name, column)
        texts += [when(",", any_before & present), *own]
        any_before |= present
    return texts


def _attribute(name: str, column: pa.Array) -> tuple[list[TextColumn], Bools]:
    kind, is_text = _kind(column.type)
    quote = '"' if is_text else ""
    inner, present = value_text(f'{{"key":{encode_basestring(name)},"value":{{"{kind}":{quote}', column)
    return [*inner, when(f"{quote}}}}}", present)], present


def _kind(type_: pa.DataType) -> tuple[str, bool]:
    """Return OTLP's name for a value of that type, and whether the JSON number has to become text."""
    if pa.types.is_dictionary(type_):
        return _kind(type_.value_type)
    if pa.types.is_integer(type_):
        return "intValue", True
    if pa.types.is_boolean(type_):
        return "boolValue", False
    if pa.types.is_floating(type_):
        return "doubleValue", False
    return "stringValue", False


def _combined(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.unify_dictionaries().combine_chunks() if isinstance(column, pa.ChunkedArray) else column
