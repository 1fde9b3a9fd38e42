"""Guard credentials: none is sent over an unencrypted connection unless a setting allows it.

Whatever protection a setting gives up is logged each time a process starts, and shown in a metric. Addresses of this machine
are exempt if the server does not refer clients to other addresses: what is sent to them does not cross a network.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from ipaddress import ip_address
from typing import Final, Protocol
from urllib.parse import urlsplit

import structlog
from prometheus_client import Gauge

from libs.common.errors import ConfigError

log = structlog.get_logger(__name__)

UNPROTECTED: Final = Gauge(
    "blobtide_unprotected_connections",
    "1 while a setting gives up protection: `lacks` is encryption (of credentials) or verification (of certificates).",
    ["to", "lacks"],
)


class Permission(Protocol):
    """Settings that say whether credentials may be sent unencrypted."""

    @property
    def allow_plaintext_credentials(self) -> bool:
        """Whether credentials may be sent unencrypted."""


class Verification(Permission, Protocol):
    """Settings that also say whether certificates of servers are verified."""

    @property
    def verify(self) -> bool:
        """Whether certificates of servers are verified."""


class Lack(StrEnum):
    """A protection that a connection lacks."""

    ENCRYPTION = "encryption"
    VERIFICATION = "verification"


_SAID: Final = {
    Lack.ENCRYPTION: "credentials are sent over unencrypted connections (allow_plaintext_credentials: true)",
    Lack.VERIFICATION: "server certificates are not verified (verify: false): anyone can impersonate the server",
}
_NOTED: Final[set[tuple[str, Lack]]] = set()


def guard_credentials(to: str, plain: Iterable[str], settings: Permission) -> None:
    """Check that the settings allow credentials to be sent to the addresses in `plain`, which do not use TLS.

    Raises:
        ConfigError: if they do not.
    """
    addresses = ", ".join(plain)
    if not addresses:
        return
    if not settings.allow_plaintext_credentials:
        raise ConfigError(
            f"{to}: credentials would go to {addresses} unencrypted; use TLS, or set allow_plaintext_credentials: true"
            " if everyone on the way may read them"
        )
    note(to, Lack.ENCRYPTION)


def guard_addresses(to: str, urls: Iterable[str], settings: Verification, *, signs_in: bool) -> None:
    """Check what the settings allow for HTTP to `urls`: credentials, if there are any, and certificates that are not verified.

    Raises:
        ConfigError: if credentials would go to one of them unencrypted, and the settings do not allow it.
    """
    addresses = tuple(urls)
    if signs_in:
        guard_credentials(to, [url for url in addresses if is_plain(url, "https")], settings)
    if not settings.verify and any(url.startswith("https:") for url in addresses):
        note(to, Lack.VERIFICATION)


def note(to: str, lack: Lack) -> None:
    """Log once per process, and show in the metric, that connections to `to` lack a protection."""
    UNPROTECTED.labels(to, lack.value).set(1)
    if (to, lack) not in _NOTED:
        _NOTED.add((to, lack))
        log.warning(_SAID[lack], to=to)


def is_plain(url: str, encrypted: str) -> bool:
    """Return whether traffic to `url` can be read on a network: its scheme is not `encrypted` and its host not this machine."""
    parts = urlsplit(url)
    return parts.scheme != encrypted and not is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Return whether a host (name or address) is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
