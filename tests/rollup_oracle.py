"""Rollups summed up row by row in plain Python, written from their description alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from libs.common.rows.types.rollups import DIMENSIONS

COUNTERS = ("packets_sent", "bytes_sent", "packets_received", "bytes_received")
Row = Mapping[str, Any]


def rolled_up(name: str, window_seconds: int, dimensions: Sequence[str], flows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return the rollups of flows as `tests.flows.row` makes them, in the order of their positions; without `peers`.

    `flows` are whole records, one after another.
    """
    groups: dict[Any, list[dict[str, Any]]] = {}
    for flow in flows:
        sided = {**flow, **sides(flow)}
        start = flow["time"] // (window_seconds * 1_000) * window_seconds * 1_000
        record = (flow["blob"], flow["generation"], flow["record_offset"])
        groups.setdefault((record, start, *(sided[one] for one in dimensions)), []).append(sided)
    return [_rollup(name, window_seconds, dimensions, key[1], group) for key, group in groups.items()]


def sides(flow: Row) -> dict[str, Any]:
    """Return the addresses of the interface and of the other side."""
    ends = (flow["src_ip"], flow["dst_ip"])
    local, remote = {"outbound": ends, "inbound": ends[::-1]}.get(flow["direction"], (None, None))
    return {"local_ip": local, "remote_ip": remote}


def _rollup(name: str, window: int, dimensions: Sequence[str], start: int, group: list[dict[str, Any]]) -> dict[str, Any]:
    first, times = group[0], [flow["time"] for flow in group]
    return {
        "time": start,
        "window_seconds": window,
        "aggregation": name,
        **{column.name: first[column.name] if column.name in dimensions else None for column in DIMENSIONS},
        **{counter: _total([flow[counter] for flow in group]) for counter in COUNTERS},
        "flows_begun": _count(group, "begin"),
        "flows_continuing": _count(group, "continuing"),
        "flows_ended": _count(group, "end"),
        "flows_denied": sum(map(_is_denied, group)),
        "tuples": len(group),
        "first_time": min(times),
        "last_time": max(times),
        "weight": 1.0,
        "source": f"{name}/{first['blob']}",
        "generation": first["generation"],
        "record_offset": first["record_offset"],
        "tuple_index": first["tuple_index"],
    }


def _is_denied(flow: Row) -> bool:
    return "deny" in {flow["action"], flow["state"]}


def _count(group: Iterable[Row], state: str) -> int:
    return sum(flow["state"] == state and not _is_denied(flow) for flow in group)


def _total(values: list[int | None]) -> int | None:
    stated = [value for value in values if value is not None]
    return min(sum(stated), 2**63 - 1) if stated else None
