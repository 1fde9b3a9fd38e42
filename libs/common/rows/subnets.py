"""Which addresses of a column lie in given networks, for columns of text, IPv4 and IPv6.

Only the distinct addresses of a column are tested, all IPv4 addresses at once. Networks are stored as sorted, merged ranges of
addresses, so that one search finds the only range that may contain an address, however many networks there are.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.column_values import text_ends

_Addresses: TypeAlias = "np.ndarray[Any, Any]"  # of uint32 for IPv4, of 16 bytes for IPv6
_Bools: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"
_Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

_OCTET: Final = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4: Final = rf"^(?:{_OCTET}\.){{3}}{_OCTET}$"
_FEW_RANGES: Final = 8  # comparing with each takes less time than a search
_DOT: Final = (ord(".") - ord("0")) % 256
_AT_ONCE: Final = 8_192  # texts: what is worked on should stay in the processor's cache
_MAPPED: Final = bytes(10) + b"\xff\xff"  # the prefix of an IPv4-mapped IPv6 address
_MAPPED_BITS: Final = 96


@dataclass(frozen=True, slots=True, eq=False)
class _Ranges:
    """Address ranges of one family, ascending and without overlap; both ends are included."""

    first: _Addresses
    last: _Addresses

    @classmethod
    def of(cls, ranges: Iterable[tuple[Any, Any]], kind: str) -> Self:
        merged: list[tuple[Any, Any]] = []
        for first, last in sorted(ranges):
            if merged and first <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return cls(np.array([first for first, _ in merged], kind), np.array([last for _, last in merged], kind))

    def contain(self, addresses: _Addresses) -> _Bools:
        if len(self.first) > _FEW_RANGES:
            before = np.searchsorted(self.first, addresses, side="right")
            return (before > 0) & (addresses <= self.last[before - 1])
        inside = np.zeros(len(addresses), np.bool_)
        for first, last in zip(self.first, self.last, strict=True):
            inside |= (addresses >= first) & (addresses <= last)
        return inside


@dataclass(frozen=True, slots=True, eq=False)
class Networks:
    """A set of networks. An IPv4-mapped IPv6 address (``::ffff:10.0.0.1``) counts as the IPv4 address."""

    ipv4: _Ranges
    ipv6: _Ranges

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Read networks such as ``10.0.0.0/8``, ``2001:db8::/32`` or ``10.1.2.3``.

        Raises:
            ValueError: if a text is not a network or has host bits set; the message names it.
        """
        ipv4, ipv6 = [], []
        for network in map(_network, texts):
            if isinstance(network, ipaddress.IPv4Network):
                ipv4.append((int(network.network_address), int(network.broadcast_address)))
            else:
                ipv6.append((network.network_address.packed, network.broadcast_address.packed))
        return cls(_Ranges.of(ipv4, "uint32"), _Ranges.of(ipv6, "S16"))

    def contain(self, addresses: pa.DictionaryArray) -> pa.BooleanArray:
        """Return for each row whether its address is in one of the networks; null for a missing or invalid address."""
        return self.contain_each(addresses.dictionary).take(addresses.indices)

    def contain_each(self, texts: pa.StringArray) -> pa.BooleanArray:
        """Return for each text what `contain` returns for a row with it."""
        blocks = _all_ipv4(texts)
        if blocks is not None:
            return pa.array(np.concatenate([self.ipv4.contain(block) for block in blocks]), pa.bool_())
        plain = pc.fill_null(pc.match_substring_regex(texts, _IPV4), fill_value=False)
        is_plain = plain.to_numpy(zero_copy_only=False)
        inside, known = np.zeros(len(texts), np.bool_), is_plain.copy()
        if is_plain.any():
            inside[is_plain] = self.ipv4.contain(_ipv4_numbers(texts.filter(plain)))
        if not is_plain.all():
            inside[~is_plain], known[~is_plain] = self._contain_others(texts.filter(pc.invert(plain)).to_pylist())
        return pa.array(inside, pa.bool_(), mask=~known)

    def _contain_others(self, texts: Sequence[str | None]) -> tuple[_Bools, _Bools]:
        """Return which texts, none of them IPv4, are in one of the networks, and which are addresses at all."""
        packed = [_packed(text) for text in texts]
        inside = self.ipv6.contain(np.array([address or b"" for address in packed], "S16"))
        for place, address in enumerate(packed):
            if address is not None and address.startswith(_MAPPED):
                inside[place] = self.ipv4.contain(np.array([int.from_bytes(address[12:])], np.uint32))[0]
        return inside, np.array([address is not None for address in packed])


