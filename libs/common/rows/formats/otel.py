"""Rows as OpenTelemetry log records: what each says, for both encodings, and the JSON encoding of OTLP.

In JSON each row is an ``ExportLogsServiceRequest`` with one log record, so a message can be sent to any OTLP receiver as it is.
`libs.common.rows.formats.otel_proto` has the binary encoding, many records to a request.

- Attributes of flows, rollups and logs use the names of the semantic conventions where one exists; all others, and those of
  other row types, are named ``blobtide.…``. A null has no attribute.
- ``log.record.uid`` is the identity of the row, the same in every replay: by the conventions, records with the same one are
  duplicates. It is left out if the columns of the position are.
- The time is the row's. The observed time is when Azure recorded a flow, when a log was collected, and otherwise the row's
  time: it does not change with replays. Times before 1970 and after 2262 become the ends of that range.
- The severity is that of the record of an application log, and otherwise the same for all rows of a type.
- The body is the message of an application log, and otherwise one line for people.
- Ids of trace and span have their own fields if they are what OpenTelemetry takes for ids: hex digits of the right number.

In JSON, 64-bit integers are text, as OTLP requires.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.column_values import A_SECOND, combined, integers, one_array, validity, word_codes
from libs.common.rows.combinations import Combinations
from libs.common.rows.formats.ecs import ecs_columns
from libs.common.rows.formats.json import value_text
from libs.common.rows.formats.otel_names import OWN, attribute_of
from libs.common.rows.identity import Identities
from libs.common.rows.protocol_names import protocol_names
from libs.common.rows.row_text import Bools, CodedTexts, Codes, Ints, Pieces, TextColumn, decimals, numbers, when, where
from libs.common.rows.row_type import RowType
from libs.common.rows.types.application import APPLICATION
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.types.http import HTTP
from libs.common.rows.types.proxy import PROXY
from libs.common.rows.types.spans import SPANS

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
_LOGS: Final = (APPLICATION, HTTP, PROXY)
_WITH_IDS: Final = (*_LOGS, SPANS)
# Columns of logs that are fields of the record.
_FIELDS_OF_LOGS: Final = frozenset({"time", "observed_time", "severity_text", "severity_number", "body", "trace_id", "span_id"})
_OBSERVED: Final = {FLOWS.name: "record_time", **{kind.name: "observed_time" for kind in _LOGS}}
_BODIES: Final = {DEAD_LETTERS.name: "reason", APPLICATION.name: "body"}
_HEX: Final = {"trace_id": "^[0-9a-f]{32}$", "span_id": "^[0-9a-f]{16}$"}
_ID_MEMBERS: Final = {"trace_id": "traceId", "span_id": "spanId"}
_IO_DIRECTIONS: Final = {"ingress": "receive", "egress": "transmit"}  # of the interface that logs


@dataclass(frozen=True, slots=True)
class Severity:
    """How severe records are, in OpenTelemetry's terms: 0 and nothing if that is not known."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Severities:
    """The severity of each record: ``distinct[of_record[row]]``."""

    distinct: tuple[Severity, ...]
    of_record: Codes

    def texts(self, text: Callable[[Severity], str]) -> TextColumn:
        """Return a text for the severity of each record."""
        texts = [text(one) for one in self.distinct]
        return texts[0] if len(texts) == 1 else CodedTexts(texts or [""], self.of_record)


_INFO: Final = Severity(9, "INFO")
_SEVERITIES: Final = {DEAD_LETTERS.name: Severity(17, "ERROR")}


@dataclass(frozen=True, slots=True)
class LogRecords:
    """Rows as log records, column by column.

    Attributes:
        time, observed: nanoseconds since 1970, 0 to 2**63 - 1.
        event: the same for all.
        ids: ``trace_id`` and ``span_id`` as hex digits; null where there is none, empty if no row of the type can have one.
        body: strings, or their pieces; null where there is none.
        attributes: by name, in order; text, numbers, booleans or times, or dictionaries of these. Each is one array, or the
            pieces of a text that every row has.
    """

    time: Ints
    observed: Ints
    severities: Severities
    event: str
    ids: Mapping[str, pa.Array]
    body: pa.Array | Pieces
    attributes: Mapping[str, pa.Array | Pieces]


