"""Rows as OpenTelemetry logs: each row is an ``ExportLogsServiceRequest`` with one log record, in the JSON form of OTLP.

A message can therefore be sent to any OTLP receiver as it is. Attributes of flows use the names of the semantic conventions
where one exists; all other attributes, and those of other row types, are named ``blobtide.…``. A null has no attribute. As
OTLP requires, 64-bit integers are text.
"""

from __future__ import annotations

from collections.abc import Mapping
from json.encoder import encode_basestring
from typing import Final

import numpy as np
import pyarrow as pa

from libs.common.rows.formats.ecs import ecs_columns
from libs.common.rows.formats.json import value_text
from libs.common.rows.row_text import Bools, Numbers, TextColumn, when
from libs.common.rows.row_type import RowType
from libs.common.rows.types.flows import FLOWS

_BEGIN: Final = (
    '{"resourceLogs":[{"resource":{"attributes":[{"key":"cloud.provider","value":{"stringValue":"azure"}}]},'
    '"scopeLogs":[{"scope":{"name":"blobtide"},"logRecords":[{"timeUnixNano":"'
)
_END: Final = "]}]}]}]}"
# Digits appended to turn a time in its own unit into nanoseconds: without multiplication, nothing can overflow.
_ZEROS: Final = {"s": "000000000", "ms": "000000", "us": "000", "ns": ""}

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


def otel_text(row_type: RowType, rows: pa.Table) -> list[TextColumn]:
    """Return the text columns of one request per row."""
    attributes = (
        _of_flows(rows) if row_type is FLOWS else {f"blobtide.{name}": rows.column(name) for name in _own(row_type, rows)}
    )
    return [
        _BEGIN,
        *_nanoseconds(rows.column(row_type.time)),
        f'","eventName":"blobtide.{row_type.name}","attributes":[',
        *_attributes(attributes, rows.num_rows),
        _END,
    ]


def _own(row_type: RowType, rows: pa.Table) -> list[str]:
    return [name for name in rows.column_names if name != row_type.time]


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


def _nanoseconds(times: pa.ChunkedArray) -> list[TextColumn]:
    values = times.cast(pa.int64()).to_numpy()
    zeros = _ZEROS[times.type.unit]
    positive = values > 0  # OTLP has no times before 1970
    return [Numbers(np.maximum(values, 0), np.ones(len(values), np.bool_)), when(zeros, positive)]


def _attributes(columns: Mapping[str, pa.ChunkedArray | pa.Array], rows: int) -> list[TextColumn]:
    texts: list[TextColumn] = []
    any_before = np.zeros(rows, np.bool_)
    for name, column in columns.items():
        own, present = _attribute(name, _combined(column))
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
