"""Settings that weaken the protection of a connection. They must be given explicitly: no default is unsafe."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from libs.common.errors import ConfigError
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


class TlsSettings(TransportSettings):
    """For anything whose certificates come from files: those of authorities, and perhaps one of our own to sign in with."""

    ca_file: Path | None = Field(default=None, description="PEM file with the authorities that sign server certificates.")
    cert_file: Path | None = Field(default=None, description="PEM file with a client certificate; requires key_file.")
    key_file: Path | None = Field(default=None, description="PEM file with the key of the client certificate.")

    @model_validator(mode="after")
    def _certificate_has_key(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file must be given together")
        return self

    def check_files(self) -> None:
        """Check that the files exist. Raises `ConfigError`."""
        for name in ("ca_file", "cert_file", "key_file"):
            file: Path | None = getattr(self, name)
            if file is not None and not file.is_file():
                raise ConfigError(f"{name} {file} does not exist")