def log_records(row_type: RowType, rows: pa.Table) -> LogRecords:
    """Return rows as log records. All values of columns that are left out are null."""
    time = _nanoseconds(combined(rows, row_type.time))
    ids = {name: _hex_digits(rows, name) for name in _HEX} if row_type in _WITH_IDS else {}
    attributes = {name: one_array(column) for name, column in _stated(row_type, rows, ids).items()}
    return LogRecords(
        time=time,
        observed=_observed(row_type, rows, time),
        severities=_severities(row_type, rows),
        event=f"blobtide.{row_type.name}",
        ids=ids,
        body=_body(row_type, rows),
        attributes={**_identity(row_type, rows), **attributes},
    )


def otel_text(row_type: RowType, rows: pa.Table) -> list[TextColumn]:
    """Return the text columns of one request per row."""
    records = log_records(row_type, rows)
    everywhere = np.ones(rows.num_rows, np.bool_)
    body, has_body = value_text('"body":{"stringValue":', _whole(records.body))
    ids = [text for name, column in records.ids.items() for text in _id(_ID_MEMBERS[name], column)]
    return [
        _begin(),
        *numbers("", records.time, everywhere),
        '","observedTimeUnixNano":"',
        *numbers("", records.observed, everywhere),
        '",',
        records.severities.texts(_severity),
        *ids,
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


def _severity(severity: Severity) -> str:
    number = f'"severityNumber":{severity.number},' if severity.number else ""
    return f'{number}"severityText":{encode_basestring(severity.text)},' if severity.text else number


def _id(member: str, column: pa.Array) -> list[TextColumn]:
    text, present = value_text(f'"{member}":', column)
    return [*text, when(",", present)]


# --- What a record says ---


def _stated(row_type: RowType, rows: pa.Table, ids: Mapping[str, pa.Array]) -> dict[str, pa.ChunkedArray | pa.Array]:
    """Return the attributes: whatever has no field of its own."""
    if row_type is FLOWS:
        return _of_flows(rows)
    if row_type not in _WITH_IDS:
        return {attribute_of(row_type.name, name): rows.column(name) for name in rows.column_names if name != row_type.time}
    named = {attribute_of(row_type.name, name): rows.column(name) for name in rows.column_names if name not in _FIELDS_OF_LOGS}
    invalid = {name: pc.if_else(column.is_null(), combined(rows, name), _NO_TEXT) for name, column in ids.items()}
    return named | {f"{OWN}{name}": column for name, column in invalid.items()}


def _hex_digits(rows: pa.Table, name: str) -> pa.Array:
    column = combined(rows, name)
    lower = pc.ascii_lower(column)
    return pc.if_else(pc.match_substring_regex(lower, _HEX[name]), lower, _NO_TEXT)


def _severities(row_type: RowType, rows: pa.Table) -> Severities:
    if row_type is not APPLICATION:
        return Severities((_SEVERITIES.get(row_type.name, _INFO),), np.zeros(rows.num_rows, np.uint32))
    number, text = combined(rows, "severity_number"), combined(rows, "severity_text")
    codes = pc.fill_null(text.indices, len(text.dictionary)).to_numpy().astype(np.int64)
    pairs = Combinations.of((integers(number), codes))
    texts = [*text.dictionary.to_pylist(), None]
    distinct = [Severity(int(integers(number)[row]), texts[codes[row]] or "") for row in pairs.row.tolist()]
    return Severities(tuple(distinct), pairs.of_row.astype(np.uint32))


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


def _identity(row_type: RowType, rows: pa.Table) -> dict[str, Pieces]:
    position = row_type.position
    if not rows.num_rows or any(rows.column(name).null_count for name in position.names):
        return {}
    return {_UID: Identities.of(rows, position).pieces()}


def _body(row_type: RowType, rows: pa.Table) -> pa.Array | Pieces:
    if row_type is FLOWS:
        return _flow_body(rows)
    if row_type in {HTTP, PROXY}:
        return _request_body(rows)
    column = _BODIES.get(row_type.name)
    return pa.nulls(rows.num_rows, pa.string()) if column is None else combined(rows, column)


def _request_body(rows: pa.Table) -> pa.Array:
    """Return ``GET /path?query 200``, without what is not known."""
    query = pc.binary_join_element_wise("?", combined(rows, "url_query"), "")
    target = pc.binary_join_element_wise(combined(rows, "url_path"), pc.fill_null(query, ""), "")
    method = combined(rows, "http_request_method").cast(pa.string())
    status = combined(rows, "http_response_status_code").cast(pa.string())
    text = pc.binary_join_element_wise(method, target, status, " ", null_handling="skip")
    return pc.if_else(pc.equal(text, ""), _NO_TEXT, text)


def _flow_body(flows: pa.Table) -> pa.Array | Pieces:
    """Return ``allow outbound TCP 10.0.0.4:50312 -> 10.1.0.9:443``, without what is not known."""
    protocol = combined(flows, "protocol").dictionary_encode()
    protocol = pa.DictionaryArray.from_arrays(protocol.indices, protocol_names(protocol.dictionary))
    words = [_spaced(word) for word in (combined(flows, "action"), combined(flows, "direction"), protocol)]
    ends = [combined(flows, name) for name in ("src_ip", "src_port", "dst_ip", "dst_port")]
    known = np.logical_and.reduce([validity(end) for end in ends])
    source, destination = _endpoint(ends[0], ends[1], known), _endpoint(ends[2], ends[3], known)
    text = Pieces([*words, *source, when(" -> ", known), *destination], flows.num_rows)
    if known.all():
        return text
    trimmed = pc.utf8_rtrim(text.array(), characters=" ")
    return pc.if_else(pc.equal(trimmed, ""), _NO_TEXT, trimmed)


def _spaced(words: pa.DictionaryArray) -> CodedTexts:
    """Return words with a space after each, and nothing where there is none."""
    texts = ["" if word is None else f"{word} " for word in words.dictionary.to_pylist()]
    return CodedTexts([*texts, ""], word_codes(words))


def _endpoint(address: pa.Array, port: pa.Array, known: Bools) -> list[str | CodedTexts | pa.Array]:
    """Return ``10.0.0.4:443`` or ``[2001:db8::1]:443``, and nothing where it is not known."""
    numbers = decimals(integers(port))
    if not known.all():
        address, numbers = (pc.if_else(pa.array(known), one, _NO_TEXT) for one in (address, numbers))
    six = pc.fill_null(pc.match_substring(address, ":"), fill_value=False).to_numpy(zero_copy_only=False)
    if not six.any():
        return [address, when(":", known), numbers]
    return [when("[", six), address, where(known, CodedTexts((":", "]:"), six.astype(np.uint32))), numbers]


def _observed(row_type: RowType, rows: pa.Table, time: Ints) -> Ints:
    column = _OBSERVED.get(row_type.name)
    if column is None:
        return time
    recorded = combined(rows, column)
    if recorded.null_count == 0:
        return _nanoseconds(recorded)
    there = recorded.is_valid().to_numpy(zero_copy_only=False)
    return np.where(there, _nanoseconds(recorded), time)


def _nanoseconds(times: pa.Array) -> Ints:
    factor = 1_000_000_000 // A_SECOND[times.type.unit]
    clipped: Ints = np.clip(integers(times), 0, _LATEST // factor)
    return clipped * factor


# --- As JSON ---


def _whole(text: pa.Array | Pieces) -> pa.Array:
    return text.array() if isinstance(text, Pieces) else text


def _attributes(columns: Mapping[str, pa.Array | Pieces], rows: int) -> list[TextColumn]:
    texts: list[TextColumn] = []
    any_before = np.zeros(rows, np.bool_)
    for name, column in columns.items():
        own, present = _attribute(name, _whole(column))
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
