"""Normalise IP addresses of whole columns: each distinct one is examined once, and rewritten only if it is IPv6. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_LONGEST = 64  # no address is longer; the cache must not grow with whatever is written into a log
_IPV4 = rf"^(?:{_OCTET}\.){{3}}{_OCTET}$"


def normalised(columns: Sequence[pa.Array]) -> list[pa.Array]:
    """Return the strings of `columns` in canonical form; anything that is not an IP address becomes null.

    IPv4 is dotted decimal without leading zeros. IPv6 may stand in brackets; zones are refused.
    """
    # Addresses recur, as source and as destination: finding the distinct ones costs less than matching all of them.
    encoded = pa.chunked_array(columns).dictionary_encode().chunks
    addresses = encoded[-1].dictionary  # shared by all chunks
    unusual = pc.invert(pc.match_substring_regex(addresses, _IPV4))
    found = addresses.filter(unusual).to_pylist()
    canonical = [_canonical(text) if len(text) <= _LONGEST else None for text in found]
    if canonical == found:
        return list(columns)
    replaced = pc.replace_with_mask(addresses, unusual, pa.array(canonical, pa.string()))
    return [replaced.take(column.indices) for column in encoded]


@lru_cache(maxsize=65_536)
def _canonical(text: str) -> str | None:
    if text.startswith("[") and text.endswith("]") and ":" in text:
        text = text[1:-1]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.scope_id is not None:
        return None
    # How mapped addresses print differs between Python versions; RFC 5952 asks for the mixed form.
    return f"::ffff:{address.ipv4_mapped}" if address.ipv4_mapped else str(address)
