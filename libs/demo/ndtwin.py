"""The network of an estate as NDTwin's kernel would show it: the flows that it has just detected, and its graph. Pure.

Addresses are numbers in network byte order, as the kernel writes them. The same second gives the same answer.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, Final

from libs.demo.inventory import Nic

FLOWS_PATH: Final = "/ndt/get_detected_flow_data"
GRAPH_PATH: Final = "/ndt/get_graph_data"
_SWITCH: Final = 0
_HOST: Final = 1
_TCP: Final = 6
_PORT: Final = 443
_FIRST_PORT: Final = 40_000
_LINK_BPS: Final = 1_000_000_000
_BITS_PER_PACKET: Final = 8_000
_FLOW_SECONDS: Final = 60


def flow_data(nics: Sequence[Nic], second: int) -> list[dict[str, Any]]:
    """Return the flows detected in a second: one from each interface to the next one."""
    return [_flow(nic, nics[(at + 1) % len(nics)], second) for at, nic in enumerate(nics)]


def graph_data(nics: Sequence[Nic], second: int) -> dict[str, Any]:
    """Return the graph in a second: a switch for each place, and the interfaces at it."""
    switches = dict.fromkeys(nic.site.number for nic in nics)
    nodes = [*(_switch(number) for number in switches), *(_host(nic) for nic in nics)]
    return {"nodes": nodes, "edges": [edge for at in range(len(nics)) for edge in _edges(nics, at, second)]}


def _flow(source: Nic, target: Nic, second: int) -> dict[str, Any]:
    began = second - second % _FLOW_SECONDS
    rate, before = _rate(source, second), _rate(source, second - 1)
    path = [_address(source.address4), _dpid(source.site.number), _address(target.address4)]
    return {
        **_key(source, target),
        "protocol_id": _TCP,
        "estimated_flow_sending_rate_bps_in_the_last_sec": rate,
        "estimated_flow_sending_rate_bps_in_the_proceeding_1sec_timeslot": before,
        "estimated_packet_rate_in_the_last_sec": rate // _BITS_PER_PACKET,
        "estimated_packet_rate_in_the_proceeding_1sec_timeslot": before // _BITS_PER_PACKET,
        "first_sampled_time": _time(began),
        "latest_sampled_time": _time(second),
        "path": [{"node": node, "interface": at} for at, node in enumerate(path)],
    }


def _key(source: Nic, target: Nic) -> dict[str, int]:
    ports = {"src_port": _FIRST_PORT + source.number, "dst_port": _PORT}
    return {"src_ip": _address(source.address4), "dst_ip": _address(target.address4), **ports}


def _switch(number: int) -> dict[str, Any]:
    return _node(f"switch-{number}", _SWITCH, dpid=_dpid(number), ip=[], mac=0, device_layer=1)


def _host(nic: Nic) -> dict[str, Any]:
    return _node(f"vm-{nic.number}", _HOST, dpid=0, ip=[_address(nic.address4)], mac=int(nic.mac, 16), device_layer=2)


def _node(name: str, kind: int, **more: Any) -> dict[str, Any]:
    return {"device_name": name, "vertex_type": kind, **more, "is_enabled": True, "is_up": True, "brand_name": "demo"}


def _edges(nics: Sequence[Nic], at: int, second: int) -> Iterator[dict[str, Any]]:
    """Yield the link from an interface to its switch, and the way back."""
    nic, target, source = nics[at], nics[(at + 1) % len(nics)], nics[at - 1]
    host = {"dpid": 0, "ip": [_address(nic.address4)], "interface": 0}
    switch = {"dpid": _dpid(nic.site.number), "ip": [], "interface": 1 + nic.number}
    yield _edge(host, switch, {**_key(nic, target), "protocol_number": _TCP}, _rate(nic, second))
    yield _edge(switch, host, {**_key(source, nic), "protocol_number": _TCP}, _rate(source, second))


def _edge(begin: dict[str, Any], end: dict[str, Any], flow: dict[str, int], rate: int) -> dict[str, Any]:
    return {
        **{f"src_{name}": value for name, value in begin.items()},
        **{f"dst_{name}": value for name, value in end.items()},
        "flow_set": [flow],
        "is_enabled": True,
        "is_up": True,
        "left_link_bandwidth_bps": _LINK_BPS - rate,
        "link_bandwidth_bps": _LINK_BPS,
        "link_bandwidth_usage_bps": rate,
        "link_bandwidth_utilization_percent": round(100 * rate / _LINK_BPS, 2),
    }


def _rate(source: Nic, second: int) -> int:
    digest = blake2b(f"{source.mac} {second}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) % (_LINK_BPS // 2)


def _dpid(number: int) -> int:
    return 1 + number


def _address(address: str) -> int:
    return int.from_bytes(ipaddress.IPv4Address(address).packed, "little")


def _time(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second))
