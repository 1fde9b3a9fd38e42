"""The peer: a naive parser with one dictionary per tuple and only the standard library."""

from __future__ import annotations

import json
from typing import Any

from libs.common.messages.segments import Segment

_FIELDS = (
    "time", "src_ip", "dst_ip", "src_port", "dst_port", "protocol", "direction", "state", "encryption",
    "packets_sent", "bytes_sent", "packets_received", "bytes_received",
)  # fmt: skip
_NUMBERS = ("time", "src_port", "dst_port", "protocol")
_COUNTERS = _FIELDS[-4:]


def records_text(segment: Segment) -> bytes:
    """Return the records of a segment as one JSON array."""
    return b"[" + segment.data.removeprefix(b'{"records":[').strip(b",") + b"]"


def documents(segment: Segment) -> list[Any]:
    """Return the records of a segment, using only `json.loads`."""
    records: list[Any] = json.loads(records_text(segment))
    return records


def rows(segment: Segment) -> list[dict[str, Any]]:
    """Return one dictionary per tuple, including the facts from its record."""
    return [
        _row(text, record, flow["aclID"], group["rule"], index)
        for record in documents(segment)
        for flow in record["flowRecords"]["flows"]
        for group in flow["flowGroups"]
        for index, text in enumerate(group["flowTuples"])
    ]


def _row(text: str, record: dict[str, Any], acl: str, rule: str, index: int) -> dict[str, Any]:
    row: dict[str, Any] = dict(zip(_FIELDS, text.split(","), strict=False))
    for name in _NUMBERS:
        row[name] = int(row[name])
    for name in _COUNTERS:
        row[name] = int(row[name]) if row.get(name) else None
    row.update(acl_id=acl, rule=rule, mac=record["macAddress"], record_time=record["time"], tuple_index=index)
    row.update(flow_log_id=record["flowLogGUID"], target_id=record["targetResourceID"], category=record["category"])
    return row