def _network(text: str) -> _Network:
    try:
        network = ipaddress.ip_network(text, strict=False)
        given = ipaddress.ip_address(text.split("/", maxsplit=1)[0])
    except ValueError:
        raise ValueError(f"{text!r} is not a network, such as '10.0.0.0/8' or '2001:db8::/32'") from None
    if "%" in text:
        raise ValueError(f"{text!r} has a zone, but a network has none")
    if network.network_address != given:
        raise ValueError(f"{text!r} has bits set after its prefix; did you mean '{network}'?")
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED_BITS)) if mapped else network
    return network


def _all_ipv4(texts: pa.StringArray) -> list[_Addresses] | None:
    """Return the texts as blocks of numbers if all of them are IPv4 addresses, as they usually are: faster than a pattern."""
    if texts.null_count or not len(texts):
        return None
    characters, offsets = _characters(texts)
    digits = characters - np.uint8(ord("0"))
    found = []
    for at in range(0, len(texts), _AT_ONCE):
        ends = offsets[at : at + _AT_ONCE + 1]
        numbers = _numbers(digits[ends[0] : ends[-1]], ends - ends[0])
        if numbers is None:
            return None
        found.append(numbers)
    return found


def _numbers(digits: _Addresses, offsets: _Addresses) -> _Addresses | None:
    """Return addresses as numbers, given all characters as digits (bytes, above 9 for what is none) and where texts end."""
    dots = np.flatnonzero(digits > 9)  # noqa: PLR2004 - the last digit
    if len(dots) != 3 * (len(offsets) - 1) or (digits[dots] != _DOT).any():
        return None
    edges = np.vstack((offsets[:-1] - 1, dots.reshape(-1, 3).T, offsets[1:])).astype(np.int64)  # around octets
    starts, lengths = edges[:-1] + 1, np.diff(edges, axis=0) - 1
    if lengths.min() < 1 or lengths.max() > 3:  # noqa: PLR2004 - also if a dot is not of the text that it would have to be of
        return None
    octets = digits.take(starts).astype(np.uint16)
    if ((lengths > 1) & (octets == 0)).any():
        return None
    for place in (1, 2):
        digit = digits.take(starts + place, mode="clip")
        octets = np.where(lengths > place, octets * np.uint16(10) + digit, octets)
    if octets.max() > 255:  # noqa: PLR2004 - the largest octet
        return None
    first, second, third, fourth = octets.astype(np.uint32)
    numbers: _Addresses = (first << 24) | (second << 16) | (third << 8) | fourth
    return numbers


def _ipv4_numbers(texts: pa.StringArray) -> _Addresses:
    """Return IPv4 addresses, known to be well-formed, as numbers."""
    blocks = _all_ipv4(texts)
    assert blocks is not None  # noqa: S101 - by the pattern
    return np.concatenate(blocks)


def _characters(texts: pa.StringArray) -> tuple[_Addresses, _Addresses]:
    """Return the bytes of all texts, and where they begin and end."""
    data, offsets = texts.buffers()[2], text_ends(texts)
    characters = np.frombuffer(b"" if data is None else data, np.uint8)[offsets[0] : offsets[-1]]
    return characters, offsets - offsets[0]


def _packed(text: str | None) -> bytes | None:
    """Return the bytes of an IPv6 address."""
    try:
        return socket.inet_pton(socket.AF_INET6, text) if text else None
    except (OSError, ValueError):  # a NUL in the text is a ValueError
        return None
