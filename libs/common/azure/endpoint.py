"""The address of a service of Azure."""

from __future__ import annotations

from dataclasses import dataclass

from libs.common.security.transport import is_loopback


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a service: of a storage account, for example."""

    scheme: str
    host: str
    port: int | None
    path: str  # "" or, for emulators, "/account"

    @property
    def origin(self) -> str:
        """The address without the path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}" if self.port else f"{self.scheme}://{host}"

    @property
    def is_loopback(self) -> bool:
        """Return whether it is on this machine; a proxy would look for it on its own machine."""
        return is_loopback(self.host)
