"""IP addresses of whole columns: checked at once, rewritten only where they are IPv6. Pure."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = rf"^(?:{_OCTET}\.){{3}}{_OCTET}$"


def normalised(column: pa.Array) -> pa.Array:
    """Return the strings of `column` in canonical form; what is no IP address becomes null.

    IPv4 is dotted decimal without leading zeros. IPv6 may stand in brackets; zones are refused.
    """
    usual = pc.match_substring_regex(column, _IPV4)
    if pc.all(usual, min_count=0).as_py():
        return column
    encoded = column.dictionary_encode()
    canonical = pa.array([_canonical(text) for text in encoded.dictionary.to_pylist()], pa.string())
    return canonical.take(encoded.indices)


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
