"""Flows as Elastic Common Schema documents.

Fields that ECS defines have ECS's names, types and values. Values without an ECS field are placed under ``blobtide.flow``, and
a row's origin under ``blobtide``. Nothing is invented: what the log does not state is absent from the document.

Values derived from dictionary-encoded columns are computed once per dictionary value, never once per row.
"""

from __future__ import annotations

import re
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.column_values import combined
from libs.common.rows.formats.ecs_values import constant, mapped, mapped_pairs, where

ECS_VERSION: Final = "8.17.0"

# Names as ECS spells them (lower case, as in the transport layer's registry); other numbers have no network.transport.
_TRANSPORTS: Final = {
    1: "icmp",
    2: "igmp",
    6: "tcp",
    17: "udp",
    41: "ipv6",
    47: "gre",
    50: "esp",
    51: "ah",
    58: "ipv6-icmp",
    132: "sctp",
}
_DIRECTIONS: Final = {"inbound": "ingress", "outbound": "egress"}  # as the host sees it
_DECISIONS: Final = {"allow": "allowed", "deny": "denied"}
_STATES: Final = {"begin": "start", "end": "end"}
_SUBSCRIPTION = re.compile(r"/subscriptions/([^/]+)", re.IGNORECASE)
_MAC = re.compile(r"[0-9A-F]{12}")
_FAMILIES: Final = pa.array(["ipv4", "ipv6"])
_LISTS: Final = pa.list_(pa.string())
# Made once: pyarrow looks for an optional module each time it makes a scalar, which costs as much as a column of a small batch.
_ZERO: Final = pa.scalar(0, pa.int64())
_NO_COUNT: Final = pa.scalar(None, pa.int64())

Columns = dict[str, pa.Array]

# Each ECS field and its type in the index. Documents have their fields in this order, and the template that
# `blobtide sink-setup elasticsearch` installs is made from this table.
FIELDS: Final[dict[str, str]] = {
    "@timestamp": "date",
    "ecs.version": "keyword",
    "event.kind": "keyword",
    "event.category": "keyword",
    "event.type": "keyword",
    "event.action": "keyword",
    "source.ip": "ip",
    "source.port": "long",
    "source.packets": "long",
    "source.bytes": "long",
    "source.mac": "keyword",
    "destination.ip": "ip",
    "destination.port": "long",
    "destination.packets": "long",
    "destination.bytes": "long",
    "destination.mac": "keyword",
    "network.iana_number": "keyword",
    "network.transport": "keyword",
    "network.type": "keyword",
    "network.direction": "keyword",
    "network.packets": "long",
    "network.bytes": "long",
    "rule.name": "keyword",
    "rule.ruleset": "keyword",
    "cloud.provider": "keyword",
    "cloud.account.id": "keyword",
    "blobtide.flow.state": "keyword",
    "blobtide.flow.encryption": "keyword",
    "blobtide.flow.category": "keyword",
    "blobtide.flow.version": "short",
    "blobtide.flow.log_id": "keyword",
    "blobtide.flow.resource_id": "keyword",
    "blobtide.flow.target_id": "keyword",
    "blobtide.flow.system_id": "keyword",
    "blobtide.flow.record_time": "date_nanos",
    "blobtide.blob": "keyword",
    "blobtide.generation": "keyword",
    "blobtide.record_offset": "long",
    "blobtide.tuple_index": "integer",
}


def ecs_columns(flows: pa.Table) -> Columns:
    """Return flows as columns with ECS names in the order of `FIELDS`, for `json_documents`; dots nest. Each is one array."""
    batch = {name: combined(flows, name) for name in flows.column_names}
    columns = {
        "@timestamp": batch["time"],
        **_event(batch),
        **network_columns(batch),
        **_ends(batch),
        **_rule(batch),
        **_own(batch),
    }
    return {name: columns[name] for name in FIELDS}


