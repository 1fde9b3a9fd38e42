"""Rows for tests: small tables of the flow schema whose every value follows from the row's identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from libs.common.rows.types.flows import FLOW_SCHEMA, FLOWS
from services.sinks.frame.contract import Part

Identity = tuple[str, str, int, int]
MINUTE_MS = 60_000
START_MS = 1_777_636_800_000  # 2026-05-01T12:00:00Z
_RESOURCE = "/SUBSCRIPTIONS/S/RESOURCEGROUPS/R/PROVIDERS/MICROSOFT.NETWORK/NETWORKSECURITYGROUPS/N"


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a row stands: blob number, generation number, record number in the blob, tuple in the record."""

    blob: int
    record: int
    tuple_index: int
    generation: int = 0


def row(spot: Spot, **changes: object) -> dict[str, Any]:
    """Return the row at `spot`, with `changes`."""
    n = spot.blob * 7 + spot.record * 3 + spot.tuple_index
    values: dict[str, Any] = {
        "time": START_MS + spot.record * MINUTE_MS + spot.tuple_index,
        "src_ip": f"10.{spot.blob}.0.4",
        "dst_ip": "2001:db8::1" if n % 5 == 4 else f"52.0.{n % 3}.7",
        "src_port": 40_000 + n,
        "dst_port": (443, 53, 22)[n % 3],
        "protocol": (6, 17, 6)[n % 3],
        "direction": ("outbound", "inbound")[n % 2],
        "action": "deny" if n % 7 == 6 else "allow",
        "state": (None, "begin", "continuing", "end")[n % 4],
        "encryption": (None, "NX", "NX_HW_NOT_SUPPORTED")[n % 3],
        "packets_sent": None if n % 4 == 0 else n,
        "bytes_sent": None if n % 4 == 0 else n * 100,
        "packets_received": 0 if n % 4 == 1 else n + 1,
        "bytes_received": 0 if n % 4 == 1 else n * 200,
        "rule": ("DefaultRule_Allow", '=cmd, "quoted"\nrule')[n % 2],
        "acl_id": _RESOURCE,
        "mac": f"000D3A0000{spot.blob:02X}",
        "category": "FlowLogFlowEvent",
        "flow_log_version": 4,
        "flow_log_id": "66aa",
        "resource_id": _RESOURCE,
        "target_id": None,
        "system_id": None,
        "record_time": (START_MS + spot.record * MINUTE_MS) * 1_000_000 + 123_456_700,
        "blob": f"sub.env/insights-logs/y=2026/nic={spot.blob}/PT1H.json",
        "generation": f"g{spot.generation}",
        "record_offset": 20 + spot.record * 1_000,
        "tuple_index": spot.tuple_index,
    }
    return values | changes


def rows(blobs: int = 3, records: int = 3, tuples: int = 4) -> list[dict[str, Any]]:
    """Return rows of several blobs, record by record over all blobs, as a pipeline would see them grow."""
    return [row(Spot(blob, record, index)) for record in range(records) for blob in range(blobs) for index in range(tuples)]


def table(content: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Return rows as a table of the flow schema."""
    return pa.Table.from_pylist(list(content), schema=FLOW_SCHEMA)


def part(shard: int, content: Sequence[Mapping[str, Any]]) -> Part:
    """Return rows as a part of a write that came in one message."""
    return Part(shard, FLOWS, table(content).unify_dictionaries().combine_chunks(), (len(content),))


def identity(values: Mapping[str, Any]) -> Identity:
    """Return what identifies a row."""
    return values["blob"], values["generation"], values["record_offset"], values["tuple_index"]


def values_of(flows: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a table as `row` makes them: times as integers."""
    for name in ("time", "record_time"):
        at = flows.schema.get_field_index(name)
        flows = flows.set_column(at, name, flows.column(name).cast(pa.int64()))
    content: list[dict[str, Any]] = flows.to_pylist()
    return content


def by_identity(content: pa.Table | Sequence[Mapping[str, Any]]) -> dict[Identity, dict[str, Any]]:
    """Return rows as `row` makes them by identity, which must be distinct."""
    found = values_of(content) if isinstance(content, pa.Table) else [dict(values) for values in content]
    result = {identity(values): values for values in found}
    assert len(result) == len(found), "an identity stands twice"
    return result
