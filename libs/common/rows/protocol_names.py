"""Readable names for IANA protocol numbers, column by column."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

_PROTOCOLS: Final = {
    1: "ICMP",
    2: "IGMP",
    4: "IPIP",
    6: "TCP",
    17: "UDP",
    41: "IPv6",
    47: "GRE",
    50: "ESP",
    51: "AH",
    58: "ICMPv6",
    132: "SCTP",
}
_NAMES: Final = pa.array([_PROTOCOLS.get(number, str(number)) for number in range(256)], pa.string())


def protocol_names(numbers: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return the name of each protocol number (uint8), or the number as text if it has no well-known name."""
    return _NAMES.take(numbers)
