"""Settings of the API of the collector."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Self

from pydantic import Field, SecretStr, model_validator

from libs.common.errors import ConfigError
from libs.common.settings.secrets import read_secret
from libs.common.settings.transport import PlaintextSettings

_LEAST: Final = 16
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_ADVICE: Final = "make one with: openssl rand -hex 32"


class CollectionApiSettings(PlaintextSettings):
    """The API of the collector. It needs a token, and TLS unless it listens on this machine only."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address on which it listens; 0.0.0.0 or :: for all.")
    port: int = Field(default=9480, ge=0, le=65535, description="Port; 0 picks a free one.")
    token: SecretStr | None = Field(default=None, description="Bearer token that clients must send; at least 16 characters.")
    token_file: Path | None = Field(default=None, description="File that holds the token.")
    cert_file: Path | None = Field(default=None, description="PEM file with the certificate of the server; requires key_file.")
    key_file: Path | None = Field(default=None, description="PEM file with its key, without a password.")

    @model_validator(mode="after")
    def _is_protected(self) -> Self:
        if self.token is None and self.token_file is None:
            raise ValueError(f"token or token_file is required, so that not everybody may send requests; {_ADVICE}")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file must be given together")
        return self

    def read_token(self) -> str:
        """Return the token.

        Raises:
            ConfigError: it cannot be read, is short, or cannot be sent.
        """
        token = read_secret("token", self.token, self.token_file) or ""
        if len(token) < _LEAST:
            raise ConfigError(f"the token has fewer than {_LEAST} characters, and could be guessed; {_ADVICE}")
        if not _TOKEN.fullmatch(token):
            raise ConfigError(f"the token has characters that cannot be sent as a bearer token; {_ADVICE}")
        return token
