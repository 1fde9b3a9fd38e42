"""Log records in protobuf, read with OpenTelemetry's own classes, and what they should be, apart from the code under test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from libs.common.rows.row_type import RowType
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.types.rollups import ROLLUPS
from tests.documents import document_id, ecs_document
from tests.log_documents import LOGS, otel_record
from tests.row_samples import document

PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP"}
_LATEST = 2**63 - 1
_ECS = {
    "source.address": ("source", "ip"),
    "source.port": ("source", "port"),
    "destination.address": ("destination", "ip"),
    "destination.port": ("destination", "port"),
    "network.transport": ("network", "transport"),
    "network.type": ("network", "type"),
    "security_rule.name": ("rule", "name"),
    "security_rule.ruleset.name": ("rule", "ruleset"),
    "cloud.account.id": ("cloud", "account", "id"),
}
_OF_ROLLUPS = {
    "local_ip": "network.local.address",
    "remote_ip": "network.peer.address",
    "src_ip": "source.address",
    "dst_ip": "destination.address",
    "dst_port": "destination.port",
    "rule": "security_rule.name",
    "acl_id": "security_rule.ruleset.name",
    "target_id": "cloud.resource_id",
}
_COVERED = {"time", "src_ip", "src_port", "dst_ip", "dst_port", "direction", "rule", "acl_id", "target_id"}
_DIRECTIONS = {"inbound": "receive", "outbound": "transmit"}


def records_of(body: bytes, resource: Mapping[str, str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the records of a request, which must have one resource and one scope."""
    request = ExportLogsServiceRequest.FromString(body)
    (logs,) = request.resource_logs
    said = {"cloud.provider": "azure", "service.name": "blobtide", **(resource or {})}
    assert _attributes(logs.resource.attributes) == said
    (scope,) = logs.scope_logs
    assert scope.scope.name == "blobtide"
    for record in scope.log_records:
        assert len(record.attributes) == len(_attributes(record.attributes)), "an attribute is there twice"
        yield record_of(record)


def record_of(record: LogRecord) -> dict[str, Any]:
    """Return what a record says."""
    return {
        "time": record.time_unix_nano,
        "observed": record.observed_time_unix_nano,
        "severity": (record.severity_number, record.severity_text),
        "ids": {name: getattr(record, name).hex() for name in ("trace_id", "span_id") if getattr(record, name)},
        "event": record.event_name,
        "body": value_of(record.body),
        "attributes": _attributes(record.attributes),
    }


def expected_record(row_type: RowType, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the record of a row says."""
    observed = row.get("record_time") if row_type is FLOWS else row.get("observed_time")
    time = _nanoseconds(row_type, row)
    said = otel_record(row_type, row) if row_type in LOGS else _said(row_type, row)
    return {
        "time": time,
        "observed": time if observed is None else observed,
        "event": f"blobtide.{row_type.name}",
        **said,
        "attributes": {"log.record.uid": _uid(row_type, row), **said["attributes"]},
    }


def _nanoseconds(row_type: RowType, row: Mapping[str, Any]) -> int:
    factor = 1 if row_type.schema.field(row_type.time).type.unit == "ns" else 1_000_000
    time: int = row[row_type.time]
    return min(max(time, 0), _LATEST // factor) * factor


def _said(row_type: RowType, row: Mapping[str, Any]) -> dict[str, Any]:
    is_letter = row_type is DEAD_LETTERS
    return {
        "severity": (17, "ERROR") if is_letter else (9, "INFO"),
        "ids": {},
        "body": _flow_line(row) if row_type is FLOWS else row["reason"] if is_letter else None,
        "attributes": _values(row_type, row),
    }


def value_of(value: AnyValue) -> Any:
    """Return a value as Python's; None if it has none."""
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)


def _attributes(pairs: Any) -> dict[str, Any]:
    found: list[KeyValue] = list(pairs)
    return {pair.key: value_of(pair.value) for pair in found}


def _values(row_type: RowType, row: Mapping[str, Any]) -> dict[str, Any]:
    flat = document(row_type, row)
    if row_type is not FLOWS:
        known = _OF_ROLLUPS if row_type is ROLLUPS else {}
        return {known.get(name, f"blobtide.{name}"): value for name, value in flat.items() if name != row_type.time}
    found = {name: _inside(ecs_document(row), path) for name, path in _ECS.items()}
    own = {f"blobtide.{name}": value for name, value in flat.items() if name not in _COVERED}
    direction = _DIRECTIONS.get(row["direction"])
    values = {**found, "network.io.direction": direction, "cloud.resource_id": row["target_id"], **own}
    return {name: value for name, value in values.items() if value is not None}


def _inside(document: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        document = document.get(name, {})
    return None if document == {} else document


def _flow_line(row: Mapping[str, Any]) -> str:
    ends = [f"{_bracketed(row[f'{side}_ip'])}:{row[f'{side}_port']}" for side in ("src", "dst")]
    words = [row["action"], row["direction"], PROTOCOLS.get(row["protocol"], str(row["protocol"])), " -> ".join(ends)]
    return " ".join(word for word in words if word is not None)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _uid(row_type: RowType, row: Mapping[str, Any]) -> str:
    source, generation, offset, index = row_type.position.names
    named = {"blob": row[source], "generation": row[generation], "record_offset": row[offset], "tuple_index": row[index]}
    return document_id(named)
