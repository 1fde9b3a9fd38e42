"""Settings of a connection that give up a part of its protection. They must be given: nothing unsafe is a default."""

from __future__ import annotations

from pydantic import Field

from libs.common.settings.base import Group


class PlaintextSettings(Group):
    """Of whatever signs in somewhere; `libs.common.security.transport` refuses what is not allowed here."""

    allow_plaintext_credentials: bool = Field(
        default=False, description="Send credentials also over a connection without TLS: only in a network that is trusted."
    )


class TransportSettings(PlaintextSettings):
    """Of whatever also checks certificates that may be nobody's."""

    verify: bool = Field(
        default=True,
        description="Check the certificates of servers. false: anybody may pose as the server; warned of at every start.",
    )
