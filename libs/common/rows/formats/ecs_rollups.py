"""Rollups as Elastic Common Schema documents: metrics of the network, with the fields of flows where they mean the same.

Values without an ECS field are placed under ``blobtide.rollup``, and a row's origin under ``blobtide``. Dimensions that an
aggregation does not have are absent from the document.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from libs.common.rows.column_values import combined
from libs.common.rows.formats.ecs import ECS_VERSION, event_type, network_columns, subscription_of
from libs.common.rows.formats.ecs_values import constant, mapped, mapped_pairs

_LISTS: Final = pa.list_(pa.string())

_DERIVED: Final = {
    "ecs.version": "keyword",
    "event.kind": "keyword",
    "event.category": "keyword",
    "event.type": "keyword",
    "network.iana_number": "keyword",
    "network.transport": "keyword",
    "network.type": "keyword",
    "network.direction": "keyword",
    "network.packets": "long",
    "network.bytes": "long",
    "cloud.provider": "keyword",
    "cloud.account.id": "keyword",
}
_COLUMNS: Final = {
    "event.start": ("date", "first_time"),
    "event.end": ("date", "last_time"),
    "source.ip": ("ip", "src_ip"),
    "source.packets": ("long", "packets_sent"),
    "source.bytes": ("long", "bytes_sent"),
    "destination.ip": ("ip", "dst_ip"),
    "destination.port": ("long", "dst_port"),
    "destination.packets": ("long", "packets_received"),
    "destination.bytes": ("long", "bytes_received"),
    "rule.name": ("keyword", "rule"),
    "rule.ruleset": ("keyword", "acl_id"),
    "blobtide.rollup.aggregation": ("keyword", "aggregation"),
    "blobtide.rollup.window_seconds": ("integer", "window_seconds"),
    "blobtide.rollup.local_ip": ("ip", "local_ip"),
    "blobtide.rollup.remote_ip": ("ip", "remote_ip"),
    "blobtide.rollup.encryption": ("keyword", "encryption"),
    "blobtide.rollup.mac": ("keyword", "mac"),
    "blobtide.rollup.resource_id": ("keyword", "resource_id"),
    "blobtide.rollup.target_id": ("keyword", "target_id"),
    "blobtide.rollup.flows_begun": ("long", "flows_begun"),
    "blobtide.rollup.flows_continuing": ("long", "flows_continuing"),
    "blobtide.rollup.flows_ended": ("long", "flows_ended"),
    "blobtide.rollup.flows_denied": ("long", "flows_denied"),
    "blobtide.rollup.tuples": ("long", "tuples"),
    "blobtide.rollup.peers": ("keyword", "peers"),
    "blobtide.rollup.weight": ("double", "weight"),
    "blobtide.source": ("keyword", "source"),
    "blobtide.generation": ("keyword", "generation"),
    "blobtide.record_offset": ("long", "record_offset"),
    "blobtide.tuple_index": ("integer", "tuple_index"),
}


def rollup_fields() -> dict[str, str]:
    """Return the type in the index of each field, in the order in which documents have them."""
    return {"@timestamp": "date", **_DERIVED, **{name: kind for name, (kind, _) in _COLUMNS.items()}}


def rollup_columns(rollups: pa.Table) -> dict[str, pa.Array]:
    """Return rollups as columns with ECS names in the order of `rollup_fields`; dots nest. Each is one array."""
    batch = {name: combined(rollups, name) for name in rollups.column_names}
    rows = rollups.num_rows
    columns = {
        "@timestamp": batch["time"],
        "ecs.version": constant(ECS_VERSION, rows),
        "event.kind": constant("metric", rows),
        "event.category": constant(["network"], rows, _LISTS),
        "event.type": mapped_pairs((batch["action"], batch["action"]), lambda action, _: event_type(action, None), _LISTS),
        **network_columns(batch),
        "cloud.provider": constant("azure", rows),
        "cloud.account.id": mapped(batch["resource_id"], subscription_of),
        **{name: batch[column] for name, (_, column) in _COLUMNS.items()},
    }
    return {name: columns[name] for name in rollup_fields()}
