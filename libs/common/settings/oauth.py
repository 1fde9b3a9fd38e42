"""How to obtain tokens for brokers that require OAUTHBEARER: from an OpenID Connect provider, with a client secret."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from libs.common.settings.base import Group


class OAuthSettings(Group):
    """Settings of the OAuth 2.0 client credentials grant."""

    token_url: str = Field(default="", description="The provider's token endpoint; used if sasl_mechanism is OAUTHBEARER.")
    client_id: str = Field(default="", description="Client id registered with the provider.")
    client_secret: SecretStr = Field(default=SecretStr(""), description="Client secret.")
    client_secret_file: Path | None = Field(
        default=None, description="File that holds the client secret; read once, at start-up."
    )
    scope: str = Field(default="", description="Scope to request; some providers require one.")
    ca_location: Path | None = Field(
        default=None, description="CA certificates (PEM) for the token endpoint; default: the system's."
    )

    @field_validator("client_secret_file", "ca_location", mode="before")
    @classmethod
    def _none_if_empty(cls, file: object) -> object:
        return None if file == "" else file  # lets a variable unset what the settings file sets
