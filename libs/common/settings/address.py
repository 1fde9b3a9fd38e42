"""Addresses of servers in settings: a URL without user, password, query or fragment, and with a plausible port."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit


def split_address(address: str, schemes: Collection[str], form: str) -> SplitResult:
    """Return the parts of an address. `form` shows what a correct one looks like.

    Raises:
        ValueError: if it is not an address of one of the schemes. The text never quotes it, as it may contain a password.
    """
    try:
        parts = urlsplit(address)
    except ValueError:
        raise ValueError(f"give addresses as {form}") from None
    if "@" in parts.netloc:
        raise ValueError("give user and password as username and password (or password_file), not in the address")
    if parts.scheme not in schemes or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"give addresses as {form}")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("the port must be a number from 1 to 65535")
    return parts
