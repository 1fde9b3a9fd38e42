"""Settings that weaken the protection of a connection. They must be given explicitly: no default is unsafe."""

from __future__ import annotations

from pydantic import Field

from libs.common.settings.base import Group


class PlaintextSettings(Group):
    """For anything that sends credentials; `libs.common.security.transport` refuses what is not allowed here."""

    allow_plaintext_credentials: bool = Field(
        default=False, description="Allow sending credentials over connections without TLS. Use only in a trusted network."
    )


class TransportSettings(PlaintextSettings):
    """For anything that also verifies server certificates."""

    verify: bool = Field(
        default=True,
        description="Verify server certificates. If false, anyone can impersonate the server, and every start logs a warning.",
    )
