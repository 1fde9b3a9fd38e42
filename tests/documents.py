"""What a row should look like as a document, written down row by row and apart from the code under test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import xxhash

TRANSPORTS = {
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


def flat_document(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of `tests.flows` without nulls and with times as text."""
    times = {"time": iso(row["time"] * 1_000_000, 3)}
    if row["record_time"] is not None:
        times["record_time"] = iso(row["record_time"], 7)
    return {name: value for name, value in (dict(row) | times).items() if value is not None}


def document_id(row: Mapping[str, Any]) -> str:
    """Return the id of a row's document."""
    source = xxhash.xxh128_hexdigest(f"{row['blob']}\0{row['generation']}".encode())
    return f"{source}-{row['record_offset']}-{row['tuple_index']}"


def ecs_document(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ECS document of a row."""
    inbound, outbound = row["direction"] == "inbound", row["direction"] == "outbound"
    mac = None if row["mac"] is None else "-".join(row["mac"][at : at + 2] for at in range(0, len(row["mac"]), 2))
    source = {"ip": row["src_ip"], "port": row["src_port"], "packets": row["packets_sent"], "bytes": row["bytes_sent"]}
    target = {"ip": row["dst_ip"], "port": row["dst_port"], "packets": row["packets_received"], "bytes": row["bytes_received"]}
    document = {
        "@timestamp": iso(row["time"] * 1_000_000, 3),
        "ecs": {"version": "8.17.0"},
        "event": {"kind": "event", "category": ["network"], "type": _event_type(row), "action": _event_action(row)},
        "source": source | {"mac": mac if outbound else None},
        "destination": target | {"mac": mac if inbound else None},
        "network": {
            "iana_number": str(row["protocol"]),
            "transport": TRANSPORTS.get(row["protocol"]),
            "type": "ipv6" if ":" in row["src_ip"] else "ipv4",
            "direction": "ingress" if inbound else "egress" if outbound else None if row["direction"] is None else "unknown",
            "packets": _sum(row["packets_sent"], row["packets_received"]),
            "bytes": _sum(row["bytes_sent"], row["bytes_received"]),
        },
        "rule": {"name": row["rule"], "ruleset": row["acl_id"]},
        "cloud": {"provider": "azure", "account": {"id": _subscription(row["resource_id"])}},
        "blobtide": _own(row),
    }
    return _without_nulls(document)


def iso(nanoseconds: int, digits: int) -> str:
    """Return a time in UTC with so many digits of its second; with nine if seven are not enough."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    digits = 9 if digits == 7 and fraction % 100 else digits
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09}"[: 20 + digits] + "Z"


def _own(row: Mapping[str, Any]) -> dict[str, Any]:
    flow = {
        "state": row["state"],
        "encryption": row["encryption"],
        "category": row["category"],
        "version": row["flow_log_version"],
        "log_id": row["flow_log_id"],
        "resource_id": row["resource_id"],
        "target_id": row["target_id"],
        "system_id": row["system_id"],
        "record_time": None if row["record_time"] is None else iso(row["record_time"], 7),
    }
    return {"flow": flow, **{name: row[name] for name in ("blob", "generation", "record_offset", "tuple_index")}}


def _event_type(row: Mapping[str, Any]) -> list[str]:
    if row["action"] == "deny":
        return ["connection", "denied"]
    allowed = ["allowed"] if row["action"] == "allow" else []
    return ["connection", *allowed, *({"begin": ["start"], "end": ["end"]}.get(row["state"], []))]


def _event_action(row: Mapping[str, Any]) -> str | None:
    if row["action"] == "deny":
        return "flow-deny"
    what = row["state"] or row["action"]
    return f"flow-{what}" if what else None


def _sum(one: int | None, other: int | None) -> int | None:
    both = None if one is None or other is None else one + other
    return None if both is None or both >= 2**63 else both


def _subscription(resource_id: str | None) -> str | None:
    parts = (resource_id or "").split("/")
    return parts[2].lower() if len(parts) > 2 and parts[1].lower() == "subscriptions" and parts[2] else None


def _without_nulls(document: dict[str, Any]) -> dict[str, Any]:
    inside = {name: _without_nulls(value) if isinstance(value, dict) else value for name, value in document.items()}
    return {name: value for name, value in inside.items() if value is not None and value != {}}


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object of fields with dotted names."""
    document: dict[str, Any] = {}
    for name, value in fields.items():
        *parents, last = name.split(".")
        place = document
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return document


def flattened(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every field with its dotted name."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
