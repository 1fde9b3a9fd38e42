"""How tokens for brokers that ask for OAUTHBEARER are had: from an OpenID Connect provider, with the secret of a client."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from libs.common.settings.base import Group


class OAuthSettings(Group):
    """Of the OAuth 2.0 client credentials grant."""

    token_url: str = Field(default="", description="Token endpoint of the provider; used if sasl_mechanism is OAUTHBEARER.")
    client_id: str = Field(default="", description="Client id that the provider knows.")
    client_secret: SecretStr = Field(default=SecretStr(""), description="Client secret.")
    client_secret_file: Path | None = Field(default=None, description="File that holds the client secret; read at the start.")
    scope: str = Field(default="", description="Scope to ask for; some providers want one.")
    ca_location: Path | None = Field(
        default=None, description="CA certificates (PEM) of the token endpoint, if not those of the machine."
    )

    @field_validator("client_secret_file", "ca_location", mode="before")
    @classmethod
    def _none_if_empty(cls, file: object) -> object:
        return None if file == "" else file  # how a variable takes back what stands in the settings file