def _event(flows: Columns) -> Columns:
    rows = len(flows["time"])
    outcome = flows["action"], flows["state"]
    return {
        "ecs.version": constant(ECS_VERSION, rows),
        "event.kind": constant("event", rows),
        "event.category": constant(["network"], rows, _LISTS),
        "event.type": mapped_pairs(outcome, event_type, _LISTS),
        "event.action": mapped_pairs(outcome, _event_action),
    }


def event_type(action: str | None, state: str | None) -> list[str]:
    """Return the types of an event in ECS's words."""
    # A denied NSG tuple carries the state "begin", but nothing began.
    decision = [_DECISIONS[action]] if action in _DECISIONS else []
    change = [_STATES[state]] if state in _STATES and action != "deny" else []
    return ["connection", *decision, *change]


def _event_action(action: str | None, state: str | None) -> str | None:
    what = action if action == "deny" or state is None else state
    return None if what is None else f"flow-{what}"


def network_columns(flows: Columns) -> Columns:
    """Return the fields of the network, of rows with the columns of flows."""
    protocol = flows["protocol"].dictionary_encode()
    return {
        "network.iana_number": mapped(protocol, str),
        "network.transport": mapped(protocol, _TRANSPORTS.get),
        "network.type": _network_type(flows["src_ip"]),
        "network.direction": mapped(flows["direction"], lambda code: _DIRECTIONS.get(code, "unknown")),
        "network.packets": _sum(flows["packets_sent"], flows["packets_received"]),
        "network.bytes": _sum(flows["bytes_sent"], flows["bytes_received"]),
    }


def _sum(one: pa.Array, other: pa.Array) -> pa.Array:
    """Add counters. Null if either is null, since half a sum would look like the whole, or if the sum does not fit a long."""
    both = pc.add(one, other)
    return pc.if_else(pc.less(both, _ZERO), _NO_COUNT, both)  # counters are never negative, so a negative sum has wrapped


def _network_type(address: pa.Array) -> pa.Array:
    six = pc.match_substring(address, ":").cast(pa.int32())
    return pa.DictionaryArray.from_arrays(six, _FAMILIES)


def _ends(flows: Columns) -> Columns:
    """Return the address, port and counters of both ends and, for the end with the network interface, its MAC."""
    mac = mapped(flows["mac"], _ecs_mac)
    return {
        "source.ip": flows["src_ip"],
        "source.port": flows["src_port"],
        "source.packets": flows["packets_sent"],
        "source.bytes": flows["bytes_sent"],
        "source.mac": where(mac, flows["direction"], "outbound"),
        "destination.ip": flows["dst_ip"],
        "destination.port": flows["dst_port"],
        "destination.packets": flows["packets_received"],
        "destination.bytes": flows["bytes_received"],
        "destination.mac": where(mac, flows["direction"], "inbound"),
    }


def _ecs_mac(mac: str) -> str:
    return "-".join(re.findall("..", mac)) if _MAC.fullmatch(mac) else mac


def _rule(flows: Columns) -> Columns:
    return {
        "rule.name": flows["rule"],
        "rule.ruleset": flows["acl_id"],
        "cloud.provider": constant("azure", len(flows["time"])),
        "cloud.account.id": mapped(flows["resource_id"], subscription_of),
    }


def subscription_of(resource_id: str) -> str | None:
    """Return the subscription in the id of an Azure resource, in lower case; None if there is none."""
    found = _SUBSCRIPTION.match(resource_id)
    return found[1].lower() if found else None


def _own(flows: Columns) -> Columns:
    return {
        "blobtide.flow.state": flows["state"],
        "blobtide.flow.encryption": flows["encryption"],
        "blobtide.flow.category": flows["category"],
        "blobtide.flow.version": flows["flow_log_version"],
        "blobtide.flow.log_id": flows["flow_log_id"],
        "blobtide.flow.resource_id": flows["resource_id"],
        "blobtide.flow.target_id": flows["target_id"],
        "blobtide.flow.system_id": flows["system_id"],
        "blobtide.flow.record_time": flows["record_time"],
        "blobtide.blob": flows["blob"],
        "blobtide.generation": flows["generation"],
        "blobtide.record_offset": flows["record_offset"],
        "blobtide.tuple_index": flows["tuple_index"],
    }
