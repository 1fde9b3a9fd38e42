"""The addresses that an estate's interfaces talk to, each as written in the log and in normalised form.

Public addresses come from the ranges reserved for documentation and benchmarks. IPv6 addresses are written in several ways.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from libs.demo.arrays import Flags, Ints
from libs.demo.inventory import Nic

PEERS4: Final = 4096
PEERS6: Final = 256
_FIRST_OF_OWN: Final = PEERS4 + PEERS6
_BENCHMARK_NETWORK: Final = int(ipaddress.IPv4Address("198.18.0.0"))
_BENCHMARK_SIZE: Final = 1 << 17
_DOCUMENTATION_NETWORK6: Final = int(ipaddress.IPv6Address("2001:db8::"))


@dataclass(frozen=True, slots=True)
class Addresses:
    """All addresses by number: IPv4 peers, IPv6 peers, then the IPv4 and IPv6 addresses of every interface."""

    written: pa.Array
    normal: pa.Array


def own_address(nic: Ints, is6: Flags) -> Ints:
    """Return the address numbers of interfaces, which are given by their number in the estate."""
    number: Ints = _FIRST_OF_OWN + 2 * nic + is6
    return number


def make_addresses(seed: int, nics: Sequence[Nic]) -> Addresses:
    """Return the addresses of an estate."""
    rng = np.random.default_rng([seed, 1])
    public = rng.choice(_BENCHMARK_SIZE, PEERS4, replace=False) + _BENCHMARK_NETWORK
    peers4 = [str(ipaddress.IPv4Address(number)) for number in public.tolist()]
    low_bits = rng.integers(0, 1 << 48, PEERS6).tolist()
    peers6 = [ipaddress.IPv6Address(_DOCUMENTATION_NETWORK6 + (n << 80) + low) for n, low in enumerate(low_bits)]
    own = [address for nic in nics for address in (nic.address4, nic.address6)]
    return Addresses(
        written=pa.array([*peers4, *(_written(n, address) for n, address in enumerate(peers6)), *own]),
        normal=pa.array([*peers4, *map(str, peers6), *own]),
    )


def _written(number: int, address: ipaddress.IPv6Address) -> str:
    match number % 8:
        case 5:
            return address.exploded.upper()
        case 6:
            return address.exploded
        case 7:
            return f"[{address}]"
        case _:
            return str(address)
